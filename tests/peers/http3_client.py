#!/usr/bin/env python3
"""A client for HTTP/3 (RFC 9114) on aioquic that tells what a browser hides: bodies after HEAD.

Sends one request after the other over one connection, and prints {"answers": [...]} as one line of
JSON: for each request its status, its fields and the bytes of its body. Exits non-zero on failure.
"""

import argparse
import asyncio

from aioquic.asyncio import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic import events

import quic

# Seconds for an answer.
PATIENCE = 20.0


class Client(QuicConnectionProtocol):
    """One connection, with one request at a time."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.events: asyncio.Queue = asyncio.Queue()

    def quic_event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.ConnectionTerminated):
            self.events.put_nowait(quic.Closed(event))
        elif isinstance(event, events.StreamReset):
            self.events.put_nowait(ConnectionError(f"stream reset: code {event.error_code:#x}"))
        for event in self.http.handle_event(event):
            self.events.put_nowait(event)

    async def request(self, method: str, path: str) -> dict:
        fields = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": path}
        stream_id = self._quic.get_next_available_stream_id()
        fields = [(name.encode(), value.encode()) for name, value in fields.items()]
        self.http.send_headers(stream_id, fields, end_stream=True)
        self.transmit()
        answer, ended = {"body": 0}, False
        while not ended:
            event = await asyncio.wait_for(self.events.get(), PATIENCE)
            if isinstance(event, Exception):
                raise event
            if isinstance(event, HeadersReceived):
                answer["fields"] = {name.decode(): value.decode() for name, value in event.headers}
                answer["status"] = int(answer["fields"].pop(":status"))
            elif isinstance(event, DataReceived):
                answer["body"] += len(event.data)
            ended = event.stream_ended
        return answer


async def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--host", required=True, help="IPv6 address")
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--anchor", required=True, help="PEM file of the trusted authority")
    arguments.add_argument("requests", nargs="+", help="METHOD:PATH")
    arguments = arguments.parse_args()

    configuration = quic.configuration(H3_ALPN, is_client=True)
    configuration.server_name = "localhost"
    configuration.load_verify_locations(cafile=arguments.anchor)
    async with connect(
        arguments.host, arguments.port, configuration=configuration, create_protocol=Client
    ) as client:
        answers = [await client.request(*request.split(":", 1)) for request in arguments.requests]
    quic.report(answers=answers)


if __name__ == "__main__":
    asyncio.run(main())
