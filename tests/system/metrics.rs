//! Counters served to Prometheus while the engine runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Engine, Need, TapLab, Turn, promtool};

/// How long a few seconds' work may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// Longer than the host's pauses between frames of its own at the start.
const QUIET: Duration = Duration::from_secs(2);
/// Files that the client of these tests asks for, one after the other.
const REQUESTS: f64 = 64.0;
/// And the size of each.
const DOWNLOAD: f64 = 1e6;

/// A configuration with a link, a client's load, and an address for the metrics.
fn write_config(folder: &Path, listen: &str, load: &str) -> PathBuf {
    let yaml = format!(
        "eal: [\"-l\", \"0-1\", \"--no-huge\", \"-m\", \"512\", \"--no-pci\", \"--no-telemetry\"]
ports:
  - {{ name: left, link: right, addresses: [\"fd00:5701::1/64\"] }}
  - {{ name: right, link: left, addresses: [\"fd00:5701::2/64\"] }}
shards:
  - {{ name: server, port: left, lcore: 0 }}
  - {{ name: client, port: right, lcore: 1 }}
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
    {load}
metrics: {{ listen: \"{listen}\" }}
run: {{ warmup: 0, exit_when_clients_finish: false }}
"
    );
    let path = folder.join("metrics.yaml");
    std::fs::write(&path, yaml).expect("the test folder is writable");
    path
}

fn folder() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable")
}

/// An engine that serves its metrics.
struct Served {
    engine: Engine,
    metrics: Metrics,
    _folder: TempDir,
}

impl Served {
    fn start(load: &str) -> Self {
        let folder = folder();
        let engine = Engine::run(&write_config(folder.path(), "[::1]:0", load));
        engine.wait_until_ready();
        Self {
            metrics: Metrics::of(&engine),
            engine,
            _folder: folder,
        }
    }
}

/// Where an engine serves its metrics.
struct Metrics(SocketAddr);

impl Metrics {
    /// The address is in the engine's log: the kernel chose the port.
    fn of(engine: &Engine) -> Self {
        let log = engine.log();
        let (_, url) = log.split_once("metrics at http://").expect("it says where");
        let address = url.split('/').next().expect("a first part");
        Self(address.parse().expect("an address with a port"))
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.0).expect("the engine listens");
        stream.set_read_timeout(Some(LONG)).expect("a time-out");
        stream
    }

    /// Head and body of the answer.
    fn ask(&self, method: &str, path: &str) -> (String, String) {
        let mut stream = self.connect();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: engine\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        (head.to_owned(), body.to_owned())
    }

    fn scrape(&self) -> Scrape {
        let (head, body) = self.ask("GET", "/metrics");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("text/plain; version=0.0.4"), "{head}");
        Scrape(body)
    }

    /// Waits for a scrape of which `wanted` is true.
    fn scrape_until(&self, what: &str, wanted: impl Fn(&Scrape) -> bool) -> Scrape {
        let deadline = Instant::now() + LONG;
        loop {
            let scrape = self.scrape();
            if wanted(&scrape) {
                return scrape;
            }
            assert!(Instant::now() < deadline, "not {what}:\n{}", scrape.0);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The text of a scrape.
struct Scrape(String);

impl Scrape {
    /// Names, labels and values.
    fn samples(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            (name, labels, value.parse().expect("a number"))
        })
    }

    /// Sum over all series called `name` that have `label` among their labels.
    fn sum_with(&self, name: &str, label: &str) -> f64 {
        let found = self
            .samples()
            .filter(|(n, labels, _)| *n == name && labels.contains(label));
        let values: Vec<f64> = found.map(|(.., value)| value).collect();
        assert!(
            !values.is_empty(),
            "no {name} with {label:?} in\n{}",
            self.0
        );
        values.iter().sum()
    }

    fn sum(&self, name: &str) -> f64 {
        self.sum_with(name, "")
    }

    /// Names, without what histograms append.
    fn names(&self) -> BTreeSet<&str> {
        let types = self
            .0
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "));
        types.filter_map(|line| line.split(' ').next()).collect()
    }

    /// Drops by reason: those of shards and those of devices.
    fn drops(&self, names: &[&str]) -> BTreeMap<String, f64> {
        let mut drops = BTreeMap::new();
        for (_, labels, value) in self.samples().filter(|(name, ..)| names.contains(name)) {
            let reason = labels.split_once("reason=\"").expect("a reason").1;
            let reason = reason.split('"').next().expect("a first part");
            *drops.entry(reason.to_owned()).or_default() += value;
        }
        drops.retain(|_, count| *count > 0.0);
        drops
    }
}

fn drops_of(report: &Value) -> BTreeMap<String, f64> {
    let drops = report.as_object().expect("drops by reason");
    let count = |value: &Value| value.as_f64().expect("a count");
    drops
        .iter()
        .map(|(reason, value)| (reason.clone(), count(value)))
        .collect()
}

/// A load that ends, and leaves the engine idle.
fn short_load() -> String {
    format!("connections: 3\n    perf: {{ download: {DOWNLOAD}B, requests: {REQUESTS} }}")
}

#[test]
fn last_scrape_agrees_with_the_report() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let served = Served::start(&short_load());
    let is_idle = |scrape: &Scrape| {
        let completed = scrape.sum_with("stoq_client_requests_total", "outcome=\"completed\"");
        completed == REQUESTS && scrape.sum("stoq_connections") == 0.0
    };
    let idle = served.metrics.scrape_until("idle", is_idle);
    // The host still repeats its listener reports for a moment (RFC 3810 section 9.11), and lanes publish their counters
    // now and then: wait for a while in which nothing is sent.
    let frames = |scrape: &Scrape| scrape.sum("stoq_tx_frames_total");
    let mut last = idle;
    let last = loop {
        std::thread::sleep(QUIET);
        let now = served.metrics.scrape();
        if frames(&now) == frames(&last) {
            break now;
        }
        last = now;
    };
    let report = served.engine.stop().expect_clean();

    let of_report = |path: &str| report.pointer(path).and_then(Value::as_f64).expect(path);
    for (metric, label, path) in [
        ("stoq_rx_frames_total", "", "/rx/frames"),
        (
            "stoq_rx_datagrams_total",
            "path=\"zero_copy\"",
            "/rx/zero_copy",
        ),
        ("stoq_rx_datagrams_total", "path=\"copied\"", "/rx/copied"),
        ("stoq_tx_frames_total", "", "/tx/frames"),
        (
            "stoq_tx_datagrams_total",
            "path=\"in_place\"",
            "/tx/in_place",
        ),
        ("stoq_tx_datagrams_total", "path=\"copied\"", "/tx/copied"),
        ("stoq_tx_stalled_turns_total", "", "/tx/stalled"),
        (
            "stoq_application_received_bytes_total",
            "",
            "/bytes_received",
        ),
        ("stoq_application_sent_bytes_total", "", "/bytes_sent"),
        (
            "stoq_connections_accepted_total",
            "",
            "/connections/accepted",
        ),
        ("stoq_connections_opened_total", "", "/connections/opened"),
        ("stoq_connections_lost_total", "", "/connections/lost"),
        ("stoq_connections_peak", "", "/connections/peak"),
        (
            "stoq_handshakes_total",
            "outcome=\"refused\"",
            "/connections/refused",
        ),
        ("stoq_lost_packets_total", "", "/quic/lost_packets"),
        (
            "stoq_congestion_events_total",
            "",
            "/quic/congestion_events",
        ),
        ("stoq_handed_over_total", "", "/rx/handed_over"),
        ("stoq_pool_mbufs", "", "/mbufs/capacity"),
        ("stoq_rx_frames_total", "lcore=\"1\"", "/lcores/1/rx_frames"),
    ] {
        assert_eq!(
            last.sum_with(metric, label),
            of_report(path),
            "{metric} {label} {path}"
        );
    }
    let rx = last.drops(&["stoq_rx_dropped_total", "stoq_device_dropped_total"]);
    assert_eq!(rx, drops_of(&report["rx"]["dropped"]));
    let tx = last.drops(&["stoq_tx_dropped_total"]);
    assert_eq!(tx, drops_of(&report["tx"]["dropped"]));

    // And what the report does not have.
    assert_eq!(
        last.sum_with("stoq_handshakes_total", "outcome=\"completed\""),
        6.0
    );
    assert_eq!(last.sum("stoq_client_latency_seconds_count"), REQUESTS);
    assert!(last.sum("stoq_client_latency_seconds_sum") > 0.0);
    // Both ends of three connections at the begin and at the end.
    assert!(last.sum("stoq_rtt_seconds_count") >= 12.0);
    let busy = last.sum("stoq_lcore_busy_seconds_total");
    assert!(
        busy > 0.0 && busy <= last.sum("stoq_lcore_seconds_total"),
        "{busy}"
    );
    assert_eq!(last.sum("stoq_link_up"), 2.0);
    let free = last.sum("stoq_pool_free_mbufs");
    assert!(free > 0.0 && free <= of_report("/mbufs/capacity"), "{free}");
    assert_eq!(
        last.sum_with("stoq_device_xstat", "name=\"rx_good_packets\""),
        of_report("/rx/frames")
    );
}

#[test]
fn promtool_finds_nothing_to_criticise_during_a_run() {
    let Some(_turn) = Turn::take(&[Need::Promtool]) else {
        return;
    };
    let served = Served::start("connections: 2\n    perf: { download: 64kB, repeat: true }");
    let moved = |scrape: &Scrape| scrape.sum("stoq_client_latency_seconds_count") > 100.0;
    let scrape = served.metrics.scrape_until("under load", moved);
    assert_eq!(scrape.sum_with("stoq_connections", "state=\"open\""), 4.0);

    let program = promtool().expect("found above");
    let mut check = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut input = check.stdin.take().expect("its input is piped");
    input
        .write_all(scrape.0.as_bytes())
        .expect("promtool reads");
    drop(input);
    let output = check.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.is_empty(),
        "{said}\n{}",
        scrape.0
    );
    served.engine.stop().expect_clean();
}

#[test]
fn other_requests_are_answered_and_slow_ones_cut_off() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let served = Served::start(&short_load());
    let (head, body) = served.metrics.ask("GET", "/");
    assert!(
        head.starts_with("HTTP/1.1 200 ") && body.contains("/metrics"),
        "{head} {body}"
    );
    let (head, body) = served.metrics.ask("HEAD", "/metrics");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "");
    let (head, _) = served.metrics.ask("GET", "/else");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    let (head, _) = served.metrics.ask("POST", "/metrics");
    assert!(
        head.starts_with("HTTP/1.1 405 ") && head.contains("allow: GET, HEAD"),
        "{head}"
    );

    // More than the server keeps, none of which ever ends its request.
    let slow: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = served.metrics.connect();
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\n")
                .expect("half a request");
            stream
        })
        .collect();
    served.metrics.scrape();
    let mut first = &slow[0];
    let mut rest = Vec::new();
    let ended = first.read_to_end(&mut rest);
    assert!(
        rest.is_empty(),
        "{ended:?} {:?}",
        String::from_utf8_lossy(&rest)
    );
    served.engine.stop().expect_clean();
}

#[test]
fn a_link_that_goes_down_is_seen() {
    let Some(mut lab) = TapLab::new(&[]) else {
        return;
    };
    lab.start(
        "identities:
  - { name: made-here, self_signed: [\"localhost\"] }
listeners:
  - { name: main, shard: server, udp_port: 4433, identity: made-here, services: { perf: {} } }
metrics: { listen: \"[::1]:0\" }
",
    );
    let metrics = Metrics::of(lab.engine());
    let expect = |what: &str, wanted: fn(&Scrape) -> bool| {
        lab.inside(|| metrics.scrape_until(what, wanted));
    };
    expect("up", |scrape| scrape.sum("stoq_link_up") == 1.0);
    lab.link_down();
    expect("down", |scrape| scrape.sum("stoq_link_up") == 0.0);
    lab.engine().wait_for_log("link is down", LONG);
    lab.link_up();
    expect("up again", |scrape| scrape.sum("stoq_link_up") == 1.0);
    lab.engine().wait_for_log("link is up again", LONG);
    // The kernel looks for routers on a link that comes up.
    expect("received from", |scrape| {
        scrape.sum_with("stoq_device_xstat", "name=\"rx_good_packets\"") > 0.0
    });
    lab.stop().expect_clean();
}

#[test]
fn a_taken_address_is_told_with_its_key() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let folder = folder();
    let taken = TcpListener::bind("[::1]:0").expect("a port is free");
    let address = taken.local_addr().expect("it has one").to_string();
    let config = write_config(folder.path(), &address, &short_load());
    let outcome = Engine::run(&config).wait(LONG);
    assert_eq!(outcome.status.code(), Some(1), "{outcome}");
    let expected =
        format!("error: metrics.listen: nothing can listen on {address}: Address already");
    assert!(outcome.log.contains(&expected), "{outcome}");
}

/// The dashboard asks for metrics that exist, in the way Grafana wants it.
#[test]
fn dashboard_shows_what_is_scraped() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let served = Served::start(&short_load());
    let scrape = served.metrics.scrape();
    served.engine.stop().expect_clean();

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/grafana.json");
    let text = std::fs::read_to_string(file).expect("the dashboard is there");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let names = scrape.names();
    let mut shown = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(
            ids.insert(panel["id"].as_u64().expect("an id")),
            "two panels {panel}"
        );
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            let expression = target["expr"].as_str().expect("an expression");
            let metrics = metrics_in(expression);
            assert!(!metrics.is_empty(), "{expression}");
            shown.extend(metrics);
        }
    }
    for metric in &shown {
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| metric.strip_suffix(end));
        let exists =
            names.contains(metric.as_str()) || base.is_some_and(|base| names.contains(base));
        assert!(
            exists,
            "{metric} is on the dashboard, and not among {names:?}"
        );
    }
    // All are shown but one: turns say something to developers only.
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !shown.iter().any(|shown| shown.starts_with(**name)))
        .collect();
    assert_eq!(missing, [&"stoq_turns_total"], "not on the dashboard");
}

/// Names that start with `stoq_`.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !is_name(c));
    words
        .filter(|word| word.starts_with("stoq_"))
        .map(str::to_owned)
        .collect()
}
