//! The engine as a child process.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long EAL, ports and shards may take to start.
const START: Duration = Duration::from_secs(20);
/// How long a drain and the clean-up may take.
const STOP: Duration = Duration::from_secs(15);

/// The program of an example: cargo puts it beside the tests, one folder up.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("target/<profile>/deps/<test>");
    profile.join("examples").join(name)
}

/// A running engine. Killed when dropped; `stop` and `wait` end it in good order.
pub struct Engine {
    child: Child,
    log: Arc<Log>,
    output: Option<JoinHandle<String>>,
}

/// Standard error of the engine, as it comes.
#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    grown: Condvar,
}

#[derive(Default)]
struct LogState {
    text: String,
    ended: bool,
}

/// What an engine left behind.
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub log: String,
}

impl Engine {
    /// The binary under test.
    pub fn binary() -> PathBuf {
        std::env::var_os("ENGINE_BIN").map_or_else(
            || PathBuf::from(env!("CARGO_BIN_EXE_engine")),
            PathBuf::from,
        )
    }

    /// A command that runs the binary, in a network namespace when the calling thread is in one.
    pub fn command() -> Command {
        let mut command = Command::new(Self::binary());
        // How connections end is told by shards at this level; see `tells_ends`.
        command.env("RUST_LOG", "info,stoq::shard=debug");
        command
    }

    /// Whether the binary under test logs the end of each connection: release builds compile that
    /// level out.
    pub fn tells_ends() -> bool {
        cfg!(debug_assertions) && std::env::var_os("ENGINE_BIN").is_none()
    }

    /// Starts `engine run --json --config <config>`.
    pub fn run(config: &Path) -> Self {
        let mut command = Self::command();
        command.args(["run", "--json", "--config"]).arg(config);
        Self::spawn(command)
    }

    /// Waits until the shards run.
    pub fn wait_until_ready(&self) {
        self.wait_for_log("ready", START);
    }

    /// Starts a command and collects what it writes.
    pub fn spawn(mut command: Command) -> Self {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the engine binary starts");
        let mut stdout = child.stdout.take().expect("standard output is piped");
        let stderr = child.stderr.take().expect("standard error is piped");

        let output = std::thread::spawn(move || {
            let mut text = String::new();
            stdout
                .read_to_string(&mut text)
                .expect("the engine writes UTF-8");
            text
        });
        let log = Arc::new(Log::default());
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.update(|state| {
                    state.text.push_str(&line);
                    state.text.push('\n');
                });
            }
            writer.update(|state| state.ended = true);
        });
        Self {
            child,
            log,
            output: Some(output),
        }
    }

    /// Waits until standard error contains `text`; fails the test when it ends without.
    pub fn wait_for_log(&self, text: &str, within: Duration) {
        let state = self.log.state.lock().expect("no holder panics");
        let wanted = |state: &mut LogState| !state.text.contains(text) && !state.ended;
        let (state, _) = self
            .log
            .grown
            .wait_timeout_while(state, within, wanted)
            .expect("no holder panics");
        assert!(
            state.text.contains(text),
            "no {text:?} in the engine's log:\n{}",
            state.text
        );
    }

    /// Standard error until now.
    pub fn log(&self) -> String {
        self.log
            .state
            .lock()
            .expect("no holder panics")
            .text
            .clone()
    }

    /// Process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the engine still runs");
    }

    /// Asks for the end, as a service manager would, and waits for it.
    pub fn stop(self) -> Outcome {
        self.signal(Signal::TERM);
        self.wait(STOP)
    }

    /// Waits for the end; fails the test when it does not come in time.
    pub fn wait(mut self, within: Duration) -> Outcome {
        let deadline = Instant::now() + within;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                break status;
            }
            if Instant::now() > deadline {
                let log = self
                    .log
                    .state
                    .lock()
                    .expect("no holder panics")
                    .text
                    .clone();
                panic!("the engine still runs after {within:?}; its log:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let output = self
            .output
            .take()
            .expect("taken here only")
            .join()
            .expect("reader ends");
        let state = self.log.state.lock().expect("no holder panics");
        let ended = |state: &mut LogState| !state.ended;
        let state = self
            .log
            .grown
            .wait_while(state, ended)
            .expect("no holder panics");
        Outcome {
            status,
            output,
            log: state.text.clone(),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is the usual case.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let state = self.log.state.lock();
            eprintln!(
                "log of the engine:\n{}",
                state.as_ref().map_or("", |s| &s.text)
            );
        }
    }
}

impl Log {
    fn update(&self, change: impl FnOnce(&mut LogState)) {
        change(&mut self.state.lock().expect("no holder panics"));
        self.grown.notify_all();
    }
}

impl Outcome {
    /// The JSON report, the last thing on standard output.
    pub fn report(&self) -> Value {
        let start = self
            .output
            .find('{')
            .unwrap_or_else(|| panic!("no report; {self}"));
        serde_json::from_str(&self.output[start..])
            .unwrap_or_else(|error| panic!("the report is not JSON: {error}; {self}"))
    }

    /// Fails the test unless the engine ended well and gave every mbuf back; returns the report.
    pub fn expect_clean(&self) -> Value {
        assert!(self.status.success(), "{self}");
        let report = self.report();
        assert_eq!(report["mbufs"]["in_use_at_exit"], 0, "mbufs leaked; {self}");
        report
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            status,
            output,
            log,
        } = self;
        write!(
            f,
            "{status}\nstandard output:\n{output}\nstandard error:\n{log}"
        )
    }
}
