//! Commands on DPDK's telemetry socket: other processes ask, a handler answers, DPDK writes the answer as JSON.
//!
//! The socket is `<run time folder>/<file prefix>/dpdk_telemetry.v2` (a `SOCK_SEQPACKET`), which
//! `dpdk-telemetry.py` and DPDK's exporters know how to find. EAL makes it unless told `--no-telemetry`.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError, RwLock};

use dpdk_sys as sys;
use tracing::warn;

use crate::eal::{Eal, error_text};

/// Longest command, bytes (`MAX_CMD_LEN` of DPDK's telemetry, less its NUL).
const PATH_MAX: usize = 55;
/// Longest help text, bytes (`MAX_HELP_LEN`, less its NUL).
const HELP_MAX: usize = 63;
/// DPDK's buffer for an answer, bytes; what does not fit it leaves out without a word.
const ANSWER_MAX: usize = 16 * 1024;
/// What stands around an answer: the command, quotes, braces.
const FRAME: usize = PATH_MAX + 16;
/// Where the number of entries is told that did not fit.
const LEFT_OUT: &str = "left_out";

/// An answer.
///
/// DPDK limits it, and what goes beyond is left out: 16 KiB as JSON, 256 entries a dictionary, 512 elements a list,
/// 127 bytes a string or key (an answer that is nothing but a string may have 8191). A dictionary that lost entries has
/// one more, `left_out`, with their number. Text is ASCII, for 22.11 does not write other characters as JSON: those
/// become `?`, control characters a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Keys and values, in this order. Keys are letters, digits, `_` and `/`; other characters become `_`.
    Dict(Vec<(String, Value)>),
    /// Elements of one kind, all numbers or all strings: others than the first are left out. A list that begins with a
    /// list or a dictionary is written as a dictionary with positions as keys (`"0"`, `"1"` and so on), since a list
    /// of DPDK holds none.
    List(Vec<Value>),
    /// A number.
    U64(u64),
    /// Text.
    Str(String),
}

/// Answers a command; the argument is what the asker wrote behind the first comma, empty without one. It is called on
/// threads of DPDK, perhaps by several at a time.
pub type Handler = Box<dyn Fn(&str) -> Value + Send + Sync>;

/// Why a command was not registered.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The path or the help text is not one DPDK takes.
    #[error(
        "telemetry command {0:?}: a command starts with / and has at most {PATH_MAX} bytes, its help at most \
         {HELP_MAX}, neither has a NUL"
    )]
    Form(&'static str),
    /// Somebody has it.
    #[error("telemetry command {0} is registered already: drop its registration first")]
    Taken(&'static str),
    /// DPDK refused.
    #[error("telemetry command {path}: rte_telemetry_register_cmd failed: {reason}")]
    Refused {
        /// The command.
        path: &'static str,
        /// DPDK's text.
        reason: String,
    },
}

/// A registered command. DPDK cannot forget a command, so from the end of the registration on it answers an empty
/// dictionary. Dropping it waits for answers that are being made; a handler that drops its own registration would wait
/// for ever.
#[derive(Debug)]
pub struct Registration {
    path: &'static str,
    slot: &'static Slot,
}

/// Answers the telemetry command `path`, such as `/stoq/shards`, by `handler`.
///
/// # Errors
/// A path or help text out of DPDK's limits, a path that is taken, or no memory.
pub fn register(
    _eal: &Eal,
    path: &'static str,
    help: &str,
    handler: Handler,
) -> Result<Registration, TelemetryError> {
    if !path.starts_with('/') || path.len() > PATH_MAX || help.len() > HELP_MAX {
        return Err(TelemetryError::Form(path));
    }
    let (Ok(c_path), Ok(c_help)) = (CString::new(path), CString::new(help)) else {
        return Err(TelemetryError::Form(path));
    };
    let mut commands = commands();
    if let Some(slot) = commands.get(path).copied() {
        // Known to DPDK since an earlier registration. An answer that is being made may hold the slot for as long as it
        // takes: other commands do not wait for it.
        drop(commands);
        let mut place = slot.0.write().unwrap_or_else(PoisonError::into_inner);
        if place.is_some() {
            return Err(TelemetryError::Taken(path));
        }
        *place = Some(handler);
        return Ok(Registration { path, slot });
    }
    // SAFETY: both strings are NUL-terminated and copied; `answer` has the signature DPDK calls and lives for ever.
    let code =
        unsafe { sys::rte_telemetry_register_cmd(c_path.as_ptr(), Some(answer), c_help.as_ptr()) };
    if code != 0 {
        return Err(TelemetryError::Refused {
            path,
            reason: error_text(code),
        });
    }
    // As often as there are paths in the program, for DPDK keeps the command as long as the process lives.
    let slot: &'static Slot = Box::leak(Box::new(Slot(RwLock::new(Some(handler)))));
    commands.insert(path, slot);
    Ok(Registration { path, slot })
}

impl Registration {
    /// The command.
    pub fn path(&self) -> &'static str {
        self.path
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let handler = {
            let mut place = self.slot.0.write().unwrap_or_else(PoisonError::into_inner);
            place.take()
        };
        // Outside the lock: what the handler owns may do anything when it is dropped.
        drop(handler);
    }
}

/// Where the handler of a command is, while it is registered. It is read for as long as an answer is made.
struct Slot(RwLock<Option<Handler>>);

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}

type Commands = BTreeMap<&'static str, &'static Slot>;

/// Every command that DPDK knows from us.
static COMMANDS: Mutex<Commands> = Mutex::new(BTreeMap::new());

fn commands() -> std::sync::MutexGuard<'static, Commands> {
    COMMANDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What DPDK calls for every command: finds the handler by the command's path.
///
/// # Safety
/// `path` is a NUL-terminated string, `parameters` is one or NULL, `data` is DPDK's structure for the answer, ours
/// during the call.
unsafe extern "C" fn answer(
    path: *const c_char,
    parameters: *const c_char,
    data: *mut sys::rte_tel_data,
) -> c_int {
    let Some(data) = NonNull::new(data) else {
        return -libc::EINVAL;
    };
    // SAFETY: the caller's contract: NUL-terminated strings that live as long as the call.
    let (path, parameters) = unsafe { (c_text(path), c_text(parameters)) };
    // A panic must not unwind into C.
    let made = catch_unwind(AssertUnwindSafe(|| {
        let slot = commands().get(path.as_str()).copied();
        let Some(slot) = slot else {
            return Value::Dict(Vec::new());
        };
        let handler = slot.0.read().unwrap_or_else(PoisonError::into_inner);
        handler
            .as_ref()
            .map_or(Value::Dict(Vec::new()), |handler| handler(&parameters))
    }));
    let Ok(value) = made else {
        warn!(command = %path, "the handler of a telemetry command panicked; it answers null");
        return -libc::EFAULT;
    };
    let mut budget = ANSWER_MAX - FRAME;
    // SAFETY: the caller's contract: `data` is DPDK's structure for the answer.
    unsafe { Place(data).put(&value, &mut budget) }
}

/// # Safety
/// `text` is NULL or a NUL-terminated string.
unsafe fn c_text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's contract.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// A structure of DPDK that an answer, or a list or dictionary in one, is put into.
#[derive(Clone, Copy)]
struct Place(NonNull<sys::rte_tel_data>);

impl Place {
    /// Puts a whole answer in. `budget` is the number of bytes of JSON that are left.
    ///
    /// # Safety
    /// The place is one DPDK gave (as an argument, or by `rte_tel_data_alloc`) and has not taken back.
    unsafe fn put(self, value: &Value, budget: &mut usize) -> c_int {
        let data = self.0.as_ptr();
        match value {
            // SAFETY: the caller's contract, the same in the functions called.
            Value::Dict(entries) => unsafe { self.put_dict(entries, budget) },
            Value::List(elements)
                if matches!(elements[..], [Value::Dict(_) | Value::List(_), ..]) =>
            {
                let keys = (0..).map(|position: usize| position.to_string());
                let entries: Vec<_> = keys.zip(elements.iter().cloned()).collect();
                // SAFETY: as above.
                unsafe { self.put_dict(&entries, budget) }
            }
            // SAFETY: as above.
            Value::List(elements) => unsafe { self.put_list(elements, budget) },
            // DPDK has no answer that is a number alone.
            Value::U64(number) => {
                let text = c_string(&number.to_string(), sys::RTE_TEL_MAX_SINGLE_STRING_LEN);
                // SAFETY: the caller's contract, and a NUL-terminated string that is copied.
                unsafe { sys::rte_tel_data_string(data, text.as_ptr()) }
            }
            Value::Str(text) => {
                let text = c_string(text, sys::RTE_TEL_MAX_SINGLE_STRING_LEN);
                // SAFETY: as above.
                unsafe { sys::rte_tel_data_string(data, text.as_ptr()) }
            }
        }
    }

    /// # Safety
    /// As for `put`.
    unsafe fn put_dict(self, entries: &[(String, Value)], budget: &mut usize) -> c_int {
        // One place, and some bytes, for the number of entries left out.
        let most = sys::RTE_TEL_MAX_DICT_ENTRIES as usize - 1;
        let Some(rest) = budget.checked_sub(cost(LEFT_OUT.len()) + NUMBER) else {
            return -libc::E2BIG;
        };
        *budget = rest;
        // SAFETY: the caller's contract.
        let started = unsafe { sys::rte_tel_data_start_dict(self.0.as_ptr()) };
        if started != 0 {
            return started;
        }
        let mut left_out = entries.len().saturating_sub(most) as u64;
        for (key, value) in entries.iter().take(most) {
            let key = c_key(key);
            // SAFETY: the caller's contract.
            let put = spend(budget, cost(key.as_bytes().len()), |budget| unsafe {
                self.put_entry(&key, value, budget)
            });
            if !put {
                left_out += 1;
            }
        }
        if left_out == 0 {
            return 0;
        }
        let key = c_key(LEFT_OUT);
        // SAFETY: the caller's contract; the key is NUL-terminated and copied.
        unsafe { sys::stoq_tel_add_dict_u64(self.0.as_ptr(), key.as_ptr(), left_out) }
    }

    /// Whether the entry was put in.
    ///
    /// # Safety
    /// As for `put`; the place holds a dictionary.
    unsafe fn put_entry(self, key: &CStr, value: &Value, budget: &mut usize) -> bool {
        let (data, key) = (self.0.as_ptr(), key.as_ptr());
        match value {
            Value::U64(number) => spend(budget, NUMBER, |_| {
                // SAFETY: the caller's contract; strings are NUL-terminated and copied, here and below.
                unsafe { sys::stoq_tel_add_dict_u64(data, key, *number) == 0 }
            }),
            Value::Str(text) => {
                let text = c_string(text, sys::RTE_TEL_MAX_STRING_LEN);
                spend(budget, escaped(&text), |_| {
                    // SAFETY: as above.
                    unsafe { sys::rte_tel_data_add_dict_string(data, key, text.as_ptr()) == 0 }
                })
            }
            Value::Dict(_) | Value::List(_) => {
                // SAFETY: no precondition; NULL without memory.
                let Some(inner) = NonNull::new(unsafe { sys::rte_tel_data_alloc() }) else {
                    return false;
                };
                // SAFETY: DPDK has just made the container for us. The dictionary takes it over (0: and frees it).
                let put = unsafe {
                    Place(inner).put(value, budget) == 0
                        && sys::rte_tel_data_add_dict_container(data, key, inner.as_ptr(), 0) == 0
                };
                if !put {
                    // SAFETY: ours still, since nothing took it over.
                    unsafe { sys::rte_tel_data_free(inner.as_ptr()) };
                }
                put
            }
        }
    }

    /// # Safety
    /// As for `put`.
    unsafe fn put_list(self, elements: &[Value], budget: &mut usize) -> c_int {
        let data = self.0.as_ptr();
        // SAFETY: the caller's contract, here and below.
        let started = unsafe {
            match elements.first() {
                Some(Value::Str(_)) => sys::rte_tel_data_start_array(data, sys::RTE_TEL_STRING_VAL),
                _ => sys::stoq_tel_start_u64_array(data),
            }
        };
        if started != 0 {
            return started;
        }
        for element in elements {
            match element {
                Value::U64(number) => spend(budget, NUMBER, |_| {
                    // SAFETY: an element of another kind, or one too many, is refused.
                    unsafe { sys::stoq_tel_add_array_u64(data, *number) == 0 }
                }),
                Value::Str(text) => {
                    let text = c_string(text, sys::RTE_TEL_MAX_STRING_LEN);
                    spend(budget, escaped(&text), |_| {
                        // SAFETY: as above; the string is NUL-terminated and copied.
                        unsafe { sys::rte_tel_data_add_array_string(data, text.as_ptr()) == 0 }
                    })
                }
                Value::Dict(_) | Value::List(_) => false,
            };
        }
        0
    }
}

/// Bytes of a number and its comma.
const NUMBER: usize = 21;

/// Bytes of a key of `len` bytes with quotes, colon and comma, and of the brackets of a container behind it.
fn cost(len: usize) -> usize {
    len + 6
}

/// Bytes of a string in JSON, with quotes and comma.
fn escaped(text: &CStr) -> usize {
    let with_escape = |byte: &&u8| matches!(byte, b'"' | b'\\');
    3 + text.count_bytes() + text.to_bytes().iter().filter(with_escape).count()
}

/// Does `put` when `bytes` are left, and takes them, with what it spends itself, off the budget if it worked.
fn spend(budget: &mut usize, bytes: usize, put: impl FnOnce(&mut usize) -> bool) -> bool {
    let Some(mut rest) = budget.checked_sub(bytes) else {
        return false;
    };
    let worked = put(&mut rest);
    if worked {
        *budget = rest;
    }
    worked
}

/// `text` as ASCII for a C buffer of `size` bytes.
fn c_string(text: &str, size: u64) -> CString {
    let byte = |c: char| match c {
        ' '..='~' => c as u8,
        c if c.is_ascii_control() => b' ',
        _ => b'?',
    };
    let text: Vec<u8> = text.chars().take(size as usize - 1).map(byte).collect();
    CString::new(text).unwrap_or_default()
}

/// `key` with the characters DPDK takes.
fn c_key(key: &str) -> CString {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '/';
    let key: String = key
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect();
    c_string(&key, sys::RTE_TEL_MAX_STRING_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_dpdk_takes() {
        assert_eq!(c_key("0000:3b:00.0").to_bytes(), b"0000_3b_00_0");
        assert_eq!(c_key("rx/frames_9").to_bytes(), b"rx/frames_9");
        assert_eq!(c_key(&"k".repeat(300)).to_bytes().len(), 127);
    }

    #[test]
    fn strings_are_short_and_ascii() {
        assert_eq!(c_string("abcdef", 4).to_bytes(), b"abc");
        assert_eq!(c_string("aä\0\n", 128).to_bytes(), b"a?  ");
        assert_eq!(escaped(c"a\"\\"), 8);
    }

    #[test]
    fn what_fails_costs_nothing() {
        let mut budget = 10;
        assert!(!spend(&mut budget, 4, |_| false));
        assert!(!spend(&mut budget, 11, |_| true));
        assert_eq!(budget, 10);
        assert!(spend(&mut budget, 4, |rest| spend(rest, 6, |_| true)));
        assert_eq!(budget, 0);
    }
}
