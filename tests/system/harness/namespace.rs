//! Network namespaces: every test has addresses and interface names of its own.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace that is deleted, with every interface in it, when this is dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one with the loopback interface up. Needs root and `ip`.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("stoq-{}-{number}", std::process::id());
        run("ip", &["netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Makes `command` run in this namespace, with a `/sys` that shows its interfaces: that of a process which only
    /// [moved](Self::inside) shows those it came from.
    pub fn with_sysfs(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside
            .args(["netns", "exec", &self.name])
            .arg(command.get_program());
        inside.args(command.get_args());
        inside
    }

    /// Runs `ip` on this namespace; fails the test when that fails.
    pub fn ip(&self, arguments: &[&str]) {
        run("ip", &[&["-n", &self.name], arguments].concat());
    }

    /// Calls `f` inside the namespace: processes it starts and sockets it opens belong there.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        // A thread of its own, for the way back out of a namespace is one more thing to fail.
        std::thread::scope(|scope| {
            let enter = || {
                let path = format!("/run/netns/{}", self.name);
                let file = File::open(path).expect("the namespace has a file");
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter a namespace");
                f()
            };
            scope
                .spawn(enter)
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Waits until an interface exists, then sets its address (no duplicate detection) and MTU,
    /// and brings it up.
    pub fn configure(&self, interface: &str, address: &str, mtu: u16) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let exists = || {
            let arguments = ["-n", &self.name, "link", "show", interface];
            Command::new("ip")
                .args(arguments)
                .output()
                .is_ok_and(|o| o.status.success())
        };
        while !exists() {
            assert!(
                Instant::now() < deadline,
                "interface {interface} did not appear"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.ip(&["address", "add", address, "dev", interface, "nodad"]);
        self.ip(&["link", "set", interface, "mtu", &mtu.to_string(), "up"]);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing to do about a failure here; the namespace then lasts until the machine stops.
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {}: {text}",
        arguments.join(" ")
    );
}
