#!/usr/bin/env python3
"""A server on aioquic with the engine's services: hq-interop, perf and echo.

Says "listening" on standard error once it does, and prints JSON lines on standard output:
{"event": "handshake", ...} and {"event": "closed", ...} for each connection. Runs until it is
ended by a signal.
"""

import argparse
import asyncio
import pathlib
import struct

from aioquic.asyncio import serve
from aioquic.quic import events

import quic


class Service(quic.Connection):
    """One accepted connection; which service it gets depends on its ALPN."""

    root = pathlib.Path(".")

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.head: dict[int, bytearray] = {}

    def quic_event_received(self, event: events.QuicEvent) -> None:
        super().quic_event_received(event)
        if isinstance(event, events.HandshakeCompleted):
            quic.report(
                event="handshake",
                alpn=event.alpn_protocol,
                resumed=event.session_resumed,
                early_data=event.early_data_accepted,
            )

    def stream_data(self, event: events.StreamDataReceived) -> None:
        alpn = self._quic.tls.alpn_negotiated
        if alpn == quic.ECHO:
            self._quic.send_stream_data(event.stream_id, event.data, event.end_stream)
        elif alpn == quic.PERF:
            self.perf(event)
        elif alpn == quic.HQ:
            self.hq(event)

    def datagram(self, data: bytes) -> None:
        if self._quic.tls.alpn_negotiated == quic.ECHO:
            self.send_datagram(data)

    def ended(self, end: quic.Closed) -> None:
        quic.report(
            event="closed", code=end.code, reason=end.reason, by_application=end.by_application
        )

    def perf(self, event: events.StreamDataReceived) -> None:
        """Eight bytes say how long the answer shall be; it is sent once the upload has ended."""
        head = self.head.setdefault(event.stream_id, bytearray())
        if len(head) < 8:
            head += event.data[: 8 - len(head)]
        if event.end_stream:
            del self.head[event.stream_id]
            (size,) = struct.unpack(">Q", bytes(head).ljust(8, b"\0"))
            self.send(event.stream_id, bytes(size))

    def hq(self, event: events.StreamDataReceived) -> None:
        """HTTP/0.9: `GET /path`, answered with the file's bytes."""
        line = self.head.setdefault(event.stream_id, bytearray())
        line += event.data
        if not event.end_stream:
            return
        del self.head[event.stream_id]
        method, _, path = bytes(line).decode().strip().partition(" ")
        file = (self.root / path.lstrip("/")).resolve()
        if method == "GET" and file.is_relative_to(self.root) and file.is_file():
            self.send(event.stream_id, file.read_bytes())
        else:
            quic.note(f"refused: {bytes(line)!r}")
            self._quic.reset_stream(event.stream_id, 0x10C)

    def send(self, stream_id: int, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), quic.CHUNK):
            self._quic.send_stream_data(stream_id, view[start : start + quic.CHUNK])
        self._quic.send_stream_data(stream_id, b"", end_stream=True)


async def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--address", default="::1")
    arguments.add_argument("--port", type=int, default=4433)
    arguments.add_argument("--certificate", required=True, help="PEM file")
    arguments.add_argument("--key", required=True, help="PEM file")
    arguments.add_argument("--root", type=pathlib.Path, default=".", help="folder hq serves")
    arguments.add_argument("--close-after", type=float, help="seconds until every client is closed")
    arguments = arguments.parse_args()

    Service.root = arguments.root.resolve()
    configuration = quic.configuration([quic.HQ, quic.PERF, quic.ECHO], is_client=False)
    configuration.load_cert_chain(arguments.certificate, arguments.key)
    tickets = {}
    accept, connections = quic.collecting(Service)

    server = await serve(
        arguments.address,
        arguments.port,
        configuration=configuration,
        create_protocol=accept,
        session_ticket_handler=lambda ticket: tickets.__setitem__(ticket.ticket, ticket),
        session_ticket_fetcher=lambda label: tickets.pop(label, None),
    )
    quic.note("listening")

    stopped = quic.stop_signal()
    if arguments.close_after is not None:
        await asyncio.sleep(arguments.close_after)
        for connection in connections:
            connection.close(error_code=7, reason_phrase="closed by the server")
    await stopped.wait()
    await quic.close(server, connections)


if __name__ == "__main__":
    asyncio.run(main())
