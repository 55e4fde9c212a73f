//! The engine inside another program.
//!
//! [`Engine::builder`] says which ports there are and what runs on their shards; [`start`](Builder::start) starts EAL, the
//! lcores and a control thread, and from then on a [`Handle`] works from any thread. DPDK allows one EAL in a process,
//! for the time of the process: so there can be one engine, and once it has stopped no other.
//!
//! What runs on the shards themselves, run to completion, are [`Application`]s: services by [`Builder::serve`], clients by
//! [`Builder::drive`].

mod builder;
mod source;

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use thiserror::Error;

pub use self::builder::{Builder, ShardInfo};
#[cfg(doc)]
use crate::app::Application;
use crate::config::ConfigError;
use crate::handle::{Courier, Handle};
use crate::report::Report;
pub use crate::run::RunError;

/// A running engine.
///
/// Dropped, it is [shut down](Self::shutdown).
pub struct Engine {
    handle: Handle,
    courier: Option<Courier>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Report, RunError>>>,
    zero_copy: bool,
}

/// Why an engine could not be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Devices, memory, certificates, lcores.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A service or a client names a port that is not in the configuration.
    #[error("there is no port `{port}`; the configuration has {known}")]
    UnknownPort {
        /// What was named.
        port: String,
        /// Those there are.
        known: String,
    },
    /// A service speaks other than one protocol.
    #[error(
        "the service on UDP port {0} needs exactly one protocol (ALPN); give each its own UDP port"
    )]
    Protocols(u16),
    /// A service's UDP port is 0, or taken: by another service of the port, or by a listener of the configuration.
    #[error(
        "UDP port {udp_port} of the port `{port}` cannot be served: {reason}; give the service another"
    )]
    UdpPort {
        /// The port.
        port: String,
        /// The UDP port.
        udp_port: u16,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The process may run on no CPU, or the system gives no threads.
    #[error("the system gave no {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// The reason.
        source: std::io::Error,
    },
    /// The engine's thread ended before it was ready.
    #[error("the engine ended before it was ready")]
    Ended,
}

impl Engine {
    /// Begins to describe an engine.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The way to the engine for the rest of the program. Clones of it are cheap.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What brings the shards' events to handles, once, if the program does that itself
    /// ([`Builder::courier_in_program`]). Until it is polled, handles hear nothing.
    pub fn take_courier(&mut self) -> Option<Courier> {
        self.courier.take()
    }

    /// Whether datagrams are received and sent without copying: the program has [`hugepages::PacketAlloc`] as its global
    /// allocator. Without, everything works, and is copied once in each direction; the report counts both.
    pub fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// True once the engine has ended: by itself, or because it broke off. [`shutdown`](Self::shutdown) says why.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Drains the engine and waits for its end: connections without a stream in use are closed at once, others when
    /// their streams are done, all of them after `run.drain_timeout`. Then says what it did.
    ///
    /// A [`Handle`] fails with `EngineStopped` from then on; connections keep the reason that they ended with, which the
    /// drain has given most of them. Bytes that were received and are still held stay valid.
    ///
    /// # Errors
    /// The run broke off.
    pub fn shutdown(mut self) -> Result<Report, RunError> {
        self.stop.store(true, Ordering::Release);
        self.join()
    }

    /// Waits until the engine ends by itself, as the `run` section of the configuration says, without asking for it.
    ///
    /// # Errors
    /// The run broke off.
    pub fn wait(mut self) -> Result<Report, RunError> {
        self.join()
    }

    fn join(&mut self) -> Result<Report, RunError> {
        let thread = self.thread.take().expect("joined once, by what takes self");
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop.store(true, Ordering::Release);
            // Not joined as in `shutdown`: to panic here could end the process.
            match self.thread.take().map(JoinHandle::join) {
                Some(Ok(Err(error))) => tracing::warn!("the engine broke off: {error}"),
                Some(Err(_)) => tracing::error!("the engine's thread panicked"),
                Some(Ok(Ok(_))) | None => {}
            }
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("handle", &self.handle)
            .field("has_ended", &self.has_ended())
            .finish_non_exhaustive()
    }
}
