//! What the system tests share: the engine process, network namespaces, certificates, content
//! with a known hash, and the laboratory that puts them together.

mod aioquic;
mod content;
mod engine;
mod lab;
mod namespace;
mod pki;
mod turn;

pub use aioquic::Aioquic;
pub use content::{Digest, Hasher, blocks, write_file};
pub use engine::{Engine, Outcome};
pub use lab::{ENGINE_ADDRESS, SERVER_PORT, TapLab};
pub use namespace::Namespace;
pub use pki::{Identity, Pki};
pub use turn::{Need, Turn, promtool};
