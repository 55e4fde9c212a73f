//! Tests that are a process of their own.

use std::process::Command;

/// Says to the process which test it is.
const ALONE: &str = "STOQ_TEST_ALONE";

/// Seconds after which a test hangs.
const LIMIT: &str = "120";

/// Runs `body` in a process of its own: this test binary once more, with only this test.
#[track_caller]
pub fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some_and(|name| name == test) {
        return body();
    }
    let own = std::env::current_exe().expect("a test knows where it is");
    let output = Command::new("timeout")
        .arg(LIMIT)
        .arg(own)
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(ALONE, test)
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    // A name that fits no test would pass, too.
    assert!(out.contains("1 passed"), "{test}: {out}");
}
