//! Every stack does every kind of work, as short as it goes, between two processes on loopback: it ends, nothing is lost,
//! and every figure is there.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bench::field::peer::{ClientSpec, Hello, Load, PathSpec, ServerSpec, Work};
use bench::field::peer_way::make_identity;
use bench::scale::figures::Figures;

const STACKS: [&str; 3] = ["quinn", "quiche", "s2n-quic"];

/// Kills the server when a test is over, however it ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn peer(arguments: Vec<String>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peer"));
    command.args(arguments);
    command
}

fn identity() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn path(work: Work, udp_payload: u16, segmentation: bool, cpu: usize) -> PathSpec {
    PathSpec {
        work,
        identity: identity(),
        udp_payload,
        no_segmentation: !segmentation,
        busy: false,
        cpu,
    }
}

fn run(stack: &str, work: Work, load: Load, udp_payload: u16, segmentation: bool) -> Figures {
    let spec = ServerSpec {
        listen: "[::1]:0".parse().unwrap(),
        path: path(work, udp_payload, segmentation, 0),
    };
    let mut command = peer(spec.arguments(stack));
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut server = Server(child.unwrap());
    let mut line = String::new();
    let output = server.0.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    let hello: Hello = serde_json::from_str(&line).unwrap();
    let spec = ClientSpec {
        connect: format!("[::1]:{}", hello.udp_port).parse().unwrap(),
        server_pid: server.0.id(),
        path: path(work, udp_payload, segmentation, 1),
        load,
    };
    let output = peer(spec.arguments(stack)).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stack}, {work:?}: {log}");
    let figures: Figures = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        figures.problems.is_empty(),
        "{stack}, {work:?}: {figures:?}"
    );
    figures
}

fn expect(figures: &Figures, stack: &str, names: &[&str]) {
    for name in names {
        let value = figures.value(name);
        assert!(
            value.is_some_and(|value| value > 0.0),
            "{stack}, {name}: {figures:?}"
        );
    }
}

/// One test: the processes share two CPUs, and the identity.
#[test]
fn every_stack_does_every_work() {
    make_identity(&identity()).unwrap();
    let load = |connections, outstanding, answer| Load {
        connections,
        outstanding,
        answer,
        seconds: 0.2,
    };
    for stack in STACKS {
        for udp_payload in [1452, 8952] {
            let bulk = run(stack, Work::Bulk, load(1, 1, 16 << 20), udp_payload, true);
            expect(&bulk, stack, &["goodput", "CPU"]);
            let reached = bulk.value("UDP payload");
            assert_eq!(reached, Some(f64::from(udp_payload)), "{stack}: {bulk:?}");
        }
        let single = run(stack, Work::Bulk, load(1, 1, 4 << 20), 1452, false);
        expect(&single, stack, &["goodput"]);
        let many = run(stack, Work::Bulk, load(20, 20, 1 << 20), 1452, true);
        expect(&many, stack, &["goodput"]);
        let requests = run(stack, Work::Requests, load(1, 16, 4096), 1452, true);
        expect(&requests, stack, &["p50", "p99", "requests"]);
        for work in [Work::Handshakes, Work::Resumed] {
            let handshakes = run(stack, work, load(1, 16, 0), 1452, true);
            expect(&handshakes, stack, &["requests"]);
        }
        let datagrams = run(stack, Work::Datagrams, load(1, 16, 1000), 1452, true);
        expect(&datagrams, stack, &["requests"]);
        assert_eq!(datagrams.value("lost"), Some(0.0), "{stack}: {datagrams:?}");
        let idle = run(stack, Work::Idle, load(200, 0, 0), 1452, true);
        expect(&idle, stack, &["memory"]);
    }
}
