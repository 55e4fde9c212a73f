//! The zero-copy bridge: mbufs that become `BytesMut` on the way up, and buffers of mbufs that are lent out to be
//! written on the way down.
//!
//! ```text
//!     mbuf: | rte_mbuf | headroom 128 | data …                           |
//! received:                           | Ethernet | IPv6 | UDP | payload  |  -> BytesMut over payload
//!     sent:              | Ethernet | IPv6 | UDP | payload               |  <- Vec lent for payload
//! ```
//!
//! Without the packet-aware allocator ([`hugepages::PacketAlloc`]) installed, both ways copy, and are counted as copies.

use std::ops::Range;

use bytes::BytesMut;
use hugepages::{Burst, Mbuf, Mempool};

use crate::counters::LaneStats;
use crate::queue::BURST;
use crate::transport::Transmit;
use crate::wire::HEADERS;

/// Where a datagram to send is written first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TxPath {
    /// Into the mbuf that the device will read.
    #[default]
    InPlace,
    /// Into a buffer that stays in the cache, and copied to the mbuf from there.
    Scratch,
}

/// Bursts between two looks at the level of the pool, at most. A look costs a miss or two of the cache, so it is not taken
/// at every burst while there is plenty.
const PRESSURE_BURSTS: usize = 32;

/// Bytes that a writer may write and take back behind the longest payload, before the buffer has to grow.
const OVERSHOOT: usize = 1024;
/// Bytes of a buffer that are asked for ahead of writing. Beyond, the hardware has seen where the stores go.
const PREFETCH_MAX: usize = 2048;

/// The way up.
#[derive(Debug)]
pub(crate) struct RxBridge {
    pool: Mempool,
    zero_copy: bool,
    copybreak: usize,
    /// Fewer free mbufs than this, and received payloads are copied so that the device does not starve.
    low_mark: usize,
    /// What all lanes that take from the pool take in a turn: between two looks they are not to get below the mark
    /// together.
    burst_of_all: usize,
    pressure: bool,
    until_look: usize,
    /// Buffers whose payload was copied or dropped; given back together.
    spent: Burst<BURST>,
}

impl RxBridge {
    pub(crate) fn new(
        pool: Mempool,
        copybreak: usize,
        low_mark: usize,
        burst_of_all: usize,
    ) -> Self {
        Self {
            pool,
            zero_copy: hugepages::is_installed(),
            copybreak,
            low_mark,
            burst_of_all: burst_of_all.max(1),
            pressure: false,
            until_look: 0,
            spent: Burst::new(),
        }
    }

    /// To be called once before the frames of a burst.
    pub(crate) fn begin(&mut self, stats: &mut LaneStats) {
        if self.until_look == 0 {
            let free = self.pool.free_in_ring() as usize;
            self.pressure = free < self.low_mark;
            let above = free.saturating_sub(self.low_mark);
            self.until_look = (above / self.burst_of_all).clamp(1, PRESSURE_BURSTS);
        }
        self.until_look -= 1;
        stats.pool_pressure += u64::from(self.pressure);
    }

    /// The bytes `payload` of the frame in `mbuf`.
    #[inline]
    pub(crate) fn lift(
        &mut self,
        mbuf: Mbuf,
        payload: Range<usize>,
        stats: &mut LaneStats,
    ) -> BytesMut {
        stats.rx_bytes += payload.len() as u64;
        let keep = self.zero_copy && !self.pressure && payload.len() >= self.copybreak;
        let mbuf = if keep {
            match hugepages::into_bytes_mut(mbuf, payload.clone()) {
                Ok(bytes) => {
                    stats.rx_zero_copy += 1;
                    return bytes;
                }
                Err(mbuf) => mbuf,
            }
        } else {
            mbuf
        };
        stats.rx_copied += 1;
        let bytes = mbuf.copy_range(payload).unwrap_or_default();
        self.discard(mbuf);
        bytes
    }

    /// The frame in a chain of mbufs, copied into one piece. `None` when it is longer than `len_max`, or than its mbufs.
    pub(crate) fn linearise(&mut self, mbuf: Mbuf, len_max: usize) -> Option<BytesMut> {
        let len = mbuf.packet_len();
        let frame = (len <= len_max).then(|| mbuf.copy_range(0..len)).flatten();
        self.discard(mbuf);
        frame
    }

    /// Gives `mbuf` back with the others of its burst.
    #[inline]
    pub(crate) fn discard(&mut self, mbuf: Mbuf) {
        if let Err(mbuf) = self.spent.push(mbuf) {
            self.spent.clear();
            drop(mbuf);
        }
    }

    /// To be called once after the frames of a burst.
    pub(crate) fn end(&mut self) {
        self.spent.clear();
    }
}

/// The way down.
#[derive(Debug)]
pub(crate) struct TxBridge {
    pool: Mempool,
    in_place: bool,
    /// Empty mbufs, taken from the pool in bulk.
    blanks: Burst<BURST>,
    /// One that was not used, still in the cache: it goes first.
    spare: Option<Mbuf>,
    /// The buffer of [`TxPath::Scratch`]; its capacity never changes.
    scratch: Vec<u8>,
    payload_max: usize,
    segments_max: usize,
}

/// What became of a buffer that was lent.
pub(crate) enum Written {
    /// Nothing to send.
    Nothing,
    /// The mbuf's data is the payload, with room for headers in front. It may be several datagrams.
    Datagram {
        /// The mbuf.
        mbuf: Mbuf,
        /// What the writer said.
        transmit: Transmit,
        /// Whether it was written there, or copied to there.
        in_place: bool,
    },
    /// The writer needed more room than was lent, gave another buffer back, or wrote something else than it says; the
    /// datagram is lost.
    Refused,
}

impl TxBridge {
    /// For datagrams of up to `payload_max` bytes, `segments_max` of them in one mbuf.
    pub(crate) fn new(
        pool: Mempool,
        path: TxPath,
        payload_max: usize,
        segments_max: usize,
        burst: usize,
    ) -> Self {
        Self {
            pool,
            in_place: path == TxPath::InPlace && hugepages::is_installed(),
            blanks: Burst::with_limit(burst),
            spare: None,
            scratch: Vec::with_capacity(payload_max * segments_max + OVERSHOOT),
            payload_max,
            segments_max,
        }
    }

    /// An empty mbuf, or `None` when the pool has none.
    #[inline]
    pub(crate) fn blank(&mut self) -> Option<Mbuf> {
        if let Some(mbuf) = self.spare.take() {
            return Some(mbuf);
        }
        if self.blanks.is_empty() {
            self.blanks.alloc(self.pool, self.blanks.limit());
        }
        self.blanks.pop()
    }

    /// Takes back a mbuf that was not used.
    #[inline]
    pub(crate) fn put_back(&mut self, mut mbuf: Mbuf) {
        mbuf.clear();
        // Were there another, it would go back to the pool.
        self.spare = Some(mbuf);
    }

    /// Lends a buffer to `write` and sees to it that what was written lies in `mbuf`.
    #[inline]
    pub(crate) fn write(
        &mut self,
        mbuf: Mbuf,
        write: impl FnOnce(&mut Vec<u8>) -> Option<Transmit>,
    ) -> Written {
        if !self.in_place {
            mbuf.prefetch_tail(self.payload_max.min(PREFETCH_MAX));
            return self.write_scratch(mbuf, write);
        }
        if let Some(next) = self.blanks.as_slice().first() {
            next.prefetch_tail(self.payload_max.min(PREFETCH_MAX));
        }
        let mut buf = match mbuf.into_vec() {
            Ok(buf) => buf,
            Err(mbuf) => return self.write_scratch(mbuf, write),
        };
        let lent = buf.as_ptr();
        let transmit = write(&mut buf);
        // A buffer that grew is no mbuf any more: its content moved to the heap, and the mbuf went back to its pool. One
        // that was replaced may be an mbuf of any pool, which is not to be sent from here.
        let mbuf = match buf.as_ptr() == lent {
            true => Mbuf::from_vec(buf).ok(),
            false => None,
        };
        match (transmit, mbuf) {
            (None, mbuf) => {
                if let Some(mbuf) = mbuf {
                    self.put_back(mbuf);
                }
                Written::Nothing
            }
            (Some(transmit), Some(mbuf)) => match self.checked(transmit, mbuf.len()) {
                Some(transmit) => Written::Datagram {
                    mbuf,
                    transmit,
                    in_place: true,
                },
                None => Written::Refused,
            },
            (Some(_), None) => Written::Refused,
        }
    }

    fn write_scratch(
        &mut self,
        mut mbuf: Mbuf,
        write: impl FnOnce(&mut Vec<u8>) -> Option<Transmit>,
    ) -> Written {
        self.scratch.clear();
        let Some(transmit) = write(&mut self.scratch) else {
            self.put_back(mbuf);
            return Written::Nothing;
        };
        let transmit = self.checked(transmit, self.scratch.len());
        let placed = transmit.and_then(|transmit| Some((transmit, mbuf.append(transmit.size)?)));
        let Some((transmit, place)) = placed else {
            let room = self.payload_max * self.segments_max + OVERSHOOT;
            self.scratch = Vec::with_capacity(room);
            self.put_back(mbuf);
            return Written::Refused;
        };
        place.copy_from_slice(&self.scratch);
        Written::Datagram {
            mbuf,
            transmit,
            in_place: false,
        }
    }

    /// What the writer says, if the `written` bytes are that, and no more than it was allowed. It has a segment size from
    /// here on only if there are several datagrams: a device may make anything of segments of no size, or of one.
    #[inline]
    fn checked(&self, mut transmit: Transmit, written: usize) -> Option<Transmit> {
        if transmit.segment_size == Some(0) {
            return None;
        }
        let datagrams = transmit.datagrams();
        if datagrams <= 1 {
            transmit.segment_size = None;
        }
        let sound = written == transmit.size
            && datagrams <= self.segments_max
            && transmit.datagram_size() <= self.payload_max;
        sound.then_some(transmit)
    }
}

/// Makes room for headers in front of the data of `mbuf`; returns it, and the payload behind it.
#[inline]
pub(crate) fn prepend_headers(mbuf: &mut Mbuf) -> Option<(&mut [u8; HEADERS], &[u8])> {
    mbuf.prepend(HEADERS)?;
    let (headers, payload) = mbuf.data_mut().split_first_chunk_mut::<HEADERS>()?;
    Some((headers, payload))
}
