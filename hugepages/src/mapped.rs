//! Files mapped into memory, as `Bytes`: sent from the page cache without copying them to the heap.
//!
//! A file that shrinks while it is mapped makes reads beyond its new end raise SIGBUS, which ends a
//! process. Here it does not: a handler puts a page of zeros where the file was, marks the mapping
//! poisoned, and adds one to [`faults`]. Who builds packets reads that counter after each: when it
//! has moved, the packet may hold zeros that were never in the file, and must not be sent.
//! [`MappedFile::is_poisoned`] then tells whose fault it was.
//!
//! ```
//! # use std::io::Write;
//! use hugepages::mapped::{MappedFile, faults};
//!
//! # let mut file = tempfile::NamedTempFile::new()?;
//! # file.write_all(b"hello world")?;
//! # let path = file.path();
//! let mapped = MappedFile::open(path)?;
//! let before = faults();
//! let bytes = mapped.bytes(0..5).expect("within the file");
//! let packet = bytes.to_vec();
//! assert!(faults() == before && !mapped.is_poisoned());
//! # assert_eq!(packet, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod sigbus;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Advice, Mmap};
use thiserror::Error;

pub use sigbus::{MAPPINGS_MAX, faults};

/// A regular file, mapped read-only as long as it was when it was opened.
///
/// Clones and the `Bytes` made from it share one mapping, which goes when the last of them does.
///
/// Someone who *writes* to the file meanwhile changes what is read, as with any page of the page
/// cache: a `Bytes` from here is to be copied onward, each byte once, and not to be trusted to stay
/// the same between two reads.
#[derive(Clone, Debug)]
pub struct MappedFile {
    bytes: Bytes,
    /// None for an empty file, which cannot be mapped and needs not be.
    mapping: Option<Arc<Mapping>>,
}

/// Why a file is not mapped.
#[derive(Debug, Error)]
pub enum MapError {
    /// The file cannot be opened.
    #[error("{path} cannot be opened: {source}")]
    Open {
        /// The file.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The operation failed on the file.
    #[error("the file cannot be mapped: {0}")]
    Map(#[from] io::Error),
    /// Folders, devices and pipes have no content to map.
    #[error("not a regular file: it cannot be mapped")]
    NotRegular,
    /// The table of live mappings is full.
    #[error(
        "{MAPPINGS_MAX} files are mapped already, the most there may be: read this one instead"
    )]
    TooMany,
}

impl MappedFile {
    /// Opens and maps a file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, MapError> {
        let path = path.as_ref();
        let open = |source| MapError::Open {
            path: path.display().to_string(),
            source,
        };
        Self::from_file(&File::open(path).map_err(open)?)
    }

    /// Maps a file that is open for reading. It may be closed afterwards.
    pub fn from_file(file: &File) -> Result<Self, MapError> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(MapError::NotRegular);
        }
        let len = usize::try_from(metadata.len()).map_err(io::Error::other)?;
        if len == 0 {
            return Ok(Self {
                bytes: Bytes::new(),
                mapping: None,
            });
        }
        let mapping = Arc::new(Mapping::new(file, len)?);
        let bytes = Bytes::from_owner(Shared(Arc::clone(&mapping)));
        Ok(Self {
            bytes,
            mapping: Some(mapping),
        })
    }

    /// Size of the file when it was mapped, bytes.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Was the file empty when it was mapped?
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// A part of the file, sharing the mapping. `None` when the range is not within
    /// [`len`](Self::len).
    ///
    /// Reading it may wait for the disk.
    pub fn bytes(&self, range: Range<u64>) -> Option<Bytes> {
        let (start, end) = (
            usize::try_from(range.start).ok()?,
            usize::try_from(range.end).ok()?,
        );
        (start <= end && end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
    }

    /// Has something been read from here that the file no longer had? Those bytes were zeros, and
    /// stay so.
    pub fn is_poisoned(&self) -> bool {
        self.mapping
            .as_ref()
            .is_some_and(|mapping| mapping.entry.is_poisoned())
    }
}

/// A mapping, and its entry in the table that the signal handler looks it up in. The entry goes
/// first when dropped.
#[derive(Debug)]
struct Mapping {
    entry: sigbus::Entry,
    memory: Mmap,
}

impl Mapping {
    fn new(file: &File, len: usize) -> Result<Self, MapError> {
        sigbus::install()?;
        // SAFETY: what a mapping must promise is that its bytes stay readable and, for a `&[u8]`,
        // unchanged. Readable: when the file shrinks, the SIGBUS handler puts memory there.
        // Unchanged: nobody can promise that of a file; what we do with these bytes is copy them
        // into packets, u8 by u8, and every value of u8 is valid, so a writer can garble what is
        // sent, and nothing else.
        let memory = unsafe { memmap2::MmapOptions::new().len(len).map(file)? };
        let entry =
            sigbus::Entry::register(memory.as_ptr().addr(), len).ok_or(MapError::TooMany)?;
        // Files are sent front to back: read ahead further, keep less behind. Only advice.
        let _ = memory.advise(Advice::Sequential);
        Ok(Self { entry, memory })
    }
}

/// What a `Bytes` owns.
struct Shared(Arc<Mapping>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.memory
    }
}
