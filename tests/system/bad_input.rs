//! What a person sees who mistyped something: exit code 2 for usage and configuration, 1 for what
//! goes wrong while running; what, where (file:line:column), and how to mend it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{Engine, Identity, Namespace, Need, Pki, Turn};

/// A configuration without faults; `@server` and `@anchor` become paths of the test's files.
const GOOD: &str = r#"eal: ["-l", "0-1", "--no-huge", "-m", "256", "--no-pci", "--no-shconf"]
ports:
  - { name: left, link: right, mtu: 1500, addresses: ["fd00:5701::1/64"] }
  - { name: right, link: left, mtu: 1500, addresses: ["fd00:5701::2/64"] }
shards:
  - { name: server, port: left, queue: 0, lcore: 0 }
  - { name: client, port: right, queue: 0, lcore: 1 }
identities:
  - { name: me, certificate: @server.pem, key: @server.key }
transport:
  idle_timeout: 30s
listeners:
  - name: main
    shard: server
    udp_port: 4433
    identity: me
    services:
      echo: {}
clients:
  - name: load
    shard: client
    remote: "[fd00:5701::1]:4433"
    server_name: localhost
    trust: { identity: me }
    echo: { size: 64B, duration: 1s }
"#;

/// A fault: what is replaced, by what (`^` marks the place the message has to name), and parts of
/// the message.
struct Fault(&'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip] // a table
const FAULTS: &[Fault] = &[
    Fault("shards:", "^shard:", &["unknown key `shard`", "`shards`"]),
    Fault("mtu: 1500, addresses: [\"fd00:5701::1/64\"]", "^mut: 1500", &["ports[0]", "`mtu`"]),
    Fault("idle_timeout: 30s", "idle_timeout: ^30 parsecs", &["transport.idle_timeout", "ms"]),
    Fault("size: 64B", "size: ^64 stones", &["echo.size", "KiB"]),
    Fault("mtu: 1500, addresses: [\"fd00:5701::1/64\"]", "mtu: ^900", &["ports[0].mtu", "1280"]),
    Fault("\"fd00:5701::1/64\"", "^\"192.0.2.1/24\"", &["ports[0].addresses[0]", "IPv6"]),
    Fault("link: right, mtu", "mtu", &["ports[0]", "device", "link"]),
    Fault("link: right", "link: ^nowhere", &["ports[0].link", "nowhere"]),
    Fault("  - { name: client", "  - { name: twin, port: left, queue: ^0, lcore: 1 }\n  - { name: client",
          &["shards[1].queue", "queue 0", "`left`"]),
    Fault("lcore: 1", "lcore: ^7", &["shards[1].lcore", "-l"]),
    Fault("shard: server", "shard: ^sever", &["listeners[0].shard", "server"]),
    Fault("identity: me\n", "identity: ^you\n", &["listeners[0].identity", "you"]),
    Fault("udp_port: 4433", "udp_port: ^70000", &["udp_port", "65535"]),
    Fault("services:\n      echo", "services:\n      ^eco", &["services", "`echo`"]),
    Fault("certificate: @server.pem", "certificate: ^missing.pem", &["missing.pem"]),
    Fault("certificate: @server.pem, key: @server.key",
          "certificate: ^@server.pem, key: @client.key", &["identities[0]", "key"]),
    Fault("certificate: @server.pem, key: @server.key",
          "certificate: ^@expired.pem, key: @expired.key", &["expired"]),
    Fault("identity: me\n", "identity: me\n    client_auth: ^required\n", &["trust"]),
    Fault("remote: \"[fd00:5701::1]:4433\"", "remote: ^\"fd00:5701::1\"", &["remote"]),
    Fault("echo: { size: 64B, duration: 1s }", "echo: {}\n    perf: {}", &["clients[0]", "perf"]),
    Fault("echo: { size: 64B, duration: 1s }", "hq: { paths: [^\"/a/../b\"] }", &["hq.paths[0]", "`/a/../b`"]),
    Fault("echo: { size: 64B, duration: 1s }", "echo: { rate: ^2000000000/s }", &["echo.rate", "1000000000/s"]),
    Fault("server_name: localhost", "server_name: ^foo bar", &["clients[0].server_name", "foo bar"]),
    Fault("certificate: @server.pem, key: @server.key", "self_signed: [^\"a b\"]", &["self_signed[0]", "DNS"]),
    Fault("- { name: left, link: right", "- { name: ^a-name-of-twenty-let, link: right", &["ports[0].name", "19"]),
    Fault("clients:\n  - name", "clients:\n  - [\n  ^- name", &[]),
    Fault("\"-m\", \"256\"", "\"-m\", \"8\"", &["MiB", "-m"]),
    Fault("transport:", "limits: { incoming: 10, retry_above: ^11 }\ntransport:", &["limits.retry_above", "`incoming` is 10"]),
    Fault("transport:", "limits: { connections: 10, incoming: ^11 }\ntransport:", &["limits.incoming", "`connections` is 10"]),
    Fault("transport:", "limits: { handover: ^0 }\ntransport:", &["limits.handover", "1..=65536"]),
    Fault("transport:", "limits: { strangers: ^many }\ntransport:", &["limits.strangers", "100/s"]),
    Fault("  - { name: client", "  - { name: more, port: left, queue: 1, lcore: ^2 }\n  - { name: client",
          &["shards[1].lcore", "core list 0-1"]),
    Fault("  - { name: client", "  - { name: more, port: left, queue: 1, lcore: ^0 }\n  - { name: client",
          &["shards[1].lcore", "lcore 0"]),
    Fault("mtu: 1500, addresses: [\"fd00:5701::1/64\"]", "queues: ^2", &["ports[0].queues", "queue 1"]),
    Fault("mtu: 1500, addresses: [\"fd00:5701::1/64\"]", "rss_key: ^\"00\"", &["ports[0].rss_key", "link"]),
    Fault("transport:", "connection_ids: { host_id: ^\"010203040506070809\" }\ntransport:",
          &["connection_ids.host_id", "1 to 8"]),
    Fault("transport:", "connection_ids: { host_id: ^\"host\" }\ntransport:",
          &["connection_ids.host_id", "hexadecimal"]),
    Fault("transport:", "connection_ids: { keys: [{ rotation: 0, key: ^\"8f95f09245765f80\" }] }\ntransport:",
          &["connection_ids.keys[0].key", "8 bytes, not 16"]),
    Fault("transport:", "connection_ids: { keys: [{ rotation: ^7, key: \"8f95f09245765f80256934e50c66207f\" }] }\ntransport:",
          &["connection_ids.keys[0].rotation", "0..=6"]),
    Fault("transport:", "connection_ids: { reset_key: ^\"00\" }\ntransport:", &["connection_ids.reset_key", "not 32"]),
    Fault("transport:", "metrics: { listen: ^\"localhost\" }\ntransport:", &["metrics.listen", "[::1]:9464"]),
    Fault("transport:", "metrics: { listen: ^\"[fd00:5701::1]:9464\" }\ntransport:", &["metrics.listen", "`left`"]),
];

struct Folder {
    folder: TempDir,
    pki: Pki,
}

impl Folder {
    fn new() -> Self {
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable");
        let pki = Pki::new(folder.path());
        Self { folder, pki }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the configuration with `from` replaced; returns its path and the marked place as
    /// `:line:column`.
    fn write(&self, from: &str, to: &str) -> (PathBuf, String) {
        assert!(GOOD.contains(from), "{from:?} is not in the configuration");
        let mut text = GOOD.replacen(from, to, 1);
        let Pki {
            server,
            client,
            expired,
            ..
        } = &self.pki;
        for (word, Identity { certificate, key }) in [
            ("@server", server),
            ("@client", client),
            ("@expired", expired),
        ] {
            text = text.replace(&format!("{word}.pem"), &certificate.display().to_string());
            text = text.replace(&format!("{word}.key"), &key.display().to_string());
        }
        let place = text.find('^').map_or(String::new(), |at| {
            let before = &text[..at];
            let line = before.matches('\n').count() + 1;
            let column = at - before.rfind('\n').map_or(0, |newline| newline + 1) + 1;
            format!(":{line}:{column}:")
        });
        let path = self.folder.path().join("case.yaml");
        std::fs::write(&path, text.replace('^', "")).expect("the test folder is writable");
        (path, place)
    }
}

fn check(config: &Path) -> Output {
    Engine::command()
        .arg("check")
        .arg("--config")
        .arg(config)
        .output()
        .expect("it starts")
}

fn error_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn good_configuration_passes() {
    let output = check(&Folder::new().write("ports:", "ports:").0);
    assert!(output.status.success(), "{}", error_text(&output));
}

#[test]
fn every_fault_is_named_with_its_place() {
    let folder = Folder::new();
    let mut wrong = String::new();
    for Fault(from, to, parts) in FAULTS {
        let (config, place) = folder.write(from, to);
        let output = check(&config);
        let text = error_text(&output);
        let file = format!("case.yaml{place}");
        let named = text.contains(&file) && parts.iter().all(|part| text.contains(part));
        if output.status.code() != Some(2) || !named {
            wrong += &format!(
                "{to:?}: want {file} and {parts:?}; {}: {text}\n",
                output.status
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn bad_arguments_are_usage_errors() {
    let folder = Folder::new();
    let good = folder.write("ports:", "ports:").0;
    let good = good.to_str().expect("the target's path is UTF-8");
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["rnu"], "rnu"),
        (&["run"], "--config"),
        (&["run", "--config", "/nowhere/x.yaml"], "/nowhere/x.yaml"),
        (
            &["run", "--config", good, "--duration", "5 parsecs"],
            "duration",
        ),
        (&["run", "--config", good, "--jsno"], "--json"),
        (&["-l", "0-1", "--", "rnu"], "rnu"),
        (
            &["-l", "0", "--no-huge", "--", "check", "--config", good],
            "shards[1].lcore",
        ),
    ];
    for (arguments, part) in cases {
        let output = Engine::command()
            .args(*arguments)
            .output()
            .expect("it starts");
        let text = error_text(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(part), "{arguments:?}: no {part:?} in {text}");
    }
}

/// Writes the configuration of an engine with one device; returns its path.
fn write_device(folder: &Path, vdev: &str) -> PathBuf {
    let device = vdev.split(',').next().unwrap_or(vdev);
    let yaml = format!(
        "eal: [\"-l\", \"0\", \"--no-huge\", \"-m\", \"256\", \"--no-pci\", \"--no-shconf\", \"--vdev={vdev}\"]
ports:
  - {{ name: wire, device: {device}, addresses: [\"fd00:5701::1/64\"] }}
shards:
  - {{ name: work, port: wire, queue: 0, lcore: 0 }}
identities:
  - {{ name: me, self_signed: [\"localhost\"] }}
listeners:
  - {{ name: main, shard: work, udp_port: 4433, identity: me, services: {{ echo: {{}} }} }}
"
    );
    let config = folder.join("device.yaml");
    std::fs::write(&config, yaml).expect("the test folder is writable");
    config
}

/// Runs an engine for two seconds, or until it ends with an error, which it must; returns the text.
fn error_of(mut command: Command, config: &Path) -> String {
    let output = command
        .args(["run", "--duration", "2s", "--config"])
        .arg(config)
        .output();
    let output = output.expect("it starts");
    let text = error_text(&output);
    assert!(
        matches!(output.status.code(), Some(1 | 2)),
        "{}: {text}",
        output.status
    );
    text
}

#[test]
fn unknown_device_is_named() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let folder = Folder::new();
    let config = write_device(folder.path(), "net_nonsense0");
    let text = error_of(Engine::command(), &config);
    assert!(text.contains("net_nonsense0"), "{text}");
}

#[test]
fn busy_tap_name_is_refused() {
    let Some(_turn) = Turn::take(&[Need::Root, Need::Tun, Need::Ip]) else {
        return;
    };
    let (folder, namespace) = (Folder::new(), Namespace::new());
    let config = write_device(folder.path(), "net_tap0,iface=stoq0");
    let first = namespace.inside(|| Engine::run(&config));
    first.wait_until_ready();
    let text = namespace.inside(|| error_of(Engine::command(), &config));
    assert!(text.contains("stoq0"), "{text}");
    first.stop().expect_clean();
}

#[test]
fn tap_without_permission_is_explained() {
    let Some(_turn) = Turn::take(&[Need::Root, Need::Tun, Need::Ip]) else {
        return;
    };
    // A copy of the engine, in a folder that a user without rights may enter.
    let folder = TempDir::new().expect("there is a folder for temporary files");
    let engine = folder.path().join("engine");
    std::fs::copy(Engine::binary(), &engine).expect("there is room for a copy");
    let config = write_device(folder.path(), "net_tap0,iface=stoq0");
    for path in [folder.path(), &engine, &config] {
        make_public(path);
    }
    let mut command = Command::new(&engine);
    command.uid(65534).gid(65534).current_dir("/");
    let text = Namespace::new().inside(|| error_of(command, &config));
    assert!(text.contains("net_tap0") && text.contains("root"), "{text}");
}

fn make_public(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let permissions = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, permissions).expect("just made");
}

#[test]
fn end_by_signal_is_a_good_end() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let folder = Folder::new();
    let (config, _) = folder.write("duration: 1s", "duration: 60s");
    let engine = Engine::run(&config);
    engine.wait_until_ready();
    std::thread::sleep(Duration::from_millis(500));
    let report = engine.stop().expect_clean();
    assert_eq!(report["connections"]["lost"], 0, "{report:#}");
}
