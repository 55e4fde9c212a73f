//! The time stamp counter: the cheapest clock there is, for measuring short times on one lcore.

use dpdk_sys as sys;

use crate::eal::Eal;

/// Ticks of the time stamp counter of the CPU that this runs on. The CPU may take the reading some instructions early or
/// late: it is good for sums, not for a single short time.
#[inline]
pub(crate) fn ticks() -> u64 {
    // SAFETY: it reads a register, and has no conditions.
    unsafe { sys::stoq_tsc() }
}

/// Ticks a second; 0 before EAL has started.
pub(crate) fn rate() -> u64 {
    // SAFETY: it reads a number, which EAL's start sets.
    unsafe { sys::rte_get_tsc_hz() }
}

/// Ticks a second, as EAL found out when it started.
pub fn tsc_hz(_eal: &Eal) -> u64 {
    rate()
}
