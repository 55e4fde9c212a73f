//! Packet memory: huge pages, mbuf pools, bursts, and the allocator that gives packet buffers back
//! to their pool.
//!
//! ```text
//!   Mempool ──alloc──▶ Mbuf ──into_vec──▶ Vec<u8> ──from_vec──▶ Mbuf ──▶ Burst ──▶ NIC
//!      ▲                │                    │
//!      │                └─into_bytes_mut─▶ BytesMut ──▶ Bytes …
//!      └────────────── drop of the last owner, whichever type it has, on any thread ◀─┘
//! ```
//!
//! **The one ownership rule:** an mbuf outside its pool has exactly one owner, and that owner's
//! drop gives it back. The owner is an [`Mbuf`], a slot of a [`Burst`], a driver's ring, or a
//! `Vec<u8>`/`BytesMut`/`Bytes` made from the mbuf. The last kind works because [`PacketAlloc`],
//! once it is the program's global allocator, knows packet buffers by their address. Without it the
//! conversions refuse, and callers copy.
//!
//! [`machine`] tells what memory there is, [`mapped`] serves files from the page cache and survives
//! their truncation.
#![deny(unsafe_code)]

// The modules that own memory, or that hand its ownership to and from C.
#[allow(unsafe_code)]
mod alloc;
#[allow(unsafe_code)]
mod burst;
#[allow(unsafe_code)]
mod convert;
#[allow(unsafe_code)]
mod eal;
#[allow(unsafe_code)]
mod mbuf;
#[allow(unsafe_code)]
mod offload;
#[allow(unsafe_code)]
mod pool;
#[allow(unsafe_code)]
mod registry;

mod pool_plan;

pub mod machine;
#[allow(unsafe_code)]
pub mod mapped;

pub use alloc::{PacketAlloc, ThreadAllocations, is_installed, thread_allocations};
pub use burst::Burst;
pub use convert::{TX_HEADROOM, into_bytes_mut};
pub use eal::{EalUp, retire_pools};
pub use mbuf::{Mbuf, Segments};
pub use offload::{DynField, TxOffload};
pub use pool::{Mempool, PoolError};
pub use pool_plan::{ConfigError, MempoolConfig, PoolNeeds, pool_memory, pool_size};
