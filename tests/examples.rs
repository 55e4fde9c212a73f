//! The examples run, each as a process of its own, and say what their documentation promises. None needs root.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Seconds after which an example hangs.
const LIMIT: &str = "90";

/// Runs an example to its end; returns what it printed on standard output.
fn run(name: &str, arguments: &[&str]) -> String {
    // One at a time: each has an engine whose lcore polls.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let path = path(name);
    let mut command = Command::new("timeout");
    let output = command.arg(LIMIT).arg(&path).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{name}: {}\n{out}\n{err}",
        output.status
    );
    out
}

/// Cargo builds examples along with tests, into the folder beside that of the tests.
fn path(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test knows where it is");
    let profile = own.parent().and_then(|deps| deps.parent());
    profile
        .expect("target/<profile>/deps")
        .join("examples")
        .join(name)
}

#[test]
fn echo_on_the_shard() {
    let out = run("echo_on_shard", &[]);
    assert!(out.starts_with("10000 round trips in "), "{out}");
}

#[test]
fn echo() {
    let out = run("echo", &[]);
    for line in [
        "connected to [fd00:5701::2]:4433",
        "hello -> hello",
        "goodbye -> goodbye",
        "server: closed by the peer: done (code 0)",
    ] {
        assert!(out.lines().any(|own| own == line), "{line}\n{out}");
    }
    // The examples have the packet-aware allocator.
    let received = out
        .lines()
        .find_map(|line| line.strip_suffix(" datagrams received without copying"));
    assert!(
        received.is_some_and(|count| count.parse::<u64>().unwrap() > 0),
        "{out}"
    );
}

#[test]
fn file_transfer() {
    let out = run("file_transfer", &[]);
    let hash = |side: &str| {
        let line = out.lines().find_map(|line| line.strip_prefix(side));
        line.unwrap_or_else(|| panic!("{out}")).trim().to_owned()
    };
    let sent = hash("sha256 sent");
    assert_eq!(sent.len(), 64, "{out}");
    assert_eq!(sent, hash("sha256 received"));
    assert!(out.contains("received 100 %"), "{out}");
}

#[test]
fn file_transfer_of_a_given_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"abc").unwrap();
    let out = run("file_transfer", &[file.path().to_str().unwrap()]);
    // The vector of FIPS 180-2.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert!(out.contains(&format!("received {abc}")), "{out}");
}

#[cfg(feature = "h3")]
#[test]
fn http3() {
    let out = run("http3", &[]);
    assert!(out.contains("<h1>Hello over HTTP/3</h1>"), "{out}");
}

#[test]
fn datagram_ping() {
    let out = run("datagram_ping", &["200"]);
    assert!(out.starts_with("200 pings of 64 bytes;"), "{out}");
    for name in ["answered,", "p50", "p99.9", "up to"] {
        assert!(out.contains(name), "{name}\n{out}");
    }
}

#[test]
fn pool() {
    let out = run("pool", &[]);
    assert!(out.starts_with("6400 requests in "), "{out}");
    for line in [
        "  connections: 4 now, 4 opened, 0 failed, 0 broken",
        "  connections: 1 now, 5 opened, 0 failed, 4 broken",
        "opened anew: 1",
        "nobody: no connection to the peer: no handshake within 1s",
        "  connections: 1 now, 6 opened, 1 failed, 4 broken",
    ] {
        assert!(out.lines().any(|own| own == line), "{line}\n{out}");
    }
    let backing_off = "nobody: no connection to the peer, nor an attempt for ";
    assert!(
        out.lines().any(|line| line.starts_with(backing_off)),
        "{out}"
    );
}
