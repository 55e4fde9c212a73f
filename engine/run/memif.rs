//! Socket files of `net_memif` servers. The driver removes its file when it is closed; after a process that was killed
//! the file stays, and the next server would find its address in use.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;
use tracing::info;

use super::vdevs;

/// A socket that another process serves.
#[derive(Debug, Error)]
#[error("{vdev}: another process serves {}: stop it, or choose another socket=", socket.display())]
pub struct MemifError {
    /// The `--vdev` argument.
    pub vdev: String,
    /// The socket it asks for.
    pub socket: PathBuf,
}

/// Removes socket files that nobody serves any more; refuses those that are served.
pub(super) fn check(eal_arguments: &[String]) -> Result<(), MemifError> {
    for vdev in vdevs::of("net_memif", eal_arguments) {
        let is = |key, value| vdevs::parameter(vdev, key) == Some(value);
        // Abstract sockets, the driver's default, have no file.
        if !is("role", "server") || !is("socket-abstract", "no") {
            continue;
        }
        let Some(socket) = vdevs::parameter(vdev, "socket").map(Path::new) else {
            continue;
        };
        // The driver's sockets are sequenced packets: a stream cannot connect, and the error tells whether somebody
        // listens without troubling them.
        match UnixStream::connect(socket).map_err(|error| Errno::from_io_error(&error)) {
            Err(Some(Errno::PROTOTYPE)) => {
                return Err(MemifError {
                    vdev: vdev.to_owned(),
                    socket: socket.to_owned(),
                });
            }
            Err(Some(Errno::CONNREFUSED)) => match std::fs::remove_file(socket) {
                Ok(()) => info!(socket = %socket.display(), "removed the socket of a dead server"),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // The driver fails on it next, with its own message.
                Err(error) => info!(socket = %socket.display(), %error, "cannot remove a socket"),
            },
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};

    use super::*;

    fn arguments(socket: &Path) -> [String; 1] {
        [format!(
            "--vdev=net_memif0,role=server,socket={},socket-abstract=no",
            socket.display()
        )]
    }

    #[test]
    fn a_dead_socket_is_removed_and_a_live_one_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("memif.sock");
        check(&arguments(&path)).expect("no file, nothing to do");

        drop(UnixListener::bind(&path).expect("bound"));
        assert!(path.exists(), "what a killed process leaves");
        check(&arguments(&path)).expect("dead");
        assert!(!path.exists());

        // As the driver does.
        let live = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("a socket");
        let address = SocketAddrUnix::new(&path).expect("a short path");
        bind(&live, &address).expect("bound");
        listen(&live, 1).expect("listening");
        let error = check(&arguments(&path)).unwrap_err();
        assert_eq!(error.socket, path);
        assert!(path.exists());
    }
}
