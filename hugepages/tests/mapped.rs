//! Mapped files: parts of them, and files that shrink while they are read.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::Write;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use hugepages::mapped::{MAPPINGS_MAX, MapError, MappedFile, faults};
use tempfile::NamedTempFile;

const PAGE: u64 = 4096;

/// The counter of faults and the table of mappings belong to the process.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn file_of(pages: u64, byte: u8) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(&vec![byte; (pages * PAGE) as usize])
        .expect("written");
    file
}

fn shrink(file: &NamedTempFile, len: u64) {
    let handle = OpenOptions::new()
        .write(true)
        .open(file.path())
        .expect("opened");
    handle.set_len(len).expect("shrunk");
}

#[test]
fn parts_of_a_file_share_the_mapping_and_outlive_the_handle() {
    let _turn = one_at_a_time();
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(b"0123456789").expect("written");
    let mapped = MappedFile::open(file.path()).expect("mapped");
    assert_eq!(mapped.len(), 10);
    let (a, b) = (
        mapped.bytes(0..4).expect("within"),
        mapped.bytes(4..10).expect("within"),
    );
    assert_eq!(a.as_ptr().wrapping_add(4), b.as_ptr());
    assert!(mapped.bytes(0..11).is_none());
    assert!(mapped.bytes(11..11).is_none());
    #[expect(clippy::reversed_empty_ranges, reason = "what is tested")]
    let reversed = mapped.bytes(5..4);
    assert!(reversed.is_none());
    assert_eq!(mapped.bytes(10..10).map(|bytes| bytes.len()), Some(0));
    drop((mapped, file));
    assert_eq!((&a[..], &b[..]), (&b"0123"[..], &b"456789"[..]));
    thread::spawn(move || assert_eq!(&b[..], b"456789"))
        .join()
        .expect("the content is right");
}

#[test]
fn empty_files_folders_and_missing_ones() {
    let _turn = one_at_a_time();
    let empty = NamedTempFile::new().expect("a temporary file");
    let mapped = MappedFile::open(empty.path()).expect("an empty file is a file");
    assert!(mapped.is_empty() && !mapped.is_poisoned());
    assert_eq!(mapped.bytes(0..0).map(|bytes| bytes.len()), Some(0));
    let folder = File::open(std::env::temp_dir()).expect("opened");
    assert!(matches!(
        MappedFile::from_file(&folder),
        Err(MapError::NotRegular)
    ));
    let missing = MappedFile::open("/nonexistent/file").expect_err("it does not exist");
    assert!(
        missing.to_string().contains("/nonexistent/file"),
        "{missing}"
    );
}

#[test]
fn a_file_that_shrinks_is_poisoned_and_nothing_else_is() {
    let _turn = one_at_a_time();
    let (file, other) = (file_of(16, 7), file_of(16, 8));
    let mapped = MappedFile::open(file.path()).expect("mapped");
    let unaffected = MappedFile::open(other.path()).expect("mapped");
    let bytes = mapped.bytes(0..16 * PAGE).expect("within");
    let before = faults();
    assert!(bytes[..PAGE as usize].iter().all(|&byte| byte == 7));
    assert_eq!((faults(), mapped.is_poisoned()), (before, false));

    shrink(&file, PAGE);
    let lost = bytes.slice(PAGE as usize..3 * PAGE as usize);
    assert!(black_box(&lost).iter().all(|&byte| byte == 0));
    assert_eq!(faults(), before + 2, "one for each page");
    assert!(mapped.is_poisoned());
    assert!(
        black_box(&lost).iter().all(|&byte| byte == 0),
        "still readable"
    );
    assert_eq!(faults(), before + 2, "a page is replaced once");
    assert!(
        bytes[..PAGE as usize].iter().all(|&byte| byte == 7),
        "what is left is as it was"
    );

    assert!(!unaffected.is_poisoned());
    let whole = unaffected.bytes(0..16 * PAGE).expect("within");
    assert!(whole.iter().all(|&byte| byte == 8));
    // A mapping made afterwards, in the same slot or address, starts clean.
    drop((bytes, lost, mapped));
    let again = MappedFile::open(other.path()).expect("mapped");
    assert!(!again.is_poisoned());
}

#[test]
fn faults_on_several_threads_at_once_are_survived() {
    let _turn = one_at_a_time();
    let file = file_of(64, 7);
    let mapped = MappedFile::open(file.path()).expect("mapped");
    let bytes = mapped.bytes(0..64 * PAGE).expect("within");
    shrink(&file, 0);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let bytes = bytes.clone();
            thread::spawn(move || bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>())
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().expect("it survived"), 0);
    }
    assert!(mapped.is_poisoned());
}

#[test]
fn the_table_is_bounded_and_slots_are_used_again() {
    let _turn = one_at_a_time();
    let file = file_of(1, 1);
    let handle = File::open(file.path()).expect("opened");
    let mut mapped = Vec::new();
    let error = loop {
        match MappedFile::from_file(&handle) {
            Ok(file) => mapped.push(file),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, MapError::TooMany), "{error}");
    assert_eq!(mapped.len(), MAPPINGS_MAX);
    // The last slot is found by the handler, too.
    shrink(&file, 0);
    let last = mapped.pop().expect("there are many");
    assert_eq!(last.bytes(0..1).expect("within")[..], [0]);
    assert!(last.is_poisoned());
    drop(last);
    let other = file_of(1, 2);
    let again = MappedFile::open(other.path()).expect("one slot is free");
    assert!(!again.is_poisoned());
    drop(mapped);
}

/// Runs this program again for one test, which is expected to be killed by SIGBUS.
fn child_dies_of_sigbus(test: &str) {
    use std::os::unix::process::ExitStatusExt;
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env("HUGEPAGES_TEST_CHILD", "1")
        .output()
        .expect("the child runs");
    assert_eq!(
        output.status.signal(),
        Some(libc::SIGBUS),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn is_child() -> bool {
    std::env::var_os("HUGEPAGES_TEST_CHILD").is_some()
}

#[test]
fn a_fault_in_foreign_memory_still_ends_the_process() {
    if !is_child() {
        return child_dies_of_sigbus("a_fault_in_foreign_memory_still_ends_the_process");
    }
    let file = file_of(4, 1);
    let _ours = MappedFile::open(file.path()).expect("mapped");
    // SAFETY: none: this mapping is read after its file has shrunk, which is the mistake to be
    // seen.
    let foreign = unsafe { memmap2::Mmap::map(file.as_file()).expect("mapped") };
    shrink(&file, 0);
    std::process::exit(black_box(&foreign)[0].into());
}

#[test]
fn a_signal_someone_sends_still_ends_the_process() {
    if !is_child() {
        return child_dies_of_sigbus("a_signal_someone_sends_still_ends_the_process");
    }
    let file = file_of(4, 1);
    let _ours = MappedFile::open(file.path()).expect("mapped");
    // The first reaches the handler of Rust's runtime, which expects a fault to repeat: it restores the
    // default action and returns.
    for _ in 0..2 {
        // SAFETY: no precondition.
        unsafe { libc::raise(libc::SIGBUS) };
    }
    std::process::exit(0);
}
