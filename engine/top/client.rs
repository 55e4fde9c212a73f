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

#[cfg(test)]
mod tests {
    use rustix::net::{accept, bind, listen};
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    /// A telemetry socket on which one asker is answered, until it leaves.
    fn serve(folder: &Path, prefix: &str, socket: &str, answers: Value) {
        let own = folder.join(prefix);
        fs::create_dir_all(&own).unwrap();
        let listener = listening(&own.join(socket));
        std::thread::spawn(move || {
            let peer = accept(&listener).unwrap();
            let tell = |value: &Value| {
                let text = value.to_string();
                let _ = send(&peer, text.as_bytes(), SendFlags::NOSIGNAL);
            };
            tell(&json!({ "version": "DPDK", "pid": 42, "max_output_len": 16384 }));
            let mut buffer = [0; 1024];
            while let Ok((_, length @ 1..)) = recv(&peer, &mut buffer[..], RecvFlags::empty()) {
                let command = std::str::from_utf8(&buffer[..length]).unwrap();
                let path = command.split(',').next().unwrap();
                if answers[command] == "hang up" {
                    return;
                }
                tell(&json!({ path: answers[command] }));
            }
        });
    }

    fn listening(path: &Path) -> OwnedFd {
        let kind = SocketType::SEQPACKET;
        let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        listen(&socket, 1).unwrap();
        socket
    }

    fn engine() -> Value {
        json!({ "/stoq/shards": ["one"], "/stoq/shards,one": { "name": "one" } })
    }

    fn refusal(folder: &TempDir, prefix: Option<&str>) -> String {
        let error = Client::attach_in(folder.path(), prefix).unwrap_err();
        error
            .to_string()
            .replace(folder.path().to_str().unwrap(), "DIR")
    }

    #[test]
    fn the_only_engine_is_found_among_others() {
        let folder = TempDir::new().unwrap();
        serve(folder.path(), "other", SOCKET, json!({}));
        serve(folder.path(), "mine", &format!("{SOCKET}:1"), engine());
        // A process that is gone leaves its socket behind.
        drop(listening(&folder.path().join("mine").join(SOCKET)));
        fs::create_dir(folder.path().join("empty")).unwrap();
        let client = Client::attach_in(folder.path(), None).unwrap();
        assert_eq!((client.prefix(), client.pid()), ("mine", 42));
        assert_eq!(client.ask("/stoq/shards,one").unwrap()["name"], "one");
        assert_eq!(client.ask("/stoq/unknown").unwrap(), Value::Null);
    }

    #[test]
    fn several_engines_have_to_be_told_apart() {
        let folder = TempDir::new().unwrap();
        for prefix in ["a", "b", "c"] {
            serve(folder.path(), prefix, SOCKET, engine());
        }
        assert_eq!(
            refusal(&folder, None),
            "several engines run; choose one by --file-prefix: a, b, c"
        );
    }

    #[test]
    fn what_is_missing_is_told() {
        let folder = TempDir::new().unwrap();
        assert!(refusal(&folder, None).starts_with("no engine to be seen in DIR: "));
        let none = refusal(&folder, Some("x"));
        let expected =
            "no engine runs with the file prefix `x`: there is no telemetry socket in DIR/x ";
        assert!(none.starts_with(expected), "{none}");
        serve(folder.path(), "other", SOCKET, json!({}));
        assert_eq!(
            refusal(&folder, Some("other")),
            format!(
                "the DPDK process at DIR/other/{SOCKET} is no engine: it does not know /stoq/shards"
            )
        );
    }

    #[test]
    fn an_engine_that_leaves_has_ended() {
        let folder = TempDir::new().unwrap();
        let answers = json!({ "/stoq/shards": ["one"], "/stoq/pools": "hang up" });
        serve(folder.path(), "mine", SOCKET, answers);
        let client = Client::attach_in(folder.path(), Some("mine")).unwrap();
        for _ in 0..2 {
            let gone = client.ask("/stoq/pools").unwrap_err();
            assert!(matches!(gone, TopError::Ended), "{gone}");
        }
    }
}
