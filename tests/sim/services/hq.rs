//! HTTP/0.9 from files to files.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use stoq::app::{ConnectTarget, Dir, ReadError, Side, StreamId, VarInt};
use stoq::clients::hq::{HqClient, ThreadStart};
use stoq::clients::{ClientError, ClientHandle, ClientResults};
use stoq::services::ServiceCounters;
use stoq::services::hq::{ALPN, HqServer, code};
use tempfile::TempDir;

use super::raw::{Raw, RawLog, Script};
use super::{MS, SECOND, counters, join, results};
use crate::net::{Link, Net, Setup, ready};

const MIB: usize = 1 << 20;

/// The writer thread lives in real time, which simulated time leaves far behind.
fn setup() -> Setup {
    let mut setup = Setup::default();
    setup.settings.idle_timeout = None;
    setup
}

fn content(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|n| ((n + seed) * 31 % 241) as u8).collect()
}

struct Site {
    root: TempDir,
    output: TempDir,
    counters: Arc<ServiceCounters>,
}

impl Site {
    fn new(files: &[(&str, usize)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (seed, (name, len)) in files.iter().enumerate() {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content(seed, *len)).unwrap();
        }
        Self {
            root,
            output: tempfile::tempdir().unwrap(),
            counters: Arc::default(),
        }
    }

    fn server(&self) -> HqServer {
        HqServer::new(self.root.path())
    }

    fn client(&self, target: ConnectTarget, paths: &[&str]) -> HqClient {
        HqClient {
            target,
            connections: 1,
            streams: 8,
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            output: Some(self.output.path().to_owned()),
        }
    }

    fn net(
        &self,
        setup: &Setup,
        link: Link,
        server: HqServer,
        client: HqClient,
    ) -> (Net, ClientHandle) {
        let mut net = Net::new(link);
        let (application, handle) = client.application(ThreadStart::default()).unwrap();
        let service = server.service(self.counters.clone()).unwrap();
        join(&mut net, setup, ALPN, service, vec![ready(application)]);
        (net, handle)
    }

    fn fetch(&self, paths: &[&str]) -> ClientResults {
        let setup = setup();
        let client = self.client(target(&setup), paths);
        let (mut net, handle) = self.net(&setup, Link::default(), self.server(), client);
        finish(&mut net, &handle)
    }

    /// All files below the output directory, hidden ones too.
    fn written(&self) -> Vec<String> {
        fn walk(directory: &Path, root: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => walk(&path, root, found),
                    false => {
                        let name = path.strip_prefix(root).unwrap();
                        found.push(name.to_str().unwrap().to_owned());
                    }
                }
            }
        }
        let mut found = Vec::new();
        walk(self.output.path(), self.output.path(), &mut found);
        found.sort();
        found
    }

    fn output(&self, name: &str) -> Vec<u8> {
        fs::read(self.output.path().join(name)).unwrap()
    }
}

fn target(setup: &Setup) -> ConnectTarget {
    setup.target("hq-interop")
}

#[track_caller]
fn finish(net: &mut Net, handle: &ClientHandle) -> ClientResults {
    results(net, 100_000 * SECOND, handle)
}

#[test]
fn files_of_all_sizes_arrive_whole() {
    let files = [
        ("empty", 0),
        ("one", 1),
        ("sub/below", 65_535),
        ("sub/mapped", 65_536),
        ("large.bin", 5 * MIB + 3),
    ];
    let site = Site::new(&files);
    fs::write(site.output.path().join("one"), "an older file").unwrap();
    let paths = ["/empty", "/one", "/sub/below", "/sub/mapped", "/large.bin"];
    let results = site.fetch(&paths);
    assert!(results.failures.is_empty(), "{:?}", results.failures);
    assert_eq!(results.completed, 5);
    for (seed, (name, len)) in files.into_iter().enumerate() {
        assert!(site.output(name) == content(seed, len), "{name}");
        let file = results
            .files
            .iter()
            .find(|file| file.path == format!("/{name}"));
        assert_eq!(file.unwrap().bytes, len as u64);
    }
    assert_eq!(site.written().len(), 5, "{:?}", site.written());
    assert_eq!(
        (site.counters.answered.get(), site.counters.unmapped.get()),
        (5, 0)
    );
    let total: usize = files.iter().map(|(_, len)| len).sum();
    assert_eq!(results.bytes_received, total as u64);
}

#[test]
fn ten_thousand_small_files() {
    let site = Site::new(&[("a", 100), ("b", 1000)]);
    let paths: Vec<&str> = (0..10_000)
        .map(|n| if n % 2 == 0 { "/a" } else { "/b" })
        .collect();
    let setup = setup();
    let client = HqClient {
        connections: 2,
        streams: 200,
        output: None,
        ..site.client(target(&setup), &paths)
    };
    let (mut net, handle) = site.net(&setup, Link::default(), site.server(), client);
    let results = finish(&mut net, &handle);
    assert_eq!((results.completed, results.failures_total), (10_000, 0));
    assert_eq!(results.bytes_received, 5_000 * 1100);
    assert_eq!(
        handle.counters().completed.get(),
        handle.counters().total.get()
    );
}

#[test]
fn what_is_not_served_fails_alone_and_leaves_nothing() {
    let site = Site::new(&[("good", 100_000)]);
    symlink("/etc/passwd", site.root.path().join("leak")).unwrap();
    fs::create_dir(site.root.path().join("directory")).unwrap();
    fs::write(site.output.path().join("missing"), "kept").unwrap();
    let results = site.fetch(&["/missing", "/leak", "/good", "/directory"]);
    assert_eq!((results.completed, results.failures_total), (1, 3));
    for failure in &results.failures {
        assert!(
            matches!(
                failure,
                ClientError::Reset {
                    code: code::NOT_FOUND,
                    ..
                }
            ),
            "{failure}"
        );
    }
    let names = |failure: &ClientError| failure.to_string().starts_with("/missing");
    assert!(results.failures.iter().any(names));
    assert_eq!(site.written(), ["good", "missing"]);
    assert_eq!(site.output("missing"), b"kept");
    assert_eq!(site.counters.refused.get(), 3);
}

#[test]
fn a_file_truncated_while_it_is_sent_fails_its_stream_only() {
    let len = 16 * MIB;
    let site = Site::new(&[("cut", len), ("whole", MIB)]);
    let setup = setup();
    let client = site.client(target(&setup), &["/cut", "/whole"]);
    let link = Link {
        rate: Some(4_000_000),
        ..Link::default()
    };
    let (mut net, handle) = site.net(&setup, link, site.server(), client);
    net.run_until(20 * SECOND, |_| {
        handle.counters().bytes_received.get() >= 3 * MIB as u64
    });
    let file = File::options()
        .write(true)
        .open(site.root.path().join("cut"))
        .unwrap();
    file.set_len(100).unwrap();
    let results = finish(&mut net, &handle);
    assert_eq!((results.completed, results.failures_total), (1, 1));
    let failure = &results.failures[0];
    assert!(
        matches!(
            failure,
            ClientError::Reset {
                code: code::TRUNCATED,
                ..
            }
        ),
        "{failure}"
    );
    assert_eq!(site.written(), ["whole"]);
    assert!(site.output("whole") == content(1, MIB));
    assert_eq!(site.counters.truncated.get(), 1);
    assert!(net.counters(0).discarded_page_fault.get() >= 1);
    assert_eq!(net.counters(0).connections_lost.get(), 0);
}

#[test]
fn requests_wait_for_open_files() {
    let site = Site::new(&[("file", 200_000)]);
    let setup = setup();
    let client = HqClient {
        streams: 30,
        output: None,
        ..site.client(target(&setup), &["/file"; 30])
    };
    let server = HqServer {
        open_files_max: 2,
        ..site.server()
    };
    let (mut net, handle) = site.net(&setup, Link::default(), server, client);
    let results = finish(&mut net, &handle);
    assert_eq!((results.completed, results.failures_total), (30, 0));
    assert_eq!(results.bytes_received, 30 * 200_000);
}

#[test]
fn requests_beyond_those_that_may_wait_are_refused() {
    let site = Site::new(&[("file", 200_000)]);
    let setup = setup();
    let client = HqClient {
        streams: 10,
        output: None,
        ..site.client(target(&setup), &["/file"; 10])
    };
    let server = HqServer {
        open_files_max: 1,
        waiting_max: 3,
        ..site.server()
    };
    let (mut net, handle) = site.net(&setup, Link::default(), server, client);
    let results = finish(&mut net, &handle);
    assert_eq!((results.completed, results.failures_total), (4, 6));
    for failure in &results.failures {
        assert!(
            matches!(
                failure,
                ClientError::Reset {
                    code: code::BUSY,
                    ..
                }
            ),
            "{failure}"
        );
    }
}

#[test]
fn a_client_that_goes_away_frees_its_open_files() {
    let site = Site::new(&[("file", 30 * MIB), ("small", 70_000)]);
    let setup = setup();
    let log = RawLog::default();
    let server = HqServer {
        open_files_max: 1,
        ..site.server()
    };
    let mut net = Net::new(Link::default());
    net.add(setup.server("hq-interop", server.service(site.counters.clone()).unwrap()));
    let request = |path: &str| Script::new(Dir::Bi, format!("GET {path}\r\n"));
    let scripts = vec![request("/file"), request("/file")];
    net.add(setup.clients(vec![ready(Raw::new(&log, target(&setup), scripts))]));
    net.run_for(50 * MS);
    let (application, handle) = HqClient {
        output: None,
        ..site.client(target(&setup), &["/small"])
    }
    .application(ThreadStart::default())
    .unwrap();
    let second = net.add(setup.clients(vec![ready(application)]));
    net.run_for(50 * MS);
    assert_eq!(handle.counters().completed.get(), 0, "waits");
    log.lock().close = true;
    net.run_until(60 * SECOND, |net| net.shard(second).clients_finished());
    assert_eq!(handle.take_results().unwrap().completed, 1);
    assert_eq!(site.counters.aborted.get(), 2);
}

#[test]
fn stopping_a_client_leaves_no_partial_files() {
    let site = Site::new(&[("file", 30 * MIB), ("small", 10)]);
    let setup = setup();
    let link = Link {
        rate: Some(4_000_000),
        ..Link::default()
    };
    let client = HqClient {
        streams: 2,
        ..site.client(target(&setup), &["/small", "/file", "/file"])
    };
    let (mut net, handle) = site.net(&setup, link, site.server(), client);
    net.run_until(60 * SECOND, |_| {
        handle.counters().completed.get() == 1
            && handle.counters().bytes_received.get() > MIB as u64
    });
    net.stop(1);
    drop(net);
    let results = handle
        .take_results()
        .expect("at the latest when the shard is gone");
    assert_eq!((results.completed, results.failures_total), (1, 2));
    assert!(matches!(
        results.failures[0],
        ClientError::Incomplete { .. }
    ));
    assert_eq!(site.written(), ["small"]);
}

#[test]
fn a_disk_that_fails_costs_its_file() {
    let site = Site::new(&[("taken/file", 3 * MIB), ("good", 10)]);
    fs::write(site.output.path().join("taken"), "not a directory").unwrap();
    let results = site.fetch(&["/taken/file", "/good"]);
    assert_eq!((results.completed, results.failures_total), (1, 1));
    let failure = &results.failures[0];
    assert!(matches!(failure, ClientError::Write { .. }), "{failure}");
    assert_eq!(site.written(), ["good", "taken"]);
}

#[test]
fn a_lost_server_fails_what_is_not_complete() {
    let mut setup = setup();
    setup.settings.idle_timeout = Some(SECOND);
    let site = Site::new(&[("file", 10 * MIB)]);
    let client = site.client(target(&setup), &["/file", "/file"]);
    let client = HqClient {
        streams: 1,
        ..client
    };
    let (mut net, handle) = site.net(&setup, Link::default(), site.server(), client);
    net.run_until(20 * SECOND, |_| {
        handle.counters().bytes_received.get() > MIB as u64
    });
    net.link.loss = 1.0;
    let results = finish(&mut net, &handle);
    // The connection and both files.
    assert_eq!(
        (results.completed, results.failures_total),
        (0, 3),
        "{:?}",
        results.failures
    );
    drop(net);
    assert!(site.written().is_empty(), "{:?}", site.written());
}

#[test]
fn paths_that_cannot_be_asked_for_are_refused_at_the_start() {
    let setup = setup();
    let site = Site::new(&[]);
    let client = site.client(target(&setup), &["/good", "/../bad"]);
    let error = client.application(ThreadStart::default()).unwrap_err();
    assert!(error.to_string().contains("/../bad"), "{error}");
}

#[test]
fn odd_requests_are_answered_with_a_code() {
    let site = Site::new(&[("file", 10)]);
    let setup = setup();
    let (counters, seen) = counters();
    let log = RawLog::default();
    let silent = Script {
        finish: false,
        ..Script::new(Dir::Bi, "GET /file")
    };
    let reset = Script {
        reset: true,
        ..Script::new(Dir::Bi, "GET /fi")
    };
    let scripts = vec![
        Script::new(Dir::Bi, "GET /file"),
        Script::new(Dir::Bi, "GET /file\r\nand more"),
        Script::new(Dir::Bi, "PUT /file\r\n"),
        Script::new(Dir::Bi, ""),
        Script::new(Dir::Bi, "GET /../file\r\n"),
        Script::new(Dir::Bi, vec![b'x'; 100_000]),
        reset,
        silent,
        Script {
            finish: false,
            ..Script::new(Dir::Uni, "GET /file\r\n")
        },
    ];
    let mut net = Net::new(Link::default());
    let service = site.server().service(counters).unwrap();
    let raw = Raw::new(&log, target(&setup), scripts);
    join(&mut net, &setup, ALPN, service, vec![ready(raw)]);
    net.run_until(10 * SECOND, |_| log.all_ended(7));
    net.run_for(100 * MS);
    let bidi = |n| StreamId::new(Side::Client, Dir::Bi, n);
    let reset = |code: VarInt| Some((0, Err(ReadError::Reset(code))));
    assert_eq!(log.end(bidi(0)), Some((10, Ok(()))));
    assert_eq!(log.end(bidi(1)), Some((10, Ok(()))));
    assert_eq!(log.end(bidi(2)), reset(code::BAD_REQUEST));
    assert_eq!(log.end(bidi(3)), reset(code::BAD_REQUEST));
    assert_eq!(log.end(bidi(4)), reset(code::NOT_FOUND));
    assert_eq!(log.end(bidi(5)), reset(code::BAD_REQUEST));
    assert_eq!(log.end(bidi(6)), reset(code::CANCELLED));
    assert_eq!(log.end(bidi(7)), None, "waits for its end");
    let uni = StreamId::new(Side::Client, Dir::Uni, 0);
    assert_eq!(log.lock().streams[&uni].stopped, Some(code::BAD_REQUEST));
    assert_eq!((seen.requests.get(), seen.answered.get()), (2, 2));
}
