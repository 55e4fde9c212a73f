//! `engine top`, attached to an engine over DPDK's telemetry socket.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Engine, Turn};

/// A file prefix that no other process of this machine has.
fn prefix(test: &str) -> String {
    format!("stoq-test-{}-{test}", std::process::id())
}

fn write_config(folder: &Path, prefix: &str, eal: &str) -> PathBuf {
    let yaml = format!(
        "eal: [\"-l\", \"0-1\", \"--no-huge\", \"-m\", \"512\", \"--no-pci\", \"--file-prefix\", \"{prefix}\"{eal}]
ports:
  - {{ name: left-end, link: right-end, addresses: [\"fd00:5701::1/64\"] }}
  - {{ name: right-end, link: left-end, addresses: [\"fd00:5701::2/64\"] }}
shards:
  - {{ name: server, port: left-end, lcore: 0 }}
  - {{ name: client, port: right-end, lcore: 1 }}
identities:
  - {{ name: made-here, self_signed: [\"localhost\"] }}
listeners:
  - {{ name: main, shard: server, udp_port: 4433, identity: made-here, services: {{ perf: {{}} }} }}
clients:
  - name: load
    shard: client
    remote: \"[fd00:5701::1]:4433\"
    server_name: localhost
    trust: {{ identity: made-here }}
    connections: 2
    perf: {{ download: 64kB, repeat: true }}
run: {{ warmup: 0 }}
"
    );
    let path = folder.join("top.yaml");
    std::fs::write(&path, yaml).expect("the test folder is writable");
    path
}

/// An engine under load.
fn start(prefix: &str, eal: &str) -> (Engine, TempDir) {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable");
    let engine = Engine::run(&write_config(folder.path(), prefix, eal));
    engine.wait_until_ready();
    (engine, folder)
}

fn top(prefix: &str, arguments: &[&str]) -> Command {
    let mut command = Engine::command();
    command
        .args(["top", "--file-prefix", prefix])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn output(mut command: Command) -> Output {
    command.output().expect("it starts")
}

#[test]
fn shards_connections_and_pools_are_shown() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let prefix = prefix("shown");
    let (engine, _folder) = start(&prefix, "");

    let shown = output(top(&prefix, &["--once", "--interval", "300ms"]));
    let table = text(&shown.stdout);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(
        table.starts_with(&format!("engine {} (file prefix {prefix})", engine.id())),
        "{table}"
    );
    for line in [
        "server ",
        "client ",
        "left-end ",
        "right-end ",
        "connections  4 open, 0 handshaking",
    ] {
        assert!(
            table.lines().any(|l| l.starts_with(line)),
            "no {line} in\n{table}"
        );
    }
    assert!(!table.contains('\x1b'), "{table}");

    let shown = output(top(&prefix, &["--once", "--json", "--interval", "300ms"]));
    let view: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(view["pid"], engine.id());
    let number = |path: &str| view.pointer(path).and_then(Value::as_f64).expect(path);
    assert_eq!(view["shards"][0]["name"], "server");
    assert_eq!(view["shards"][1]["lcore"], "1");
    assert_eq!(number("/shards/0/connections"), 2.0);
    assert_eq!(number("/connections/open"), 4.0);
    assert!(number("/shards/0/tx_frames_per_s") > 100.0, "{view:#}");
    assert!(number("/shards/1/rx_gbps") > 0.0, "{view:#}");
    let busy = number("/shards/0/busy_percent");
    assert!(busy > 0.0 && busy <= 101.0, "{view:#}");
    assert_eq!(view["ports"][0]["link_up"], true);
    assert!(
        number("/ports/0/mbufs_free") <= number("/ports/0/mbufs"),
        "{view:#}"
    );
    engine.stop().expect_clean();
}

/// A `top` that goes on, and what it prints.
fn watch(prefix: &str, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = top(prefix, arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let output = child.stdout.take().expect("its output is piped");
    (child, BufReader::new(output).lines())
}

#[test]
fn views_follow_each_other_until_the_engine_ends() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let prefix = prefix("follow");
    let (engine, _folder) = start(&prefix, "");
    let (watching, lines) = watch(&prefix, &["--json", "--interval", "100ms"]);
    let views = lines.map(|line| line.expect("text"));
    let mut views =
        views.map(|line| serde_json::from_str::<Value>(&line).expect("one object a line"));
    for _ in 0..3 {
        let view = views.next().expect("the engine runs");
        assert_eq!(view["shards"][0]["name"], "server");
    }
    engine.stop().expect_clean();
    assert!(views.all(|view| view["shards"][0]["name"] == "server"));
    let ended = watching.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert!(
        text(&ended.stderr).contains("the engine has ended"),
        "{}",
        text(&ended.stderr)
    );
}

#[test]
fn a_signal_ends_it() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let prefix = prefix("signal");
    let (engine, _folder) = start(&prefix, "");
    let (watching, mut lines) = watch(&prefix, &["--interval", "100ms"]);
    lines.next().expect("a view").expect("text");
    kill_process(Pid::from_child(&watching), Signal::INT).expect("it runs");
    lines.for_each(drop);
    let ended = watching.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    engine.stop().expect_clean();
}

#[test]
fn nothing_to_attach_to_is_told() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let none = prefix("none");
    let refused = output(top(&none, &["--once"]));
    assert_eq!(refused.status.code(), Some(1));
    let log = text(&refused.stderr);
    assert!(
        log.starts_with(&format!(
            "error: no engine runs with the file prefix `{none}`"
        )),
        "{log}"
    );
    assert!(log.contains("--no-telemetry"), "{log}");

    let silent = prefix("silent");
    let (engine, _folder) = start(&silent, ", \"--no-telemetry\"");
    let refused = output(top(&silent, &["--once"]));
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("--no-telemetry"),
        "{}",
        text(&refused.stderr)
    );
    engine.stop().expect_clean();
}
