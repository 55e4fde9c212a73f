//! The engine on a terminal that somebody stopped.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::harness::{Engine, Turn};

const LONG: Duration = Duration::from_secs(60);
/// Ctrl-S and Ctrl-Q, which stop a terminal's output and let it go on.
const STOP: &[u8] = b"\x13";
const GO_ON: &[u8] = b"\x11";

/// A terminal with somebody who reads it.
struct Terminal {
    keyboard: File,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    /// The terminal, and a process on it.
    fn with_engine(arguments: &[&str], config: &Path) -> (Self, Child) {
        let own = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudoterminal");
        grantpt(&own).expect("it is ours");
        unlockpt(&own).expect("it is ours");
        let name = ptsname(&own, Vec::new()).expect("it has a name");
        let name = name.to_str().expect("of ASCII").to_owned();
        let other = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(&name)
                .expect("it is there")
        };
        let child = Engine::command()
            .args(arguments)
            .arg(config)
            .stdin(Stdio::null())
            .stdout(other())
            .stderr(other())
            .spawn()
            .expect("the engine starts");
        let keyboard = File::from(own);
        let mut screen = keyboard.try_clone().expect("a second descriptor");
        let shown = Arc::<Mutex<String>>::default();
        let writer = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // An error: the last process on it has ended.
            while let Ok(length @ 1..) = screen.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..length]);
                writer.lock().expect("no holder panics").push_str(&text);
            }
        });
        (Self { keyboard, shown }, child)
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard
            .write_all(keys)
            .expect("the terminal is there");
    }

    fn shown(&self) -> String {
        self.shown.lock().expect("no holder panics").clone()
    }

    fn wait_for(&self, text: &str) {
        wait(text, || self.shown().contains(text), || self.shown());
    }
}

fn wait(what: &str, done: impl Fn() -> bool, state: impl Fn() -> String) {
    let deadline = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < deadline, "no {what}: {}", state());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_stopped_terminal_holds_nothing_up() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/loopback.yaml");
    let mut yaml = std::fs::read_to_string(shipped).expect("it ships");
    yaml.push_str("\nmetrics: { listen: \"[::1]:0\" }\n");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/www");
    let yaml = yaml.replace("root: www", &format!("root: {}", root.display()));
    let config = folder.path().join("loopback.yaml");
    std::fs::write(&config, yaml).expect("the test folder is writable");

    let (mut terminal, mut engine) = Terminal::with_engine(&["run", "--config"], &config);
    terminal.wait_for("ready");
    let shown = terminal.shown();
    let (_, url) = shown
        .split_once("metrics at http://")
        .expect("it says where");
    let address = url.split('/').next().expect("a first part").to_owned();
    // The live line is there, too.
    terminal.wait_for("connections");
    terminal.press(STOP);
    // Time for some more live lines to be held up.
    std::thread::sleep(Duration::from_millis(2500));
    assert!(TcpStream::connect(&address).is_ok(), "the engine runs");

    // What is drained and closed all the same: metrics are served until the very end of a run.
    kill_process(Pid::from_child(&engine), Signal::TERM).expect("it runs");
    let is_over = || TcpStream::connect(&address).is_err();
    wait("end of the run", is_over, || terminal.shown());
    assert!(
        !terminal.shown().contains("in use at exit"),
        "{}",
        terminal.shown()
    );

    // The report waits for whoever asked for it.
    terminal.press(GO_ON);
    terminal.wait_for("in use at exit");
    let status = engine.wait().expect("it ends");
    assert!(status.success(), "{}", terminal.shown());
}
