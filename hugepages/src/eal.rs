//! Proof that EAL is up, and the way out before it goes down.

use crate::pool;
use crate::registry;

/// Proof that DPDK's environment abstraction layer is initialised.
///
/// Everything that needs EAL asks for one of these, so that calling DPDK too early does not
/// compile. Whoever wraps `rte_eal_init` makes it, once.
#[derive(Clone, Copy, Debug)]
pub struct EalUp(());

impl EalUp {
    /// Asserts that EAL is up.
    ///
    /// # Safety
    /// `rte_eal_init` has returned success in this process, and `rte_eal_cleanup` is called only
    /// after [`retire_pools`] has succeeded.
    pub const unsafe fn assume() -> Self {
        Self(())
    }
}

/// Forgets all pools, so that EAL may release their memory.
///
/// Fails, and changes nothing, while mbufs are out: the number of them. Then `rte_eal_cleanup` must
/// not be called at all: it would unmap memory that slices still point into. Leaving it to the end
/// of the process is always sound.
///
/// Afterwards every `Mempool`, however copied, is empty: nothing can be taken from it, its counts
/// are 0, and none can be made any more.
///
/// # Safety
/// Queues have been stopped and their ports closed: nobody else takes mbufs while this looks.
pub unsafe fn retire_pools(_: EalUp) -> Result<(), u64> {
    pool::set_retired(true);
    let outstanding = pool::outstanding();
    if outstanding > 0 {
        pool::set_retired(false);
        return Err(outstanding);
    }
    registry::clear();
    pool::forget_all();
    Ok(())
}
