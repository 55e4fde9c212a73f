//! EAL for the integration tests. It can be initialised once in a process, so once in each test
//! binary.

use std::ffi::{CStr, CString, c_char};
use std::sync::OnceLock;

use hugepages::EalUp;

/// Starts EAL without huge pages, devices or files, on the first call.
pub fn eal() -> EalUp {
    static EAL: OnceLock<EalUp> = OnceLock::new();
    *EAL.get_or_init(|| {
        let arguments = [
            "test",
            "--no-huge",
            "--no-pci",
            "-m",
            "128",
            "--no-shconf",
            "--no-telemetry",
            "-l",
            "0",
            "--log-level",
            "error",
        ]
        .map(|argument| CString::new(argument).expect("no NUL in an argument"));
        let mut pointers: Vec<*mut c_char> = arguments
            .iter()
            .map(|argument| argument.as_ptr().cast_mut())
            .collect();
        // SAFETY: called once in this process, with as many NUL-terminated strings as it is told.
        let parsed =
            unsafe { dpdk_sys::rte_eal_init(pointers.len() as i32, pointers.as_mut_ptr()) };
        // SAFETY: no precondition; the string is static.
        let error = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(dpdk_sys::stoq_errno())) };
        assert!(parsed >= 0, "rte_eal_init: {}", error.to_string_lossy());
        // SAFETY: EAL is up, and stays so until the process ends.
        unsafe { EalUp::assume() }
    })
}
