//! HTTP/3 over TAP by the example `http3`: Chromium loads from its server, its client fetches from
//! aioquic's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::harness::{
    Aioquic, Browser, Digest, ENGINE_ADDRESS, KERNEL_ADDRESS, Need, Outcome, Page, SERVER_PORT,
    TapLab, Visit, example, write_file,
};

const GIB: u64 = 1 << 30;

/// A page with a style sheet, a script and images.
fn site() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/site")
}

/// The example serves a folder to whoever is on the kernel's side.
fn serving_lab(needs: &[Need], folder: impl FnOnce(&TapLab) -> PathBuf) -> Option<TapLab> {
    let mut lab = TapLab::new(&[&[Need::Example("http3")], needs].concat())?;
    let folder = folder(&lab);
    let (certificate, key) = (
        lab.pki.server.certificate.clone(),
        lab.pki.server.key.clone(),
    );
    lab.start_program(|config| {
        let mut command = Command::new(example("http3"));
        command
            .args(["serve", "--udp-port", &SERVER_PORT.to_string(), "--config"])
            .arg(config);
        command
            .arg("--certificate")
            .arg(certificate)
            .arg("--key")
            .arg(key)
            .arg(folder);
        command
    });
    lab.engine().wait_until_ready();
    Some(lab)
}

/// Visits a page of the example, whose key is known by what it says at its start.
fn visit(lab: &TapLab, visit: &Visit<'_>) -> Page {
    let log = lab.engine().log();
    let key_hash = log
        .lines()
        .find_map(|line| line.strip_prefix("ready; the hash of the key is "));
    let browser = Browser {
        key_hash: key_hash.expect("said when it was ready"),
        address: ENGINE_ADDRESS,
        port: SERVER_PORT,
    };
    lab.inside(|| browser.visit(visit))
}

/// What the script of the page was told, and what it looks like: a PNG in the target folder.
#[test]
fn chromium_loads_a_page() {
    let Some(mut lab) = serving_lab(&[Need::Browser], |_| site()) else {
        return;
    };
    let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("http3-page.png");
    let _ = std::fs::remove_file(&screenshot);
    let task = Visit {
        path: "/",
        until: "document.title == 'loaded'",
        script: "({
            protocols: ['navigation', 'resource']
                .flatMap(kind => performance.getEntriesByType(kind))
                .map(entry => [new URL(entry.name).pathname, entry.nextHopProtocol]),
            images: [...document.images].map(image => [image.naturalWidth, image.naturalHeight]),
            background: getComputedStyle(document.body).backgroundColor,
            rows: document.querySelectorAll('td').length,
        })",
        screenshot: Some(&screenshot),
        pixels: "[[4, 4], ...[[0, 240, 55], [1, 154, 34], [2, 80, 20]].map(([image, x, y]) => {
            const box = document.images[image].getBoundingClientRect();
            return [box.x + x, box.y + y];
        })]",
        patience: Duration::from_secs(30),
    };
    let Page {
        result: page,
        pixels,
    } = visit(&lab, &task);
    let protocols: Vec<(String, String)> =
        serde_json::from_value(page["protocols"].clone()).expect("pairs of strings");
    assert!(
        protocols.iter().all(|(_, protocol)| protocol == "h3"),
        "{protocols:?}"
    );
    assert_eq!(protocols[0].0, "/", "the page itself: {protocols:?}");
    for path in [
        "/style.css",
        "/script.js",
        "/hills.png",
        "/rings.png",
        "/mark.svg",
    ] {
        assert!(
            protocols.iter().any(|(loaded, _)| loaded == path),
            "no {path} in {protocols:?}"
        );
    }
    assert_eq!(page["images"], json!([[320, 200], [200, 200], [160, 160]]));
    assert_eq!(
        page["background"], "rgb(250, 246, 236)",
        "the style sheet is applied"
    );
    assert!(page["rows"].as_u64() > Some(15), "the script ran: {page}");
    for (place, pixel, expected) in [
        ("the background", pixels[0], [250, 246, 236]),
        ("the sun over the hills", pixels[1], [255, 220, 120]),
        ("a ring", pixels[2], [253, 80, 251]),
        ("the disc of the mark", pixels[3], [200, 90, 40]),
    ] {
        // An image may be drawn half a pixel off.
        let alike = |(a, b): (u8, u8)| a.abs_diff(b) <= 12;
        assert!(
            pixel.into_iter().zip(expected).all(alike),
            "{place} is {pixel:?}, not {expected:?}: see {}",
            screenshot.display()
        );
    }
    lab.stop().expect_clean();
}

#[test]
fn chromium_downloads_1_gib_with_equal_hash() {
    let mut digest = None;
    let prepare = |lab: &TapLab| {
        for file in ["index.html", "style.css", "script.js"] {
            std::fs::copy(site().join(file), lab.www().join(file)).expect("copied");
        }
        digest = Some(write_file(&lab.www().join("big.bin"), GIB));
        lab.www()
    };
    // The browser holds the file several times over.
    let needs = [Need::Browser, Need::Memory(6 * GIB)];
    let Some(mut lab) = serving_lab(&needs, prepare) else {
        return;
    };
    let task = Visit {
        path: "/",
        until: "document.title == 'loaded'",
        script: "fetch('/big.bin')
            .then(response => response.arrayBuffer())
            .then(async bytes => ({
                length: bytes.byteLength,
                hash: [...new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))]
                    .map(byte => byte.toString(16).padStart(2, '0')).join(''),
                protocol: performance.getEntriesByName(location.origin + '/big.bin')[0].nextHopProtocol,
            }))",
        patience: Duration::from_secs(150),
        ..Visit::default()
    };
    let download = visit(&lab, &task).result;
    let expected = json!({
        "length": GIB,
        "hash": digest.expect("written").to_string(),
        "protocol": "h3",
    });
    assert_eq!(download, expected);
    lab.stop().expect_clean();
}

/// Refusals come as responses, and leave the connection alone.
#[test]
fn chromium_is_refused_what_is_not_served() {
    let prepare = |lab: &TapLab| {
        std::fs::write(lab.www().join("index.html"), "<title>loaded</title>").expect("written");
        std::fs::write(lab.www().join("empty.txt"), "").expect("written");
        std::fs::write(lab.folder().join("secret.txt"), "secret").expect("written");
        std::os::unix::fs::symlink("../secret.txt", lab.www().join("link.txt")).expect("made");
        std::fs::create_dir(lab.www().join("folder")).expect("made");
        let socket = lab.www().join("socket");
        mknodat(CWD, &socket, FileType::Socket, Mode::RUSR, 0).expect("made");
        lab.www()
    };
    let Some(mut lab) = serving_lab(&[Need::Browser], prepare) else {
        return;
    };
    let task = Visit {
        path: "/",
        until: "document.title == 'loaded'",
        script: "Promise.all([
            ['GET', '/empty.txt'], ['HEAD', '/index.html'], ['GET', '/missing'], ['GET', '/folder'],
            ['GET', '/..%2fsecret.txt'], ['GET', '/link.txt'], ['GET', '/%zz'], ['POST', '/'],
            ['GET', '/socket'],
        ].map(async ([method, path]) => {
            const response = await fetch(path, { method });
            return [response.status, response.headers.get('content-length'), (await response.text()).length];
        }))",
        patience: Duration::from_secs(30),
        ..Visit::default()
    };
    let answers = visit(&lab, &task).result;
    let statuses: Vec<&Value> = answers
        .as_array()
        .expect("a list")
        .iter()
        .map(|a| &a[0])
        .collect();
    assert_eq!(
        statuses,
        [200, 200, 404, 404, 403, 403, 400, 405, 404],
        "{answers}"
    );
    assert_eq!(answers[0], json!([200, "0", 0]), "an empty file");
    assert_eq!(
        answers[1],
        json!([200, "21", 0]),
        "HEAD says the length and sends nothing"
    );
    assert_eq!(answers[2][2], "404 Not Found\n".len(), "{answers}");
    lab.stop().expect_clean();
}

/// Nothing follows the header section of an answer to HEAD (RFC 9110 §9.3.2).
#[test]
fn refusals_of_head_have_no_body() {
    let prepare = |lab: &TapLab| {
        std::os::unix::fs::symlink("../secret.txt", lab.www().join("link.txt")).expect("made");
        lab.www()
    };
    let Some(mut lab) = serving_lab(&[Need::Aioquic], prepare) else {
        return;
    };
    let aioquic = Aioquic {
        pki: &lab.pki,
        host: ENGINE_ADDRESS.to_string(),
        port: SERVER_PORT,
    };
    let requests = ["HEAD:/missing", "HEAD:/link.txt", "GET:/missing", "PUT:/"];
    let answers = lab.inside(|| aioquic.request_http3(&requests));
    let brief = answers.iter().map(|a| (&a["status"], &a["body"]));
    let brief: Vec<_> = brief.map(|(status, body)| json!([status, body])).collect();
    let not_found = "404 Not Found\n".len();
    let not_allowed = "405 Method Not Allowed\n".len();
    let expected = [
        json!([404, 0]),
        json!([403, 0]),
        json!([404, not_found]),
        json!([405, not_allowed]),
    ];
    assert_eq!(brief, expected, "{answers:?}");
    assert_eq!(answers[3]["fields"]["allow"], "GET, HEAD", "{answers:?}");
    lab.stop().expect_clean();
}

/// The browser stops a stream in the middle, and goes on with the connection.
#[test]
fn chromium_gives_a_download_up() {
    let prepare = |lab: &TapLab| {
        std::fs::write(lab.www().join("index.html"), "<title>loaded</title>").expect("written");
        write_file(&lab.www().join("big.bin"), GIB);
        lab.www()
    };
    let Some(mut lab) = serving_lab(&[Need::Browser], prepare) else {
        return;
    };
    let task = Visit {
        path: "/",
        until: "document.title == 'loaded'",
        script: "(async () => {
            const controller = new AbortController();
            const response = await fetch('/big.bin', { signal: controller.signal });
            const first = await response.body.getReader().read();
            controller.abort();
            const page = await fetch('/index.html');
            return [first.value.length > 0, page.status, await page.text()];
        })()",
        patience: Duration::from_secs(30),
        ..Visit::default()
    };
    let answer = visit(&lab, &task).result;
    assert_eq!(answer, json!([true, 200, "<title>loaded</title>"]));
    let report = lab.stop().expect_clean();
    let sent = report["bytes_sent"].as_u64().expect("a count");
    assert!(sent < GIB / 2, "it went on: {report:#}");
}

/// The example fetches from aioquic's server; what arrives, and whether it ended well. The server
/// is called `localhost`, or by its address in brackets.
fn fetch(lab: &mut TapLab, host: &str, paths: &[&str]) -> (PathBuf, Outcome, Outcome) {
    let aioquic = Aioquic {
        pki: &lab.pki,
        host: "::".into(),
        port: SERVER_PORT,
    };
    let server = lab.inside(|| aioquic.serve_http3(&lab.www()));
    let output = lab.folder().join("downloads");
    let anchor = lab.pki.anchor.clone();
    lab.start_program(|config| {
        let mut command = Command::new(example("http3"));
        command
            .arg("fetch")
            .arg("--config")
            .arg(config)
            .arg("--trust")
            .arg(anchor);
        command.arg("--output").arg(&output);
        if host == "localhost" {
            command.args(["--address", &KERNEL_ADDRESS.to_string()]);
        }
        let url = |path| format!("https://{host}:{SERVER_PORT}{path}");
        command.args(paths.iter().map(url));
        command
    });
    let client = lab.take_engine().wait(Duration::from_secs(100));
    (output, client, server.stop())
}

#[test]
fn the_client_fetches_from_aioquic_with_equal_hashes() {
    let Some(mut lab) = TapLab::new(&[Need::Example("http3"), Need::Aioquic]) else {
        return;
    };
    let files = [
        ("/big.bin", 64 << 20),
        ("/small.bin", 1000),
        ("/empty.bin", 0),
    ];
    let digests = files.map(|(path, size)| write_file(&lab.www().join(&path[1..]), size));
    let (output, client, server) = fetch(&mut lab, "localhost", &files.map(|(path, _)| path));
    client.expect_clean();
    for ((path, _), digest) in files.iter().zip(digests) {
        assert_eq!(Digest::of_file(&output.join(&path[1..])), digest, "{path}");
    }
    let closed = r#"{"event": "closed", "code": 256, "by_application": true}"#;
    assert!(server.output.contains(closed), "H3_NO_ERROR: {server}");
}

#[test]
fn the_client_names_what_the_server_does_not_have() {
    let Some(mut lab) = TapLab::new(&[Need::Example("http3"), Need::Aioquic]) else {
        return;
    };
    let (output, client, _) = fetch(&mut lab, "localhost", &["/missing.bin"]);
    assert_eq!(client.status.code(), Some(1), "{client}");
    assert!(
        client.log.contains("/missing.bin: 404 Not Found"),
        "{client}"
    );
    assert_eq!(
        std::fs::read_dir(&output).expect("made").count(),
        0,
        "no file is left"
    );
}

#[test]
fn the_client_takes_an_address_in_brackets() {
    let Some(mut lab) = TapLab::new(&[Need::Example("http3"), Need::Aioquic]) else {
        return;
    };
    let digest = write_file(&lab.www().join("small.bin"), 1000);
    let host = format!("[{KERNEL_ADDRESS}]");
    let (output, client, _) = fetch(&mut lab, &host, &["/small.bin"]);
    client.expect_clean();
    assert_eq!(Digest::of_file(&output.join("small.bin")), digest);
}

#[test]
fn the_client_lets_no_file_overwrite_another() {
    let Some(mut lab) = TapLab::new(&[Need::Example("http3"), Need::Aioquic]) else {
        return;
    };
    let (output, client, _) = fetch(&mut lab, "localhost", &["/a/file.bin", "/b/file.bin"]);
    assert_eq!(client.status.code(), Some(1), "{client}");
    for path in ["/a/file.bin", "/b/file.bin"] {
        assert!(client.log.contains(path), "{client}");
    }
    assert!(!output.exists(), "nothing was fetched");
}
