#!/usr/bin/env python3
"""Headless Chromium, driven by the WebDriver protocol (W3C) through chromedriver.

Opens one page with QUIC forced on its origin, waits until a condition holds, runs a script in the
page, and prints {"browser": VERSION, "result": ..., "pixels": [[RED, GREEN, BLUE], ...]} as one line
of JSON on standard output. Every step has a limit, and no process is left at the end. Uses the
standard library only.
"""

import argparse
import base64
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import png

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
    # A pixel of the page is one of the screenshot, in the page's own colours.
    "--force-device-scale-factor=1",
    "--force-color-profile=srgb",
]
# Seconds between two looks at the condition.
INTERVAL = 0.1
# Seconds that the driver has to start, and for an answer beyond what its command may take.
PATIENCE = 20.0


class Driver:
    """A chromedriver process, and the browser that it holds."""

    def __init__(self, program: str, timeout: float) -> None:
        """Start it. Pages and scripts may take `timeout` seconds."""
        self.timeout = timeout
        # In a process group of its own, which the browser's processes are in, too.
        self.process = subprocess.Popen(
            [program, "--port=0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            text=True,
            start_new_session=True,
        )
        self.session = ""
        self.version = ""
        try:
            self.root = f"http://127.0.0.1:{self.port()}"
        except BaseException:
            self.close()
            raise

    def port(self) -> str:
        """The port that the driver says it listens on; without a word in time it is killed."""
        limit = threading.Timer(PATIENCE, self.kill)
        limit.start()
        try:
            for line in self.process.stdout:
                if started := re.search(r"started successfully on port (\d+)", line):
                    return started[1]
        finally:
            limit.cancel()
        raise RuntimeError("chromedriver did not start")

    def call(self, method: str, path: str, body=None):
        """One command; an error of the driver becomes an exception with its message."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.root + path, data, {"content-type": "application/json"}, method=method
        )
        # No proxy of the environment between us and the loopback interface.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        limit = self.timeout + PATIENCE
        try:
            with opener.open(request, timeout=limit) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None
        except OSError as error:
            raise RuntimeError(f"chromedriver, {method} {path}: {error}") from None

    def open(self, flags: list[str]) -> None:
        """Start the browser."""
        milliseconds = int(self.timeout * 1000)
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
        outcome = self.run(
            "const done = arguments[0];"
            "(async () => ({ value: await (" + expression + ") }))()"
            ".catch(error => ({ error: String(error) })).then(done)",
            "async",
        )
        if "error" in outcome:
            sys.exit(f"{outcome['error']}; console: {self.console()}")
        return outcome.get("value")

    def console(self) -> list[str]:
        """What the page and the browser had to say."""
        entries = self.call("POST", f"{self.session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries]

    def close(self) -> None:
        """End the browser and the driver, whatever state they are in."""
        try:
            if self.session:
                self.call("DELETE", self.session)
        finally:
            self.kill()
            self.process.wait()

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # All of them have ended.


def flags(arguments: argparse.Namespace, profile: str) -> list[str]:
    url = urllib.parse.urlsplit(arguments.url)
    own = [f"--user-data-dir={profile}", f"--origin-to-force-quic-on={url.netloc}"]
    if arguments.address:
        own.append(f"--host-resolver-rules=MAP {url.hostname} [{arguments.address}]")
    if arguments.spki_sha256:
        own.append(f"--ignore-certificate-errors-spki-list={arguments.spki_sha256}")
    if arguments.net_log:
        own.append(f"--log-net-log={arguments.net_log}")
    return QUIET + own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="https://NAME:PORT/PATH")
    parser.add_argument("--address", help="IPv6 address that NAME stands for")
    parser.add_argument("--spki-sha256", help="Base64: accept the certificate with this public key")
    parser.add_argument("--until", default="true", help="JavaScript expression to wait for")
    parser.add_argument("--script", default="null", help="JavaScript expression, or a promise")
    parser.add_argument("--screenshot", type=pathlib.Path, help="PNG file to write")
    parser.add_argument(
        "--pixels", default="[]", help="JavaScript expression: points [x, y] to tell the colours of"
    )
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for each step")
    parser.add_argument("--chromedriver", default="chromedriver")
    parser.add_argument("--net-log", help="file for Chromium's log of its network stack")
    arguments = parser.parse_args()

    # What `finally` does is done then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("browser.py: ended by a signal"))
    # The browser's last processes may still write while the folder goes.
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        driver = Driver(arguments.chromedriver, arguments.timeout)
        try:
            answer = visit(driver, flags(arguments, profile), arguments)
        finally:
            driver.close()
    print(json.dumps(answer), flush=True)


def visit(driver: Driver, flags: list[str], arguments: argparse.Namespace) -> dict:
    """Do what the arguments ask for; the line to print."""
    driver.open(flags)
    driver.call("POST", f"{driver.session}/url", {"url": arguments.url})
    deadline = time.monotonic() + arguments.timeout
    while not driver.run(f"return Boolean({arguments.until})"):
        if time.monotonic() > deadline:
            sys.exit(f"waited in vain for {arguments.until}; console: {driver.console()}")
        time.sleep(INTERVAL)
    result = driver.evaluate(arguments.script)
    points = driver.evaluate(arguments.pixels)
    colours = []
    if points or arguments.screenshot:
        image = base64.b64decode(driver.call("GET", f"{driver.session}/screenshot"))
        if arguments.screenshot:
            arguments.screenshot.write_bytes(image)
        colours = png.pixels(image, [(round(x), round(y)) for x, y in points])
    return {"browser": driver.version, "result": result, "pixels": colours}


if __name__ == "__main__":
    main()
