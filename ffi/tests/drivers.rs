//! A program linked through this crate finds the drivers EAL loads as plug-ins, and the ring driver
//! linked by name.

use std::ffi::{CStr, CString, c_char};

use dpdk_sys as dpdk;

#[test]
fn eal_probes_a_virtual_device_and_makes_ring_ports() {
    let arguments = [
        "drivers",
        "--no-huge",
        "--no-pci",
        "-m",
        "64",
        "--no-shconf",
        "--no-telemetry",
        "-l",
        "0",
        "--vdev=net_null0",
    ]
    .map(|argument| CString::new(argument).expect("no NUL in an argument"));
    let mut pointers: Vec<*mut c_char> = arguments
        .iter()
        .map(|argument| argument.as_ptr().cast_mut())
        .collect();

    // SAFETY: called once in this process, with argc pointers to NUL-terminated strings that EAL
    // only reorders.
    let parsed = unsafe { dpdk::rte_eal_init(pointers.len() as i32, pointers.as_mut_ptr()) };
    // SAFETY: no precondition; the string is static.
    let error = unsafe { CStr::from_ptr(dpdk::rte_strerror(dpdk::stoq_errno())) };
    assert_eq!(
        parsed,
        pointers.len() as i32 - 1,
        "rte_eal_init: {}",
        error.to_string_lossy()
    );

    let mut port = u16::MAX;
    // SAFETY: EAL is up; the name is NUL-terminated; `port` is ours to write.
    let found = unsafe { dpdk::rte_eth_dev_get_port_by_name(c"net_null0".as_ptr(), &mut port) };
    assert_eq!(
        found, 0,
        "net_null0 was not probed: are DPDK's drivers in EAL's plug-in folder?"
    );

    let flags = (dpdk::RING_F_SP_ENQ | dpdk::RING_F_SC_DEQ) as u32;
    // SAFETY: EAL is up, and the ring lives until the process ends.
    let ring = unsafe { dpdk::rte_ring_create(c"loop".as_ptr(), 64, 0, flags) };
    assert!(!ring.is_null());
    // SAFETY: the two arrays hold one valid ring each.
    let ring_port = unsafe { dpdk::rte_eth_from_rings(c"loop".as_ptr(), &ring, 1, &ring, 1, 0) };
    assert!(ring_port >= 0);
    // SAFETY: EAL is up.
    assert_eq!(unsafe { dpdk::rte_eth_dev_count_avail() }, 2);
}
