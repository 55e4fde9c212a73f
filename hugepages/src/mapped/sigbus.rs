//! The SIGBUS handler, and the table of live mappings it looks faults up in.
//!
//! The handler runs on the thread that read a missing page, in the middle of that read. It uses
//! atomics and two system calls, takes no lock and allocates nothing. The mapping it finds cannot
//! go away meanwhile, as the interrupted thread holds a reference to it.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Files that can be mapped at a time.
pub const MAPPINGS_MAX: usize = 4096;

/// Pages of mapped files that had gone when they were read, since the process started. One relaxed
/// load.
///
/// The handler runs on the thread that reads, so that thread sees its own faults at once.
#[inline]
pub fn faults() -> u64 {
    FAULTS.load(Ordering::Relaxed)
}

static FAULTS: AtomicU64 = AtomicU64::new(0);

struct Slot {
    /// 0 while the slot is free, 1 while it is being filled.
    start: AtomicUsize,
    end: AtomicUsize,
    poisoned: AtomicBool,
}

const FREE: usize = 0;
const FILLING: usize = 1;

static SLOTS: [Slot; MAPPINGS_MAX] = [const {
    Slot {
        start: AtomicUsize::new(FREE),
        end: AtomicUsize::new(0),
        poisoned: AtomicBool::new(false),
    }
}; MAPPINGS_MAX];

/// Slots from here on have never been used: bounds the handler's walk.
static SLOTS_USED: AtomicUsize = AtomicUsize::new(0);

/// A mapping's place in the table. Must be dropped before the memory is unmapped.
#[derive(Debug)]
pub(super) struct Entry(usize);

impl Entry {
    /// Enters `[start, start + len)`. `None` when the table is full.
    pub(super) fn register(start: usize, len: usize) -> Option<Self> {
        let index = SLOTS.iter().position(|slot| {
            slot.start
                .compare_exchange(FREE, FILLING, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        })?;
        SLOTS_USED.fetch_max(index + 1, Ordering::Relaxed);
        let slot = &SLOTS[index];
        slot.poisoned.store(false, Ordering::Relaxed);
        slot.end.store(start + len, Ordering::Relaxed);
        // Whoever reads the mapping got it after this, and the handler runs on the thread that
        // reads.
        slot.start.store(start, Ordering::Release);
        Some(Self(index))
    }

    pub(super) fn is_poisoned(&self) -> bool {
        SLOTS[self.0].poisoned.load(Ordering::Relaxed)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        SLOTS[self.0].start.store(FREE, Ordering::Release);
    }
}

/// What the signal did before, for faults that are not ours.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

static PAGE_SIZE: AtomicUsize = AtomicUsize::new(0);

/// Installs the handler, once.
pub(super) fn install() -> io::Result<()> {
    static RESULT: OnceLock<Result<(), i32>> = OnceLock::new();
    RESULT
        .get_or_init(|| install_now().map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL)))
        .map_err(io::Error::from_raw_os_error)
}

fn install_now() -> io::Result<()> {
    // SAFETY: no precondition.
    let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    PAGE_SIZE.store(
        usize::try_from(page_size).map_err(io::Error::other)?,
        Ordering::Relaxed,
    );

    let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks for the present action, and has room for it.
    if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), previous.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Known before the handler can run.
    // SAFETY: the call has filled it in.
    let _ = PREVIOUS.set(unsafe { previous.assume_init() });

    // SAFETY: a sigaction is plain data for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    action.sa_sigaction = handler as usize;
    // On the alternate stack, where a thread has one: another owner of the signal may need it.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `on_sigbus` is async-signal-safe and has the signature that SA_SIGINFO asks for.
    match unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes valid information; for SIGBUS it holds the fault's
    // address.
    let (address, from_the_kernel) = unsafe { ((*info).si_addr().addr(), (*info).si_code > 0) };
    // SAFETY: the thread's own errno, which the interrupted code may be about to read.
    let errno = unsafe { *libc::__errno_location() };
    // SI_USER and its like carry no address: someone sent the signal.
    if !(from_the_kernel && replace_page(address)) {
        call_previous(signal, info, context);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Puts a page of zeros over the missing one, if it belongs to a mapping of ours.
fn replace_page(address: usize) -> bool {
    let used = SLOTS_USED.load(Ordering::Relaxed).min(MAPPINGS_MAX);
    let Some(slot) = SLOTS[..used].iter().find(|slot| {
        let start = slot.start.load(Ordering::Acquire);
        start > FILLING && address >= start && address < slot.end.load(Ordering::Relaxed)
    }) else {
        return false;
    };
    let page_size = PAGE_SIZE.load(Ordering::Relaxed);
    let page = address & !(page_size - 1);
    // SAFETY: the page lies in a live mapping of ours, read-only and not unmapped while the
    // interrupted thread reads from it; that thread expects readable bytes there, and gets some.
    let mapped = unsafe {
        libc::mmap(
            ptr::without_provenance_mut(page),
            page_size,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return false;
    }
    slot.poisoned.store(true, Ordering::Relaxed);
    FAULTS.fetch_add(1, Ordering::Relaxed);
    true
}

/// Does with the signal what would have been done without us.
fn call_previous(signal: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(previous) = PREVIOUS.get() else {
        return;
    };
    match previous.sa_sigaction {
        // Sent by someone, and ignored before: so it is now.
        // SAFETY: info is valid, as in `on_sigbus`.
        libc::SIG_IGN if unsafe { (*info).si_code } <= 0 => {}
        // A fault repeats on return, a signal that was sent is raised again, and then the default
        // ends the process. A fault cannot be ignored.
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: a sigaction is plain data; zero is the default action.
            let action: libc::sigaction = unsafe { std::mem::zeroed() };
            // SAFETY: sets the default action; raising has no precondition.
            unsafe {
                libc::sigaction(signal, &action, ptr::null_mut());
                libc::raise(signal);
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: whoever installed it with SA_SIGINFO gave a function of this signature.
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: whoever installed it without SA_SIGINFO gave a function of this signature.
            let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}
