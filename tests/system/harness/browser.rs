//! Headless Chromium, in a process of its own for every page (`tests/peers/browser.py`).

use std::net::Ipv6Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::aioquic;

/// A look at one page of a server that is `localhost` to the browser.
pub struct Browser<'a> {
    /// SHA-256 of the server's public key, in Base64: the browser believes this key.
    pub key_hash: &'a str,
    /// Its address.
    pub address: Ipv6Addr,
    /// Its UDP port.
    pub port: u16,
}

/// What to do with the page.
#[derive(Default)]
pub struct Visit<'a> {
    /// Path of its URL.
    pub path: &'a str,
    /// JavaScript: what to wait for once the page is loaded.
    pub until: &'a str,
    /// JavaScript: the value, or a promise of it, that is the result.
    pub script: &'a str,
    /// Where to save how the page looked then, as PNG.
    pub screenshot: Option<&'a Path>,
    /// JavaScript: points `[x, y]` of the page to tell the colours of; none if empty.
    pub pixels: &'a str,
    /// How long each of the steps may take.
    pub patience: Duration,
}

/// What a visit brought.
pub struct Page {
    /// The result of its script.
    pub result: Value,
    /// Red, green and blue at each of the points.
    pub pixels: Vec<[u8; 3]>,
}

impl Browser<'_> {
    /// The programs it takes, by their Debian packages.
    pub const PROGRAMS: [&'static str; 3] = ["python3", "chromium", "chromedriver"];

    /// Visits a page; fails the test when that fails. Each step has its limit in the script.
    pub fn visit(&self, visit: &Visit<'_>) -> Page {
        let url = format!("https://localhost:{}{}", self.port, visit.path);
        let mut command = Command::new("python3");
        command
            .arg("-B")
            .arg(aioquic::peer("browser.py"))
            .arg(&url)
            .args(["--address", &self.address.to_string()])
            .args(["--spki-sha256", self.key_hash])
            .args(["--until", visit.until, "--script", visit.script])
            .args(["--timeout", &visit.patience.as_secs().to_string()]);
        if let Some(file) = visit.screenshot {
            command.arg("--screenshot").arg(file);
        }
        if !visit.pixels.is_empty() {
            command.args(["--pixels", visit.pixels]);
        }
        let output = command
            .stdin(Stdio::null())
            .output()
            .expect("python starts");
        let [out, err] =
            [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
        assert!(output.status.success(), "the browser at {url}: {err}");
        let mut answer: Value =
            serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e} in {out:?}; {err}"));
        Page {
            result: answer["result"].take(),
            pixels: serde_json::from_value(answer["pixels"].take()).expect("triples of bytes"),
        }
    }
}
