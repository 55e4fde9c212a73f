#!/usr/bin/env python3
"""Headless Chromium, driven by the WebDriver protocol (W3C) through chromedriver.

Opens one page with QUIC forced on its origin, waits until a condition holds, runs a script in the
page, and prints {"browser": VERSION, "result": ...} as one line of JSON on standard output. Uses
the standard library only.
"""

import argparse
import base64
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

# The browser is told to speak to one origin, and to nobody else.
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--window-size=1000,800",
]
# Seconds between two looks at the condition.
INTERVAL = 0.1


class Driver:
    """A chromedriver process, and the browser that it holds."""

    def __init__(self, program: str) -> None:
        self.process = subprocess.Popen(
            [program, "--port=0"], stdout=subprocess.PIPE, stderr=sys.stderr, text=True
        )
        for line in self.process.stdout:
            started = re.search(r"started successfully on port (\d+)", line)
            if started:
                break
        else:
            raise RuntimeError("chromedriver did not start")
        self.root = f"http://127.0.0.1:{started[1]}"
        self.session = ""
        self.version = ""

    def call(self, method: str, path: str, body=None):
        """One command; an error of the driver becomes an exception with its message."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.root + path, data, {"content-type": "application/json"}, method=method
        )
        # No proxy of the environment between us and the loopback interface.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def open(self, flags: list[str], timeout: float) -> None:
        """Start the browser. Pages and scripts may take `timeout` seconds."""
        milliseconds = int(timeout * 1000)
        capabilities = {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": flags},
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"pageLoad": milliseconds, "script": milliseconds},
        }
        answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.session = f"/session/{answer['sessionId']}"
        self.version = answer["capabilities"]["browserVersion"]

    def run(self, script: str, kind: str = "sync"):
        """The value of an expression in the page."""
        body = {"script": script, "args": []}
        return self.call("POST", f"{self.session}/execute/{kind}", body)

    def evaluate(self, expression: str):
        """The value of an expression, or of the promise that it is."""
        return self.run(
            "const done = arguments[0];"
            "(async () => ({ value: await (" + expression + ") }))()"
            ".catch(error => ({ error: String(error) })).then(done)",
            "async",
        )

    def console(self) -> list[str]:
        """What the page and the browser had to say."""
        entries = self.call("POST", f"{self.session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries]

    def close(self) -> None:
        try:
            if self.session:
                self.call("DELETE", self.session)
        finally:
            self.process.terminate()
            self.process.wait()


def flags(arguments: argparse.Namespace, profile: str) -> list[str]:
    url = urllib.parse.urlsplit(arguments.url)
    own = [f"--user-data-dir={profile}", f"--origin-to-force-quic-on={url.netloc}"]
    if arguments.address:
        own.append(f"--host-resolver-rules=MAP {url.hostname} [{arguments.address}]")
    if arguments.spki_sha256:
        pin = base64.b64encode(bytes.fromhex(arguments.spki_sha256)).decode()
        own.append(f"--ignore-certificate-errors-spki-list={pin}")
    if arguments.net_log:
        own.append(f"--log-net-log={arguments.net_log}")
    return QUIET + own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="https://NAME:PORT/PATH")
    parser.add_argument("--address", help="IPv6 address that NAME stands for")
    parser.add_argument("--spki-sha256", help="hex: accept the certificate with this public key")
    parser.add_argument("--until", default="true", help="JavaScript expression to wait for")
    parser.add_argument("--script", default="null", help="JavaScript expression, or a promise")
    parser.add_argument("--screenshot", type=pathlib.Path, help="PNG file to write")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for each step")
    parser.add_argument("--chromedriver", default="chromedriver")
    parser.add_argument("--net-log", help="file for Chromium's log of its network stack")
    arguments = parser.parse_args()

    driver = Driver(arguments.chromedriver)
    with tempfile.TemporaryDirectory(prefix="browser-") as profile:
        try:
            driver.open(flags(arguments, profile), arguments.timeout)
            driver.call("POST", f"{driver.session}/url", {"url": arguments.url})
            deadline = time.monotonic() + arguments.timeout
            while not driver.run(f"return Boolean({arguments.until})"):
                if time.monotonic() > deadline:
                    sys.exit(f"waited in vain for {arguments.until}; console: {driver.console()}")
                time.sleep(INTERVAL)
            outcome = driver.evaluate(arguments.script)
            if "error" in outcome:
                sys.exit(f"{outcome['error']}; console: {driver.console()}")
            if arguments.screenshot:
                image = driver.call("GET", f"{driver.session}/screenshot")
                arguments.screenshot.write_bytes(base64.b64decode(image))
        finally:
            driver.close()
    print(json.dumps({"browser": driver.version, "result": outcome.get("value")}), flush=True)


if __name__ == "__main__":
    main()
