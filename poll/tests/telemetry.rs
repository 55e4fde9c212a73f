//! The telemetry socket of this very process, asked as another process would. One process, one EAL: one test.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use poll::Eal;
use poll::telemetry::{Handler, Registration, TelemetryError, Value, register};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType, connect, recv, send, socket,
};

/// Longer than any answer.
const BUFFER: usize = 32 * 1024;

/// Where EAL puts its run-time files: root's folder, else that of the login session, else /tmp.
fn folder(prefix: &str) -> PathBuf {
    let base = if rustix::process::geteuid().is_root() {
        PathBuf::from("/var/run")
    } else {
        std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| "/tmp".into(), PathBuf::from)
    };
    base.join("dpdk").join(prefix)
}

/// The asking side.
struct Client(OwnedFd);

impl Client {
    fn connect(prefix: &str) -> Self {
        let path = folder(prefix).join("dpdk_telemetry.v2");
        let address = SocketAddrUnix::new(&path).expect("a short path");
        let fd = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("a socket");
        set_socket_timeout(&fd, Timeout::Recv, Some(Duration::from_secs(10))).expect("a time-out");
        connect(&fd, &address).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let client = Self(fd);
        let greeting = client.read();
        assert_eq!(greeting["pid"], std::process::id(), "{greeting}");
        client
    }

    fn read(&self) -> serde_json::Value {
        let mut buffer = vec![0; BUFFER];
        let (length, _) = loop {
            match recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                other => break other.expect("an answer"),
            }
        };
        let text = String::from_utf8_lossy(&buffer[..length]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// The answer to `command`, which may have parameters behind a comma.
    fn ask(&self, command: &str) -> serde_json::Value {
        send(&self.0, command.as_bytes(), SendFlags::empty()).expect("the socket takes it");
        let mut answer = self.read();
        let path = command.split(',').next().unwrap_or_default();
        answer[path].take()
    }
}

fn text(text: &str) -> Value {
    Value::Str(text.to_owned())
}

fn dict(entries: &[(&str, Value)]) -> Value {
    let entry = |(key, value): &(&str, Value)| ((*key).to_owned(), value.clone());
    Value::Dict(entries.iter().map(entry).collect())
}

/// What a handler refers to may be torn down when its registration is gone: no answer is being made any more.
fn a_registration_ends_after_its_answers(eal: &Eal, client: &Client) {
    let (entered, enter) = mpsc::channel();
    let (go_on, going_on) = mpsc::channel::<()>();
    let gone = Arc::new(AtomicBool::new(false));
    let channels = Mutex::new((entered, going_on));
    let seen = Arc::clone(&gone);
    let slow: Handler = Box::new(move |_| {
        let channels = channels.lock().expect("no panic");
        channels.0.send(()).expect("the test waits");
        // Until the test drops its end.
        let _ = channels.1.recv();
        Value::U64(seen.load(Ordering::SeqCst).into())
    });
    let slow = register(eal, "/stoq/slow", "A test. No parameters", slow).expect("a command");
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| client.ask("/stoq/slow"));
        enter.recv().expect("the handler is called");
        scope.spawn(|| {
            drop(slow);
            gone.store(true, Ordering::SeqCst);
        });
        // Time to do it wrong.
        std::thread::sleep(Duration::from_millis(50));
        drop(go_on);
        assert_eq!(answer.join().expect("an answer"), "0", "not gone yet");
    });
    assert_eq!(client.ask("/stoq/slow"), serde_json::json!({}));
}

#[test]
fn commands_are_answered_in_json() {
    let prefix = format!("stoq-telemetry-{}", std::process::id());
    let file_prefix = format!("--file-prefix={prefix}");
    let args = [
        "-l",
        "0",
        "--no-huge",
        "-m",
        "64",
        "--no-pci",
        "--no-shconf",
        &file_prefix,
    ];
    let eal = Eal::start(&args.map(String::from)).expect("EAL starts without huge pages");
    let register = |path, handler: fn(&str) -> Value| -> Result<Registration, TelemetryError> {
        register(&eal, path, "A test. No parameters", Box::new(handler))
    };
    let client = Client::connect(&prefix);

    let nested = register("/stoq/nested", |parameters| {
        let shard = |n| dict(&[("number", Value::U64(n)), ("name", text("work \"1\"\\"))]);
        dict(&[
            ("asked_for", text(parameters)),
            ("most", Value::U64(u64::MAX)),
            ("shards", Value::List(vec![shard(0), shard(1)])),
            ("by.name", dict(&[("left", shard(2))])),
            ("numbers", Value::List(vec![Value::U64(1), Value::U64(2)])),
            ("words", Value::List(vec![text("a"), text("ü\n")])),
        ])
    })
    .expect("a command");
    assert_eq!(nested.path(), "/stoq/nested");
    let shard = |n| serde_json::json!({ "number": n, "name": "work \"1\"\\" });
    assert_eq!(
        client.ask("/stoq/nested,3,4"),
        serde_json::json!({
            "asked_for": "3,4", "most": u64::MAX, "shards": { "0": shard(0), "1": shard(1) },
            "by_name": { "left": shard(2) }, "numbers": [1, 2], "words": ["a", "? "],
        })
    );
    assert_eq!(client.ask("/stoq/nested")["asked_for"], "", "no parameters");

    // Answers that are no dictionary.
    let _list = register("/stoq/list", |_| Value::List(vec![Value::U64(7)])).expect("a command");
    assert_eq!(client.ask("/stoq/list"), serde_json::json!([7]));
    let _text = register("/stoq/text", |_| text(&"t".repeat(10_000))).expect("a command");
    assert_eq!(client.ask("/stoq/text"), "t".repeat(8191));
    let _number = register("/stoq/number", |_| Value::U64(42)).expect("a command");
    assert_eq!(client.ask("/stoq/number"), "42");

    // More entries than DPDK takes, and more bytes than fit its buffer.
    let _many = register("/stoq/many", |_| {
        Value::Dict(
            (0..300)
                .map(|n| (format!("key_{n}"), Value::U64(n)))
                .collect(),
        )
    })
    .expect("a command");
    let answer = client.ask("/stoq/many");
    assert_eq!(answer["left_out"], 45, "{answer}");
    assert_eq!(answer.as_object().map(serde_json::Map::len), Some(256));
    let _long = register("/stoq/long", |_| {
        Value::Dict(
            (0..200)
                .map(|n| (format!("key_{n}"), text(&"\"".repeat(100))))
                .collect(),
        )
    })
    .expect("a command");
    let answer = client.ask("/stoq/long");
    let (kept, left_out) = (
        answer.as_object().expect("a dictionary"),
        &answer["left_out"],
    );
    assert_eq!(
        kept.len() as u64 - 1 + left_out.as_u64().expect("a number"),
        200
    );
    assert!(kept.len() > 20, "{answer}");
    let _heavy = register("/stoq/heavy", |_| {
        let one = || {
            Value::Dict(
                (0..40)
                    .map(|n| (format!("key_{n}"), Value::U64(n)))
                    .collect(),
            )
        };
        Value::Dict((0..100).map(|n| (format!("shard_{n}"), one())).collect())
    })
    .expect("a command");
    let answer = client.ask("/stoq/heavy");
    let (kept, left_out) = (
        answer.as_object().expect("a dictionary"),
        &answer["left_out"],
    );
    assert_eq!(
        kept.len() as u64 - 1 + left_out.as_u64().expect("a number"),
        100
    );
    assert_eq!(
        answer["shard_0"].as_object().map(serde_json::Map::len),
        Some(40)
    );

    // A handler that panics harms nobody.
    let _panics = register("/stoq/panics", |_| panic!("in a handler")).expect("a command");
    assert_eq!(client.ask("/stoq/panics"), serde_json::Value::Null);
    assert_eq!(client.ask("/stoq/number"), "42");

    // Commands that are taken, or none.
    let taken = register("/stoq/number", |_| Value::U64(1)).expect_err("it is registered");
    assert!(
        matches!(taken, TelemetryError::Taken("/stoq/number")),
        "{taken}"
    );
    let form = register("stoq", |_| Value::U64(1)).expect_err("no slash");
    assert!(matches!(form, TelemetryError::Form("stoq")), "{form}");

    a_registration_ends_after_its_answers(&eal, &client);

    // After the end of a registration, and after the next one.
    drop(nested);
    assert_eq!(client.ask("/stoq/nested"), serde_json::json!({}));
    let _again = register("/stoq/nested", |_| text("again")).expect("it is free");
    assert_eq!(client.ask("/stoq/nested"), "again");
    let listed = client.ask("/");
    let listed = listed.as_array().expect("a list of commands");
    let count = listed.iter().filter(|path| *path == "/stoq/nested").count();
    assert_eq!(count, 1, "{listed:?}");
    drop(client);
    eal.cleanup().expect("nothing is open");
    // EAL leaves it; the prefix is used once.
    std::fs::remove_dir_all(folder(&prefix)).expect("EAL has made it");
}
