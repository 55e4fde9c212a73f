//! What the system tests share: the engine process, network namespaces, certificates, content
//! with a known hash, and the laboratory that puts them together.

mod aioquic;
mod browser;
mod content;
mod engine;
mod lab;
mod namespace;
mod pki;
mod turn;

pub use aioquic::Aioquic;
pub use browser::{Browser, Page, Visit};
pub use content::{Digest, Hasher, blocks, write_file};
pub use engine::{Engine, Outcome, example};
pub use lab::{ENGINE_ADDRESS, KERNEL_ADDRESS, SERVER_PORT, TapLab};
pub use namespace::Namespace;
pub use pki::{Identity, Pki};
pub use turn::{Need, Turn, promtool};
