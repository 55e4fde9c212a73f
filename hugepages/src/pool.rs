//! Pools of mbufs.

use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use dpdk_sys::{
    MBUF_SIZE, mbuf_buf_addr, rte_malloc_get_socket_stats, rte_malloc_socket_stats, rte_mbuf,
    rte_mempool, rte_mempool_avail_count, rte_mempool_free, rte_mempool_in_use_count,
    rte_mempool_mem_iter, rte_mempool_memhdr, rte_mempool_obj_iter, rte_pktmbuf_pool_create,
    rte_socket_count, rte_socket_id_by_idx, rte_strerror, stoq_errno, stoq_pool_shared_count,
};
use thiserror::Error;

use crate::eal::EalUp;
use crate::machine::{ByteSize, Machine};
use crate::pool_plan::{ConfigError, MempoolConfig, pool_memory};
use crate::registry::{self, BUFFER_ALIGN, Chunk};

/// Pools a process may have.
const POOLS_MAX: usize = 64;

/// A pool of mbufs on one NUMA node. A handle: cheap to copy, usable on every thread.
///
/// The pool lives until the process ends, because slices of its buffers may be anywhere by then.
#[derive(Clone, Copy)]
pub struct Mempool(&'static Pool);

struct Pool {
    raw: NonNull<rte_mempool>,
    config: MempoolConfig,
}

// SAFETY: DPDK's pools are made to be used by several threads at once; the rest is immutable.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

static POOLS: Mutex<Vec<Mempool>> = Mutex::new(Vec::new());

/// EAL is going down, or has: the memory of pools may not be touched.
static RETIRED: AtomicBool = AtomicBool::new(false);

pub(crate) fn set_retired(retired: bool) {
    RETIRED.store(retired, Ordering::SeqCst);
}

impl Mempool {
    /// Makes a pool, and makes its buffers known to [`PacketAlloc`](crate::PacketAlloc).
    pub fn create(_: EalUp, config: &MempoolConfig) -> Result<Self, PoolError> {
        config.validate()?;
        if RETIRED.load(Ordering::SeqCst) {
            let name = config.name.clone();
            return Err(PoolError::Retired { name });
        }
        // Held throughout: pools are made one at a time, at start-up.
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        if pools.len() >= POOLS_MAX {
            return Err(PoolError::TooManyPools {
                name: config.name.clone(),
            });
        }
        let raw = create_raw(config)?;
        if let Err(error) = check_layout(raw, config).and_then(|()| register(raw, config)) {
            // SAFETY: the pool was just made and none of its mbufs is out.
            unsafe { rte_mempool_free(raw.as_ptr()) };
            return Err(error);
        }
        let pool = Self(Box::leak(Box::new(Pool {
            raw,
            config: config.clone(),
        })));
        pools.push(pool);
        Ok(pool)
    }

    /// The name it was made with.
    pub fn name(self) -> &'static str {
        &self.0.config.name
    }

    /// Mbufs in all.
    pub fn capacity(self) -> u32 {
        self.0.config.mbufs
    }

    /// Room in each mbuf, headroom included, bytes.
    pub fn data_room(self) -> u16 {
        self.0.config.data_room
    }

    /// Mbufs that are in the pool, those in lcores' caches included. Adds up over all lcores: for
    /// the control plane.
    pub fn available(self) -> u32 {
        self.ask(rte_mempool_avail_count)
    }

    /// Mbufs that are out: in rings, in bursts, held by applications. Adds up over all lcores: for
    /// the control plane.
    pub fn in_use(self) -> u32 {
        self.ask(rte_mempool_in_use_count)
    }

    /// Mbufs that any lcore could take now: those in the shared ring, not those in other lcores'
    /// caches. Cheap enough to ask once a burst.
    #[inline]
    pub fn free_in_ring(self) -> u32 {
        // SAFETY: the pool lives.
        self.live()
            .map_or(0, |raw| unsafe { stoq_pool_shared_count(raw) })
    }

    /// What `count` says of the pool; 0 when it is retired.
    fn ask(self, count: unsafe extern "C" fn(*const rte_mempool) -> u32) -> u32 {
        // Pools retire under this lock, so the pool lives while another thread's question is answered.
        let _pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the pool lives, and both functions only read it.
        self.live().map_or(0, |raw| unsafe { count(raw) })
    }

    /// The pool itself, unless it is [retired](crate::retire_pools).
    #[inline]
    pub(crate) fn live(self) -> Option<*mut rte_mempool> {
        (!RETIRED.load(Ordering::Relaxed)).then_some(self.as_ptr())
    }

    /// The pool itself, for DPDK calls.
    #[inline]
    pub fn as_ptr(self) -> *mut rte_mempool {
        self.0.raw.as_ptr()
    }
}

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mempool").field(&self.0.config).finish()
    }
}

/// Why there is no pool.
#[derive(Debug, Error)]
pub enum PoolError {
    /// EAL is going down.
    #[error("mempool {name}: EAL was cleaned up; pools are made before")]
    Retired {
        /// The pool's name.
        name: String,
    },
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The process has all the pools it may have.
    #[error(
        "mempool {name}: there are {POOLS_MAX} pools already, the most there may be; let \
         ports share one"
    )]
    TooManyPools {
        /// The pool asked for.
        name: String,
    },
    /// Its memory is in too many pieces.
    #[error(
        "mempool {name}: with it, packet memory would be in {chunks} pieces, {} are the \
         most; huge pages are fragmented: reserve them at boot, or use larger ones",
        registry::CHUNKS_MAX
    )]
    TooManyChunks {
        /// The pool asked for.
        name: String,
        /// Pieces of memory in all.
        chunks: usize,
    },
    /// A buffer does not directly follow its mbuf on a cache line, as the allocator needs.
    #[error(
        "mempool {name}: this DPDK lays mbufs out in a way that is not supported (buffer not \
         right behind its mbuf)"
    )]
    Layout {
        /// The pool asked for.
        name: String,
    },
    /// DPDK refused.
    #[error(
        "mempool {name}: {mbufs} mbufs with {data_room} bytes each need {} on {place}: {reason}; \
         {memory}",
        ByteSize(*.bytes)
    )]
    Create {
        /// The pool asked for.
        name: String,
        /// How many mbufs were asked for.
        mbufs: u32,
        /// Of which size, bytes.
        data_room: u16,
        /// What that takes, bytes.
        bytes: u64,
        /// Where it was asked for.
        place: String,
        /// DPDK's error.
        reason: String,
        /// What memory there is, and what to do about it.
        memory: String,
    },
}

/// Mbufs out of all pools.
pub(crate) fn outstanding() -> u64 {
    let pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: pools in the list live: they leave it before EAL may take their memory.
    let in_use = |pool: &Mempool| unsafe { rte_mempool_in_use_count(pool.as_ptr()) };
    pools.iter().map(|pool| u64::from(in_use(pool))).sum()
}

/// Forgets the pools there are.
pub(crate) fn forget_all() {
    POOLS.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

fn create_raw(config: &MempoolConfig) -> Result<NonNull<rte_mempool>, PoolError> {
    /// DPDK's `SOCKET_ID_ANY`.
    const ANY_NODE: i32 = -1;
    let Ok(name) = CString::new(config.name.as_str()) else {
        return Err(ConfigError::Name {
            name: config.name.clone(),
        }
        .into());
    };
    let node = config
        .numa_node
        .and_then(|node| i32::try_from(node).ok())
        .unwrap_or(ANY_NODE);
    // SAFETY: EAL is up; the name is NUL-terminated and copied by the callee.
    let raw = unsafe {
        rte_pktmbuf_pool_create(
            name.as_ptr(),
            config.mbufs,
            config.cache,
            0,
            config.data_room,
            node,
        )
    };
    NonNull::new(raw).ok_or_else(|| creation_failed(config))
}

/// Every buffer must directly follow its mbuf and start a cache line: the allocator goes that way
/// back.
fn check_layout(raw: NonNull<rte_mempool>, config: &MempoolConfig) -> Result<(), PoolError> {
    unsafe extern "C" fn check(_: *mut rte_mempool, sound: *mut c_void, mbuf: *mut c_void, _: u32) {
        // SAFETY: `mbuf` is an initialised mbuf of the pool, and `sound` the bool below, which
        // nobody else uses.
        unsafe {
            let buffer = mbuf_buf_addr(mbuf.cast::<rte_mbuf>()).addr();
            let follows = buffer == mbuf.addr() + MBUF_SIZE && buffer.is_multiple_of(BUFFER_ALIGN);
            *sound.cast::<bool>() &= follows;
        }
    }
    let mut sound = true;
    // SAFETY: the pool is alive and no other thread knows it; `check` gets the pointer to `sound`
    // it expects.
    let checked = unsafe {
        rte_mempool_obj_iter(raw.as_ptr(), Some(check), (&raw mut sound).cast::<c_void>())
    };
    if sound && checked == config.mbufs {
        Ok(())
    } else {
        Err(PoolError::Layout {
            name: config.name.clone(),
        })
    }
}

fn register(raw: NonNull<rte_mempool>, config: &MempoolConfig) -> Result<(), PoolError> {
    unsafe extern "C" fn note(
        _: *mut rte_mempool,
        chunks: *mut c_void,
        chunk: *mut rte_mempool_memhdr,
        _: u32,
    ) {
        // SAFETY: `chunk` describes memory of the pool during the call; `chunks` is the Vec below,
        // which nobody else uses.
        unsafe {
            let start = (*chunk).addr.expose_provenance();
            (*chunks.cast::<Vec<Chunk>>()).push(Chunk {
                start,
                end: start + (*chunk).len,
            });
        }
    }
    let mut chunks: Vec<Chunk> = Vec::new();
    // SAFETY: the pool is alive and no other thread knows it; `note` gets the pointer to `chunks`
    // it expects.
    unsafe { rte_mempool_mem_iter(raw.as_ptr(), Some(note), (&raw mut chunks).cast::<c_void>()) };
    registry::register(raw, chunks).map_err(|chunks| PoolError::TooManyChunks {
        name: config.name.clone(),
        chunks,
    })
}

#[cold]
fn creation_failed(config: &MempoolConfig) -> PoolError {
    // SAFETY: no precondition; the text is static or thread-local and copied at once.
    let reason = unsafe { CStr::from_ptr(rte_strerror(stoq_errno())) };
    let heap = heap_stats(config.numa_node);
    let bytes = pool_memory(config.mbufs, config.data_room);
    PoolError::Create {
        name: config.name.clone(),
        mbufs: config.mbufs,
        data_room: config.data_room,
        bytes,
        place: match config.numa_node {
            Some(node) => format!("NUMA node {node}"),
            None => "any NUMA node".to_owned(),
        },
        reason: reason.to_string_lossy().into_owned(),
        memory: format!(
            "DPDK's heap has {} free there, {} in one piece, and the machine {} in huge pages; \
             lower the number of mbufs, raise EAL's -m, or reserve huge pages",
            ByteSize(heap.free),
            ByteSize(heap.largest),
            ByteSize(Machine::read().free_huge(config.numa_node)),
        ),
    }
}

#[derive(Default)]
struct HeapStats {
    free: u64,
    largest: u64,
}

/// What is left in DPDK's heaps, of one NUMA node or of all.
fn heap_stats(numa_node: Option<u32>) -> HeapStats {
    let mut sum = HeapStats::default();
    // SAFETY: EAL is up.
    let nodes = unsafe { rte_socket_count() };
    for index in 0..nodes {
        // SAFETY: EAL is up; the index is below the count.
        let Ok(node) = u32::try_from(unsafe { rte_socket_id_by_idx(index) }) else {
            continue;
        };
        if numa_node.is_some_and(|wanted| wanted != node) {
            continue;
        }
        // SAFETY: plain integers, for which zero is valid.
        let mut stats: rte_malloc_socket_stats = unsafe { std::mem::zeroed() };
        // SAFETY: EAL is up; `stats` is ours to write.
        if unsafe { rte_malloc_get_socket_stats(node as i32, &mut stats) } == 0 {
            sum.free += stats.heap_freesz_bytes as u64;
            sum.largest = sum.largest.max(stats.greatest_free_size as u64);
        }
    }
    sum
}
