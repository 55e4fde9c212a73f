//! The files of a folder, and nothing outside of it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use http::StatusCode;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Result;

/// Bytes read at a time.
const PIECE: u64 = 256 * 1024;

/// The folder.
pub struct Root(OwnedFd);

impl Root {
    pub fn open(folder: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(folder, flags, Mode::empty())
            .map_err(|error| format!("cannot open the folder {}: {error}", folder.display()))?;
        // Better known now than at every request.
        rustix::fs::openat2(&root, ".", flags, Mode::empty(), confined()).map_err(|error| {
            format!(
                "cannot confine requests to {}: openat2(2): {error} (Linux before 5.6, or a sandbox that forbids it)",
                folder.display()
            )
        })?;
        Ok(Self(root))
    }

    /// The file that a path of a URL names. The kernel refuses what leads out of the folder, by `..`
    /// or by a symbolic link (openat2(2), RESOLVE_BENEATH).
    pub fn file(&self, path: &str) -> Result<File, StatusCode> {
        let decoded = decode(path.trim_start_matches('/')).ok_or(StatusCode::BAD_REQUEST)?;
        // A FIFO is not waited for.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::openat2(&self.0, decoded, flags, Mode::empty(), confined());
        let file = std::fs::File::from(file.map_err(|error| match error {
            // NXIO: a socket, or a device without a driver.
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::NXIO => {
                StatusCode::NOT_FOUND
            }
            Errno::XDEV | Errno::ACCESS | Errno::PERM | Errno::LOOP => StatusCode::FORBIDDEN,
            // AGAIN: something was renamed during the walk, so it is not known whether `..` led out.
            Errno::AGAIN | Errno::MFILE | Errno::NFILE => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        })?);
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => Ok(File {
                length: metadata.len(),
                file,
                media_type: media_type(path),
            }),
            _ => Err(StatusCode::NOT_FOUND),
        }
    }
}

/// No way out of the folder, and none through /proc.
fn confined() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS
}

/// An open file, as long as it was when it was opened.
pub struct File {
    file: std::fs::File,
    length: u64,
    media_type: &'static str,
}

impl File {
    /// By its name.
    pub fn media_type(&self) -> &'static str {
        self.media_type
    }

    /// In bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The bytes from `offset` on, up to [`PIECE`] of them; none at the end.
    pub fn piece(&self, offset: u64) -> io::Result<Bytes> {
        let mut bytes = vec![0; PIECE.min(self.length - offset) as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

/// Undoes percent-encoding (RFC 3986 §2.1); `None` if it is none, or hides a NUL.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            byte => byte,
        });
    }
    (!decoded.contains(&0)).then_some(decoded)
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "txt" | "md" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "mp4" => "video/mp4",
        _ => "application/octet-stream",
    }
}
