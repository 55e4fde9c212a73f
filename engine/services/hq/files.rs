//! Files of a directory, as bodies of responses.
//!
//! A file is opened with `openat2(2)` relative to the directory: the kernel refuses any path that leaves it, by
//! symbolic links too, at every step of its walk, so there is no moment between a check and its use. Symbolic links
//! inside the directory are followed if they are relative.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hugepages::mapped::MappedFile;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use thiserror::Error;

use crate::services::pattern::PIECE;

/// Files from this size on are mapped, in bytes: below, setting a mapping up costs more than copying.
pub const MAPPED_MIN: u64 = 64 * 1024;

/// A file, or the directory of them, that cannot be served.
#[derive(Debug, Error)]
pub enum FileError {
    /// The directory cannot be opened.
    #[error("cannot open the directory {path} to serve files from: {source}")]
    Root {
        /// As configured.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The kernel lacks what keeps requests inside of the directory.
    #[error(
        "cannot confine requests to {path}: openat2(2) is missing (Linux before 5.6, or a sandbox that forbids it)"
    )]
    NoConfinement {
        /// As configured.
        path: PathBuf,
    },
    /// There is no such file.
    #[error("no file {path}")]
    Missing {
        /// Relative to the root.
        path: PathBuf,
    },
    /// There is something, but not a regular file that we may read and that lies inside of the directory.
    #[error(
        "{path} is not served: it is no regular file, not readable, or leads out of the directory"
    )]
    NotServed {
        /// Relative to the root.
        path: PathBuf,
    },
    /// The file is there and cannot be opened or read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Relative to the root.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file became shorter after it was opened.
    #[error("the file became shorter while it was sent")]
    Truncated,
}

/// A directory whose files are served.
#[derive(Debug)]
pub(crate) struct Root {
    directory: OwnedFd,
}

impl Root {
    /// Opens a directory.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| FileError::Root {
                path: path.to_owned(),
                source: error.into(),
            })?;
        rustix::fs::openat2(&directory, ".", flags, Mode::empty(), confined()).map_err(|_| {
            FileError::NoConfinement {
                path: path.to_owned(),
            }
        })?;
        Ok(Self { directory })
    }

    /// Opens a file of the directory. `path` is relative ([`relative_path`](super::request::relative_path)).
    pub(crate) fn body(&self, path: &Path) -> Result<Body, FileError> {
        let read = |source| FileError::Read {
            path: path.to_owned(),
            source,
        };
        let file = self.file(path)?;
        let metadata = file.metadata().map_err(read)?;
        if !metadata.is_file() {
            return Err(FileError::NotServed {
                path: path.to_owned(),
            });
        }
        let length = metadata.len();
        if length < MAPPED_MIN {
            let body =
                read_exact(&file, 0, length as usize).map_err(|source| match source.kind() {
                    io::ErrorKind::UnexpectedEof => FileError::Truncated,
                    _ => read(source),
                })?;
            return Ok(Body::Memory(body));
        }
        // Too many mappings, or a file system that has none.
        Ok(match MappedFile::from_file(&file) {
            Ok(mapping) if mapping.len() == length => Body::Mapped { mapping, file },
            Ok(_) => return Err(FileError::Truncated),
            Err(_) => Body::Read { file, length },
        })
    }

    fn file(&self, path: &Path) -> Result<File, FileError> {
        // NONBLOCK: opening a FIFO must not wait for its other end. Has no effect on regular files.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), confined());
        opened.map(File::from).map_err(|error| {
            let path = path.to_owned();
            match error {
                Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => FileError::Missing { path },
                // XDEV: leads out. LOOP: links in a circle. NXIO: a socket, a device without a driver.
                Errno::XDEV | Errno::LOOP | Errno::ACCESS | Errno::PERM | Errno::NXIO => {
                    FileError::NotServed { path }
                }
                other => FileError::Read {
                    path,
                    source: other.into(),
                },
            }
        })
    }
}

/// No way out of the directory, and none through /proc.
fn confined() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS
}

/// The body of a response.
#[derive(Debug)]
pub(crate) enum Body {
    /// A small file, read.
    Memory(Bytes),
    /// A large file, mapped.
    Mapped {
        /// The mapping, as long as the file was when it was opened.
        mapping: MappedFile,
        /// To ask for its length again.
        file: File,
    },
    /// A large file that could not be mapped.
    Read {
        /// Read from piece by piece.
        file: File,
        /// Length in bytes when it was opened.
        length: u64,
    },
}

impl Body {
    /// The next bytes to send when `taken` have been: at most 256 KiB, none at the end.
    ///
    /// At the end of a mapped file its length is looked at again: a file that was cut inside of its last page reads as
    /// zeros there, without a fault. One that is cut after that, while its last bytes wait to be sent, is not noticed.
    pub(crate) fn piece(&self, taken: u64) -> Result<Bytes, FileError> {
        match self {
            Self::Memory(bytes) => Ok(match taken {
                0 => bytes.clone(),
                _ => Bytes::new(),
            }),
            Self::Mapped { mapping, file } => {
                let end = taken.saturating_add(PIECE as u64).min(mapping.len());
                if mapping.is_poisoned() {
                    return Err(FileError::Truncated);
                }
                if taken >= end {
                    return match file.metadata() {
                        Ok(metadata) if metadata.len() < mapping.len() => Err(FileError::Truncated),
                        _ => Ok(Bytes::new()),
                    };
                }
                mapping.bytes(taken..end).ok_or(FileError::Truncated)
            }
            Self::Read { file, length } => {
                let size = length.saturating_sub(taken).min(PIECE as u64) as usize;
                read_exact(file, taken, size).map_err(|_| FileError::Truncated)
            }
        }
    }

    /// True if the bytes handed out are the file's own pages.
    pub(crate) fn is_mapped(&self) -> bool {
        matches!(self, Self::Mapped { .. })
    }

    /// True if a page was missing when it was touched: what was sent since is not the file.
    pub(crate) fn is_poisoned(&self) -> bool {
        match self {
            Self::Mapped { mapping, .. } => mapping.is_poisoned(),
            Self::Memory(_) | Self::Read { .. } => false,
        }
    }
}

fn read_exact(file: &File, offset: u64, size: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; size];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(Bytes::from(buffer))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn served(root: &Root, path: &str) -> Result<Vec<u8>, FileError> {
        let body = root.body(Path::new(path))?;
        let mut all = Vec::new();
        loop {
            let piece = body.piece(all.len() as u64)?;
            if piece.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&piece);
        }
    }

    #[test]
    fn files_of_every_kind_of_body_arrive_whole() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        let sizes = [0, 1, MAPPED_MIN - 1, MAPPED_MIN, PIECE as u64 * 2 + 77];
        for size in sizes {
            let content: Vec<u8> = (0..size).map(|n| (n % 253) as u8).collect();
            fs::write(directory.path().join("file"), &content).unwrap();
            assert!(served(&root, "file").unwrap() == content, "{size} bytes");
            let body = root.body(Path::new("file")).unwrap();
            assert_eq!(body.is_mapped(), size >= MAPPED_MIN, "{size} bytes");
            let read = Body::Read {
                file: File::open(directory.path().join("file")).unwrap(),
                length: size,
            };
            let first = read.piece(0).unwrap();
            assert!(content.starts_with(&first) && first.len() == content.len().min(PIECE));
        }
    }

    #[test]
    fn mapped_pieces_are_the_mapping_itself() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), vec![7; 3 * PIECE]).unwrap();
        let root = Root::open(directory.path()).unwrap();
        let body = root.body(Path::new("file")).unwrap();
        let (first, second) = (body.piece(0).unwrap(), body.piece(PIECE as u64).unwrap());
        assert_eq!(first.as_ptr().wrapping_add(PIECE), second.as_ptr());
    }

    #[test]
    fn files_beyond_four_gibibytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let far = (1 << 32) + 5;
        let file = File::create(&path).unwrap(); // Sparse: it takes a page.
        file.set_len(far + 3).unwrap();
        file.write_all_at(b"end", far).unwrap();
        let root = Root::open(directory.path()).unwrap();
        let read = Body::Read {
            file: File::open(&path).unwrap(),
            length: far + 3,
        };
        for body in [root.body(Path::new("file")).unwrap(), read] {
            assert_eq!(body.piece(far).unwrap(), &b"end"[..]);
            assert_eq!(body.piece((1 << 32) - 1).unwrap(), &b"\0\0\0\0\0\0end"[..]);
            assert_eq!(body.piece(1 << 32).unwrap().len(), 8);
            assert!(body.piece(far + 3).unwrap().is_empty());
            assert_eq!(body.piece(1).unwrap().len(), PIECE);
        }
    }

    #[test]
    fn nothing_outside_of_the_directory_is_served() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("www");
        fs::create_dir_all(inner.join("sub")).unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        fs::write(inner.join("file"), "file").unwrap();
        symlink("../../secret", inner.join("sub/up")).unwrap();
        symlink(outer.path().join("secret"), inner.join("absolute")).unwrap();
        symlink("..", inner.join("parent")).unwrap();
        symlink("../file", inner.join("sub/inside")).unwrap();
        symlink("circle", inner.join("circle")).unwrap();
        let root = Root::open(&inner).unwrap();

        for path in [
            "sub/up",
            "absolute",
            "parent/secret",
            "circle",
            "sub",
            "../secret",
        ] {
            let refused = served(&root, path);
            assert!(
                matches!(refused, Err(FileError::NotServed { .. })),
                "{path}: {refused:?}"
            );
        }
        let missing = served(&root, "nothing");
        assert!(
            matches!(missing, Err(FileError::Missing { .. })),
            "{missing:?}"
        );
        assert_eq!(served(&root, "sub/inside").unwrap(), b"file");
        assert_eq!(served(&root, "file").unwrap(), b"file");
    }

    #[test]
    fn a_fifo_neither_blocks_nor_is_served() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        let root = Root::open(directory.path()).unwrap();
        assert!(matches!(
            served(&root, "fifo"),
            Err(FileError::NotServed { .. })
        ));
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = Root::open(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }

    #[test]
    fn a_shortened_file_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, vec![1; PIECE + 100]).unwrap();
        let root = Root::open(directory.path()).unwrap();
        let mapped = root.body(Path::new("file")).unwrap();
        let read = Body::Read {
            file: File::open(&path).unwrap(),
            length: PIECE as u64 + 100,
        };
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(PIECE as u64 + 50)
            .unwrap();
        assert!(
            mapped.piece(PIECE as u64 + 100).is_err(),
            "cut inside of the last page"
        );
        assert!(read.piece(PIECE as u64).is_err());
    }
}
