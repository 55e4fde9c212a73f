#!/usr/bin/env python3
"""A file server for HTTP/3 (RFC 9114) on aioquic: GET and HEAD.

Says "listening" on standard error once it does, and prints JSON lines on standard output: one
{"event": "request", ...} for each request and {"event": "closed", ...} for each connection. Runs
until it is ended by a signal.
"""

import argparse
import asyncio
import mimetypes
import pathlib

from aioquic.asyncio import serve
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import H3Event, HeadersReceived
from aioquic.quic import events

import quic


class Service(QuicConnectionProtocol):
    """One accepted connection."""

    root = pathlib.Path(".")

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        quic.enlarge_socket(transport)

    def quic_event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.ConnectionTerminated):
            end = quic.Closed(event)
            quic.report(event="closed", code=end.code, by_application=end.by_application)
        for event in self.http.handle_event(event):
            self.http_event(event)

    def http_event(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            fields = {name.decode(): value.decode() for name, value in event.headers}
            self.answer(event.stream_id, fields[":method"], fields[":path"])

    def answer(self, stream_id: int, method: str, path: str) -> None:
        file = (self.root / path.partition("?")[0].lstrip("/")).resolve()
        if method not in ("GET", "HEAD"):
            status, kind, body = 405, "text/plain", b"GET and HEAD only\n"
        elif file.is_relative_to(self.root) and file.is_file():
            status, kind, body = 200, mimetypes.guess_type(file.name)[0], file.read_bytes()
        else:
            status, kind, body = 404, "text/plain", b"no such file\n"
        quic.report(event="request", method=method, path=path, status=status)
        self.http.send_headers(
            stream_id,
            [
                (b":status", str(status).encode()),
                (b"content-type", (kind or "application/octet-stream").encode()),
                (b"content-length", str(len(body)).encode()),
            ],
        )
        body = memoryview(b"" if method == "HEAD" else body)
        for start in range(0, len(body), quic.CHUNK):
            self.http.send_data(stream_id, bytes(body[start : start + quic.CHUNK]), False)
        self.http.send_data(stream_id, b"", end_stream=True)


async def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--address", default="::1")
    arguments.add_argument("--port", type=int, default=4433)
    arguments.add_argument("--certificate", required=True, help="PEM file")
    arguments.add_argument("--key", required=True, help="PEM file")
    arguments.add_argument("--root", type=pathlib.Path, default=".", help="folder that is served")
    arguments = arguments.parse_args()

    Service.root = arguments.root.resolve()
    configuration = quic.configuration(H3_ALPN, is_client=False)
    configuration.load_cert_chain(arguments.certificate, arguments.key)
    accept, connections = quic.collecting(Service)

    server = await serve(
        arguments.address,
        arguments.port,
        configuration=configuration,
        create_protocol=accept,
    )
    quic.note("listening")

    stopped = quic.stop_signal()
    await stopped.wait()
    await quic.close(server, connections)


if __name__ == "__main__":
    asyncio.run(main())
