//! DPDK's telemetry socket, from the asking side.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};
use serde_json::Value;
use thiserror::Error;

/// DPDK's longest answer (`MAX_OUTPUT_LEN`), bytes.
const ANSWER_MAX: usize = 16 * 1024;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// What every telemetry socket of this version is called; those of further processes with the same prefix have a colon
/// and a number behind.
const SOCKET: &str = "dpdk_telemetry.v2";
/// What an engine answers and other DPDK programs do not.
const ENGINE: &str = "/stoq/shards";

/// Why there is nothing to show.
#[derive(Debug, Error)]
pub enum TopError {
    /// No socket, or none of an engine.
    #[error(
        "no engine to be seen in {folder}: none runs, or it runs as another user, or its EAL was started with \
         --no-telemetry"
    )]
    None {
        /// Where sockets were looked for.
        folder: PathBuf,
    },
    /// Several engines.
    #[error("several engines run; choose one by --file-prefix: {}", prefixes.join(", "))]
    Several {
        /// Their prefixes.
        prefixes: Vec<String>,
    },
    /// The folder of the prefix has no socket.
    #[error(
        "no engine runs with the file prefix `{prefix}`: there is no telemetry socket in {folder} (EAL's option \
         --file-prefix names it; with --no-telemetry there is none)"
    )]
    Prefix {
        /// As given.
        prefix: String,
        /// Where its socket would be.
        folder: PathBuf,
    },
    /// The process is no engine.
    #[error("the DPDK process at {socket} is no engine: it does not know {ENGINE}")]
    Stranger {
        /// Its socket.
        socket: PathBuf,
    },
    /// The socket cannot be used.
    #[error("{socket}: {source}{hint}")]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
        /// What may help.
        hint: &'static str,
    },
    /// An answer is not what it should be.
    #[error("the answer to {command} cannot be read: {source}; is the engine of another version?")]
    Answer {
        /// The question.
        command: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The other end is gone.
    #[error("the engine has ended")]
    Ended,
}

/// A connection to an engine.
#[derive(Debug)]
pub(super) struct Client {
    socket: OwnedFd,
    path: PathBuf,
    prefix: String,
    pid: u64,
}

impl Client {
    /// Connects to the engine with the file prefix, or to the only one that runs.
    pub(super) fn attach(prefix: Option<&str>) -> Result<Self, TopError> {
        Self::attach_in(&runtime_folder(), prefix)
    }

    fn attach_in(folder: &Path, prefix: Option<&str>) -> Result<Self, TopError> {
        if let Some(prefix) = prefix {
            return Self::with_prefix(folder, prefix);
        }
        let mut engines = Vec::new();
        let mut refused = None;
        for prefix in names(folder) {
            match Self::with_prefix(folder, &prefix) {
                Ok(client) => engines.push(client),
                // Not ours to look at: worth telling if nothing else is found.
                Err(error @ TopError::Socket { .. }) => refused = Some(error),
                Err(_) => {}
            }
        }
        match (engines.pop(), engines.is_empty(), refused) {
            (Some(engine), true, _) => Ok(engine),
            (Some(engine), false, _) => Err(TopError::Several {
                prefixes: engines
                    .into_iter()
                    .chain([engine])
                    .map(|client| client.prefix)
                    .collect(),
            }),
            (None, _, Some(error)) => Err(error),
            (None, _, None) => Err(TopError::None {
                folder: folder.to_owned(),
            }),
        }
    }

    /// Connects to the first engine with the prefix: in memory-only mode several processes may share one.
    fn with_prefix(folder: &Path, prefix: &str) -> Result<Self, TopError> {
        let own = folder.join(prefix);
        let mut failure = None;
        for name in names(&own) {
            if name != SOCKET && !name.starts_with(&format!("{SOCKET}:")) {
                continue;
            }
            match Self::open(own.join(name), prefix) {
                Ok(Some(client)) => return Ok(client),
                Ok(None) => {} // What a process that is gone left behind.
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| TopError::Prefix {
            prefix: prefix.to_owned(),
            folder: own,
        }))
    }

    /// Connects to a socket, if anybody listens there.
    fn open(path: PathBuf, prefix: &str) -> Result<Option<Self>, TopError> {
        let failed = |error: Errno| match error {
            Errno::ACCESS | Errno::PERM => failed(&path, error, "; ask as the engine's user"),
            _ => failed(&path, error, ""),
        };
        let kind = SocketType::SEQPACKET;
        let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
        let socket = socket.map_err(failed)?;
        let address = SocketAddrUnix::new(&path).map_err(failed)?;
        match connect(&socket, &address) {
            Err(Errno::CONNREFUSED | Errno::NOENT) => return Ok(None),
            connected => connected.map_err(failed)?,
        }
        for direction in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&socket, direction, Some(PATIENCE)).map_err(failed)?;
        }
        let mut client = Self {
            socket,
            path,
            prefix: prefix.to_owned(),
            pid: 0,
        };
        // It introduces itself.
        let hello = client.receive("the connection")?;
        client.pid = hello["pid"].as_u64().unwrap_or(0);
        if client.ask(ENGINE)?.is_array() {
            Ok(Some(client))
        } else {
            Err(TopError::Stranger {
                socket: client.path,
            })
        }
    }

    /// Process ID of the engine.
    pub(super) fn pid(&self) -> u64 {
        self.pid
    }

    /// Its file prefix.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Asks a command, `/path` or `/path,parameter`, and waits for the answer.
    pub(super) fn ask(&self, command: &str) -> Result<Value, TopError> {
        match send(&self.socket, command.as_bytes(), SendFlags::NOSIGNAL) {
            Ok(_) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(TopError::Ended),
            Err(error) => return Err(failed(&self.path, error, "")),
        }
        let path = command.split(',').next().unwrap_or(command);
        let mut answer = self.receive(command)?;
        Ok(answer[path].take())
    }

    fn receive(&self, command: &str) -> Result<Value, TopError> {
        let mut buffer = vec![0; ANSWER_MAX];
        let received = match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => return Err(TopError::Ended),
            Ok((received, _)) => received,
            Err(Errno::AGAIN) => {
                return Err(failed(
                    &self.path,
                    Errno::TIMEDOUT,
                    "; is the engine stopped?",
                ));
            }
            Err(error) => return Err(failed(&self.path, error, "")),
        };
        let text = buffer.get(..received).unwrap_or_default();
        serde_json::from_slice(text).map_err(|source| TopError::Answer {
            command: command.to_owned(),
            source,
        })
    }
}

fn failed(socket: &Path, error: Errno, hint: &'static str) -> TopError {
    TopError::Socket {
        socket: socket.to_owned(),
        source: error.into(),
        hint,
    }
}

/// Where DPDK keeps the run-time files of all processes of this user (its programmer's guide, "Multi-process Support").
fn runtime_folder() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = match set("RUNTIME_DIRECTORY") {
        Some(folder) => folder.into(),
        None if rustix::process::getuid().is_root() => PathBuf::from("/var/run"),
        None => set("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from),
    };
    base.join("dpdk")
}

/// What a folder holds, in order; nothing when it is not there.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}
