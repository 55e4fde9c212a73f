//! What crosses the wire, written to a file that Wireshark and tshark open: pcapng (draft-ietf-opsawg-pcapng).
//!
//! Each end is an interface of the capture, which shows what leaves it and what arrives at it, as captures at both ends of
//! a cable would: what is lost shows at its sender alone. Times are those of the wire, in nanoseconds.
//!
//! The file is written by whoever drives the model, with system calls on its lcore: that is the price of a capture, and
//! only paid with one.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of a capture. What comes later is left out, and counted.
const FILE_MAX: u64 = 4 << 30;
/// Bytes gathered before they are written.
const BUFFER: usize = 256 << 10;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
/// Tells the byte order in which the file is written.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const ETHERNET: u16 = 1;

/// Options of blocks.
const INTERFACE_NAME: u16 = 2;
const INTERFACE_TIME_RESOLUTION: u16 = 9;
const PACKET_FLAGS: u16 = 2;

/// Which way a frame passes the interface that shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Arrives = 1,
    Leaves = 2,
}

/// A capture file.
#[derive(Debug)]
pub(super) struct Capture {
    file: BufWriter<File>,
    path: PathBuf,
    /// The wall clock when the model's clock showed 0.
    start: Duration,
    written: u64,
    /// A block is put together here.
    block: Vec<u8>,
    failed: bool,
    /// Frames that were left out, by interface.
    left_out: [u64; 2],
}

impl Capture {
    /// Makes the file, with an interface for each of `ends`.
    pub(super) fn create(path: &Path, ends: [&str; 2]) -> io::Result<Self> {
        let mut capture = Self {
            file: BufWriter::with_capacity(BUFFER, File::create(path)?),
            path: path.to_owned(),
            start: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            written: 0,
            block: Vec::new(),
            failed: false,
            left_out: [0; 2],
        };
        capture.section_header()?;
        for name in ends {
            capture.interface(name)?;
        }
        // So that a path which cannot be written is an error now, not a silent one later.
        capture.file.flush()?;
        Ok(capture)
    }

    /// Adds a frame, at a time of the model's clock.
    pub(super) fn frame(&mut self, interface: u32, direction: Direction, ns: u64, frame: &[u8]) {
        if !self.failed && self.written < FILE_MAX {
            match self.enhanced_packet(interface, direction, ns, frame) {
                Ok(()) => return,
                // Once: nothing is written any more.
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "the capture ends here");
                    self.failed = true;
                }
            }
        }
        if let Some(count) = self.left_out.get_mut(interface as usize) {
            *count += 1;
        }
    }

    /// Frames that were left out at an interface: the file has reached its size, or cannot be written.
    pub(super) fn left_out(&self, interface: usize) -> u64 {
        self.left_out.get(interface).copied().unwrap_or_default()
    }

    fn section_header(&mut self) -> io::Result<()> {
        self.u32(BYTE_ORDER);
        // Version 1.0.
        self.u16(1);
        self.u16(0);
        // The section's length: not known beforehand.
        self.block.extend_from_slice(&u64::MAX.to_ne_bytes());
        self.end(SECTION_HEADER)
    }

    fn interface(&mut self, name: &str) -> io::Result<()> {
        self.u16(ETHERNET);
        self.u16(0);
        // No limit of what is captured of a frame.
        self.u32(0);
        self.option(INTERFACE_NAME, name.as_bytes());
        // Times count units of 10^-9 s.
        self.option(INTERFACE_TIME_RESOLUTION, &[9]);
        self.end_of_options();
        self.end(INTERFACE)
    }

    fn enhanced_packet(
        &mut self,
        interface: u32,
        direction: Direction,
        ns: u64,
        frame: &[u8],
    ) -> io::Result<()> {
        let time = (self.start + Duration::from_nanos(ns)).as_nanos() as u64;
        let len = frame.len() as u32;
        self.u32(interface);
        self.u32((time >> 32) as u32);
        self.u32(time as u32);
        // As captured, and as it was.
        self.u32(len);
        self.u32(len);
        self.padded(frame);
        self.option(PACKET_FLAGS, &(direction as u32).to_ne_bytes());
        self.end_of_options();
        self.end(ENHANCED_PACKET)
    }

    fn u16(&mut self, value: u16) {
        self.block.extend_from_slice(&value.to_ne_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.block.extend_from_slice(&value.to_ne_bytes());
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        self.u16(code);
        self.u16(value.len() as u16);
        self.padded(value);
    }

    fn end_of_options(&mut self) {
        self.u32(0);
    }

    /// Everything is padded to a multiple of 4 bytes.
    fn padded(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    /// Writes the block, between its type and its length and its length once more.
    fn end(&mut self, kind: u32) -> io::Result<()> {
        let len = (self.block.len() + 12) as u32;
        self.file.write_all(&kind.to_ne_bytes())?;
        self.file.write_all(&len.to_ne_bytes())?;
        self.file.write_all(&self.block)?;
        self.file.write_all(&len.to_ne_bytes())?;
        self.written += u64::from(len);
        self.block.clear();
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Err(error) = self.file.flush() {
            tracing::warn!(path = %self.path.display(), %error, "the capture lacks its end");
        }
    }
}
