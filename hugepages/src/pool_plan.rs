//! How large a pool has to be, and what a sound configuration of one is.

use dpdk_sys::{MBUF_SIZE, RTE_MEMPOOL_CACHE_MAX_SIZE, RTE_MEMPOOL_NAMESIZE};
use thiserror::Error;

use crate::convert::TX_HEADROOM;

/// Bytes that DPDK keeps before each mbuf in a pool, and the pool's ring for each.
const OBJECT_OVERHEAD: u64 = 64 + 8;
/// Every mbuf starts a cache line.
const CACHE_LINE: u64 = 64;
/// Longest pool name DPDK takes, bytes (its own limit counts the terminating NUL).
const NAME_MAX: usize = RTE_MEMPOOL_NAMESIZE as usize - 1;

/// What a [`Mempool`](crate::Mempool) is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolConfig {
    /// Unique in the process, at most 25 bytes.
    pub name: String,
    /// Mbufs in the pool; see [`pool_size`].
    pub mbufs: u32,
    /// Mbufs an lcore may keep to itself, so that it need not touch the shared ring: at most 512,
    /// and at most two thirds of `mbufs`. 0 for none.
    pub cache: u32,
    /// Room in each mbuf, the standard headroom of 128 bytes included, bytes.
    pub data_room: u16,
    /// Where the memory is to lie; `None` for anywhere.
    pub numa_node: Option<u32>,
}

impl MempoolConfig {
    /// Checks the rules that need no EAL.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.name.is_empty() || self.name.len() > NAME_MAX || self.name.contains('\0') {
            return Err(ConfigError::Name {
                name: self.name.clone(),
            });
        }
        if self.mbufs == 0 {
            return Err(ConfigError::NoMbufs {
                name: self.name.clone(),
            });
        }
        // The cache is flushed at one and a half times its size; a pool smaller than that could end
        // up in caches alone.
        let cache_max =
            (RTE_MEMPOOL_CACHE_MAX_SIZE as u32).min((u64::from(self.mbufs) * 2 / 3) as u32);
        if self.cache > cache_max {
            return Err(ConfigError::Cache {
                name: self.name.clone(),
                cache: self.cache,
                cache_max,
                mbufs: self.mbufs,
            });
        }
        let data_room_min = TX_HEADROOM as u16 * 2;
        if self.data_room < data_room_min {
            return Err(ConfigError::DataRoom {
                name: self.name.clone(),
                data_room: self.data_room,
                data_room_min,
            });
        }
        Ok(())
    }
}

/// Why a [`MempoolConfig`] cannot work.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The name is empty, too long, or contains NUL.
    #[error("mempool name {name:?}: give it 1 to {NAME_MAX} bytes, without NUL")]
    Name {
        /// The name given.
        name: String,
    },
    /// A pool of nothing.
    #[error("mempool {name}: mbufs is 0; give it at least the RX and TX descriptors of its queues")]
    NoMbufs {
        /// The pool.
        name: String,
    },
    /// The per-lcore cache is too large for the pool.
    #[error(
        "mempool {name}: a cache of {cache} is above {cache_max}, the most for \
         {mbufs} mbufs; lower it, or give it more mbufs"
    )]
    Cache {
        /// The pool.
        name: String,
        /// The cache asked for, mbufs.
        cache: u32,
        /// The largest allowed, mbufs.
        cache_max: u32,
        /// The pool's size, mbufs.
        mbufs: u32,
    },
    /// The data room holds little more than headers.
    #[error(
        "mempool {name}: a data room of {data_room} bytes is below {data_room_min}; give it \
         128 bytes of headroom plus the largest frame"
    )]
    DataRoom {
        /// The pool.
        name: String,
        /// The data room asked for, bytes.
        data_room: u16,
        /// The smallest allowed, bytes.
        data_room_min: u16,
    },
}

/// Where mbufs of a pool can be at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolNeeds {
    /// RX descriptors of all queues that the pool feeds.
    pub rx_descriptors: u32,
    /// TX descriptors of all queues that its mbufs are sent on.
    pub tx_descriptors: u32,
    /// Lcores that work with the pool.
    pub lcores: u32,
    /// Mbufs an lcore has in hand: its RX burst and its TX burst.
    pub burst: u32,
    /// The pool's cache per lcore.
    pub cache: u32,
    /// Received buffers that applications may hold on to.
    pub held: u32,
}

/// How many mbufs a pool needs so that none of its users ever finds it empty.
///
/// `rx_descriptors + tx_descriptors + lcores × (2 × burst + 1.5 × cache) + held`: as DPDK's l3fwd
/// sizes its pool (`NB_MBUF`), with the cache counted up to its flush threshold, and with what
/// applications hold. It is not rounded up to 2ⁿ−1, which DPDK calls optimal: that saves nothing
/// but slots of the pool's ring, 8 bytes each, while an mbuf is two kilobytes or more, and what
/// fits in the CPU's cache stays warm.
pub fn pool_size(needs: PoolNeeds) -> u32 {
    let per_lcore = 2 * u64::from(needs.burst) + (3 * u64::from(needs.cache)).div_ceil(2);
    let total = u64::from(needs.rx_descriptors)
        + u64::from(needs.tx_descriptors)
        + u64::from(needs.held)
        + u64::from(needs.lcores)
            .saturating_mul(per_lcore)
            .min(u64::from(u32::MAX));
    u32::try_from(total).unwrap_or(u32::MAX)
}

/// About how much memory a pool takes, bytes. Needs no EAL.
pub fn pool_memory(mbufs: u32, data_room: u16) -> u64 {
    let object = (MBUF_SIZE as u64 + u64::from(data_room)).next_multiple_of(CACHE_LINE);
    u64::from(mbufs) * (object + OBJECT_OVERHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> MempoolConfig {
        MempoolConfig {
            name: "test".to_owned(),
            mbufs: 1023,
            cache: 256,
            data_room: 2176,
            numa_node: None,
        }
    }

    #[test]
    fn a_sound_configuration_passes() {
        assert_eq!(config().validate(), Ok(()));
        assert_eq!(
            MempoolConfig {
                cache: 0,
                mbufs: 1,
                ..config()
            }
            .validate(),
            Ok(())
        );
    }

    #[test]
    fn each_rule_is_enforced_at_its_edge() {
        let name = |length: usize| MempoolConfig {
            name: "x".repeat(length),
            ..config()
        };
        assert_eq!(name(NAME_MAX).validate(), Ok(()));
        assert!(matches!(
            name(NAME_MAX + 1).validate(),
            Err(ConfigError::Name { .. })
        ));
        assert!(matches!(name(0).validate(), Err(ConfigError::Name { .. })));
        let mbufs = |mbufs| MempoolConfig {
            mbufs,
            cache: 0,
            ..config()
        };
        assert!(matches!(
            mbufs(0).validate(),
            Err(ConfigError::NoMbufs { .. })
        ));
        let cache = |mbufs, cache| MempoolConfig {
            mbufs,
            cache,
            ..config()
        };
        assert_eq!(cache(300, 200).validate(), Ok(()));
        assert!(matches!(
            cache(300, 201).validate(),
            Err(ConfigError::Cache { cache_max: 200, .. })
        ));
        assert_eq!(cache(8192, 512).validate(), Ok(()));
        assert!(matches!(
            cache(8192, 513).validate(),
            Err(ConfigError::Cache { cache_max: 512, .. })
        ));
        let room = |data_room| MempoolConfig {
            data_room,
            ..config()
        };
        assert_eq!(room(192).validate(), Ok(()));
        assert!(matches!(
            room(191).validate(),
            Err(ConfigError::DataRoom { .. })
        ));
    }

    #[test]
    fn the_size_is_the_sum_of_all_places() {
        let needs = PoolNeeds {
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            lcores: 2,
            burst: 32,
            cache: 255,
            held: 100,
        };
        assert_eq!(pool_size(needs), 1024 + 1024 + 2 * (64 + 383) + 100);
        assert_eq!(
            pool_size(PoolNeeds {
                held: u32::MAX,
                lcores: u32::MAX,
                burst: u32::MAX,
                ..needs
            }),
            u32::MAX
        );
    }

    #[test]
    fn memory_counts_whole_cache_lines() {
        assert_eq!(pool_memory(1, 2176), 128 + 2176 + OBJECT_OVERHEAD);
        assert_eq!(pool_memory(10, 2177), 10 * (128 + 2240 + OBJECT_OVERHEAD));
    }
}
