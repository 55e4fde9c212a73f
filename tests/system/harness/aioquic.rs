//! aioquic, the QUIC stack in Python, as client and server processes (`tests/peers`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Engine, Pki};

/// A client aimed at one server.
pub struct Aioquic<'a> {
    /// Certificates.
    pub pki: &'a Pki,
    /// IPv6 address of the server.
    pub host: String,
    /// UDP port of the server.
    pub port: u16,
}

impl Aioquic<'_> {
    /// The Python that has aioquic.
    pub fn python() -> PathBuf {
        let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
        std::env::var_os("STOQ_PYTHON").map_or_else(default, PathBuf::from)
    }

    /// A client of the server, trusting the authority of the PKI.
    pub fn client(&self, arguments: &[&str]) -> Command {
        self.client_of("client.py", arguments)
    }

    fn client_of(&self, client: &str, arguments: &[&str]) -> Command {
        let mut command = script(client);
        command.args(["--host", &self.host, "--port", &self.port.to_string()]);
        command
            .arg("--anchor")
            .arg(&self.pki.anchor)
            .args(arguments);
        command
    }

    /// Runs `client` and returns the line it reports; fails the test when the client fails.
    pub fn run(&self, arguments: &[&str]) -> Value {
        report(self.client(arguments), arguments)
    }

    /// Sends requests of HTTP/3, each `METHOD:PATH`; returns the answers (`tests/peers/http3_client.py`).
    pub fn request_http3(&self, requests: &[&str]) -> Vec<Value> {
        let mut line = report(self.client_of("http3_client.py", requests), requests);
        serde_json::from_value(line["answers"].take()).expect("a list")
    }

    /// A server process for HTTP/3 that listens, and serves `root`; held and read as the one below.
    pub fn serve_http3(&self, root: &Path) -> Engine {
        self.serve_with("http3_server.py", root, &[])
    }

    /// A server process that listens: services hq-interop (of `root`), perf and echo.
    ///
    /// Held as an `Engine`, for it is stopped and read the same way; its events are JSON lines on
    /// standard output.
    pub fn serve(&self, root: &Path, arguments: &[&str]) -> Engine {
        self.serve_with("server.py", root, arguments)
    }

    fn serve_with(&self, server: &str, root: &Path, arguments: &[&str]) -> Engine {
        let mut command = script(server);
        command.args(["--address", &self.host, "--port", &self.port.to_string()]);
        command
            .arg("--certificate")
            .arg(&self.pki.server.certificate);
        command
            .arg("--key")
            .arg(&self.pki.server.key)
            .arg("--root")
            .arg(root)
            .args(arguments);
        let server = Engine::spawn(command);
        server.wait_for_log("listening", std::time::Duration::from_secs(10));
        server
    }
}

/// Runs a client and returns the line it reports; fails the test when the client fails.
fn report(mut client: Command, arguments: &[&str]) -> Value {
    let output = client.output().expect("python starts");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "aioquic {arguments:?}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e} in {out:?}; {err}"))
}

fn script(name: &str) -> Command {
    let mut command = Command::new(Aioquic::python());
    command.arg("-B").arg(peer(name)).stdin(Stdio::null());
    command
}

/// A program of `tests/peers`.
pub(super) fn peer(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/peers")
        .join(name)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
