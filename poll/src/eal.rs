//! The environment abstraction layer: started once, cleaned up last.

use std::ffi::{CStr, CString, NulError, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};

use dpdk_sys as sys;
use hugepages::EalUp;

use crate::lcore::LcoreId;
use crate::port::open_devices;
use crate::ring::live_rings;

/// Why EAL did not start.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// EAL was started in this process before; DPDK allows it once.
    #[error("EAL was already started in this process; DPDK can be initialised only once")]
    AlreadyStarted,
    /// An argument cannot be handed to C.
    #[error("EAL argument {0:?} contains a NUL byte")]
    Nul(String, #[source] NulError),
    /// EAL refused; its own lines on standard error say more.
    #[error(
        "EAL did not start with `{args}`: {reason} (its own messages above say more; \
         without root or huge pages use --no-huge, see configs/loopback.yaml)"
    )]
    Init {
        /// The arguments EAL was given.
        args: String,
        /// The text for `rte_errno`.
        reason: String,
    },
}

/// EAL, running. It lives on the thread that started it, which DPDK calls the main lcore.
///
/// Every other type of this crate that talks to a device is made from it.
#[derive(Debug)]
pub struct Eal {
    up: EalUp,
    lcores: Vec<LcoreId>,
    main: LcoreId,
    /// Raw pointers are neither `Send` nor `Sync`: EAL stays on its main thread.
    _on_main_thread: std::marker::PhantomData<*const ()>,
}

static STARTED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts EAL with `args` (without a program name), as on a DPDK command line.
    ///
    /// # Errors
    /// A second start in the same process, a NUL byte in an argument, or EAL's own refusal.
    pub fn start(args: &[String]) -> Result<Self, EalError> {
        let owned = std::iter::once("stoq")
            .chain(args.iter().map(String::as_str))
            .map(|arg| CString::new(arg).map_err(|error| EalError::Nul(arg.to_owned(), error)))
            .collect::<Result<Vec<_>, _>>()?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(EalError::AlreadyStarted);
        }
        // EAL keeps pointers into its arguments (getopt permutes them, drivers refer to device arguments), so the
        // strings live as long as the process; there is one EAL per process.
        let mut argv: Vec<*mut c_char> = owned.into_iter().map(CString::into_raw).collect();
        let argc = c_int::try_from(argv.len()).unwrap_or(c_int::MAX);
        argv.push(std::ptr::null_mut());
        let argv = argv.leak();
        // SAFETY: rte_eal_init wants argc valid, writable C strings followed by NULL, and may be called once per
        // process: `argv` is leaked just above, STARTED upholds the second.
        let parsed = unsafe { sys::rte_eal_init(argc, argv.as_mut_ptr()) };
        if parsed < 0 {
            return Err(EalError::Init {
                args: args.join(" "),
                reason: errno_text(),
            });
        }
        // SAFETY: the contract of `assume` is that rte_eal_init has returned successfully, which it has.
        let up = unsafe { EalUp::assume() };
        // SAFETY: these two have no precondition but a started EAL.
        let main = LcoreId(unsafe { sys::rte_get_main_lcore() });
        let lcores = (0..sys::RTE_MAX_LCORE as u32)
            // SAFETY: as above; the function checks its argument's range itself.
            .filter(|&id| unsafe { sys::rte_lcore_is_enabled(id) } != 0)
            .map(LcoreId)
            .collect();
        Ok(Self {
            up,
            lcores,
            main,
            _on_main_thread: std::marker::PhantomData,
        })
    }

    /// The lcores EAL was given, the main one among them, in ascending order.
    pub fn lcores(&self) -> &[LcoreId] {
        &self.lcores
    }

    /// The lcore of the thread that started EAL.
    pub fn main_lcore(&self) -> LcoreId {
        self.main
    }

    /// Proof that EAL runs, for [`hugepages::Mempool::create`].
    pub fn up(&self) -> EalUp {
        self.up
    }

    /// Releases what EAL holds, when that is sound: while a port is open, an emulated NIC is held or a packet buffer is out,
    /// its memory has to stay mapped, so EAL is left as it is.
    ///
    /// To be called last: DPDK's telemetry threads run on (22.11 has no way to end them), and those of DPDK's own commands
    /// that look at its memory, such as `/mempool/list`, end the process when they are asked from then on. Commands
    /// [registered](crate::telemetry::register) here do not.
    ///
    /// # Errors
    /// What is still in use.
    pub fn cleanup(self) -> Result<(), CleanupError> {
        let ports = open_devices();
        if ports > 0 {
            return Err(CleanupError::Ports(ports));
        }
        let rings = live_rings();
        if rings > 0 {
            return Err(CleanupError::Rings(rings));
        }
        // SAFETY: no device is open, so nobody polls and no driver holds or takes an mbuf; no ring exists, so no emulated NIC
        // does. Both are made with a reference to an `Eal`, of which there is one, here.
        unsafe { hugepages::retire_pools(self.up) }.map_err(CleanupError::Mbufs)?;
        // SAFETY: called once (it takes `self`), on the main lcore (`Eal` is not Send). No device is open, no ring
        // exists, no mbuf is out, and pools are retired, so nothing refers to EAL's memory any more; lcores run only within `Eal::run`.
        unsafe { sys::rte_eal_cleanup() };
        Ok(())
    }
}

/// Why EAL was not cleaned up. It does no harm: the system takes everything back when the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CleanupError {
    /// Ports or queues are still held.
    #[error("{0} ports are still open")]
    Ports(usize),
    /// Emulated NICs are still held, and use their rings.
    #[error("{0} rings of emulated NICs are still in use: drop the emulation first")]
    Rings(usize),
    /// Packet buffers have not come home.
    #[error("{0} packet buffers are still in use")]
    Mbufs(u64),
}

/// The version of the DPDK library that is loaded, as `DPDK 22.11.11`.
pub fn dpdk_version() -> String {
    // SAFETY: rte_version returns a pointer to a static string and has no precondition.
    unsafe { CStr::from_ptr(sys::rte_version()) }
        .to_string_lossy()
        .into_owned()
}

/// The text for this thread's `rte_errno`.
pub(crate) fn errno_text() -> String {
    // SAFETY: stoq_errno reads a thread-local integer.
    error_text(unsafe { sys::stoq_errno() })
}

/// The text for a DPDK return code, negative or not.
pub(crate) fn error_text(code: c_int) -> String {
    // SAFETY: rte_strerror returns a pointer to a static or thread-local string for any integer.
    unsafe { CStr::from_ptr(sys::rte_strerror(code.abs())) }
        .to_string_lossy()
        .into_owned()
}
