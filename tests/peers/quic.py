"""What the aioquic client and server of the peer tests share."""

import asyncio
import hashlib
import json
import signal
import socket
import ssl
import sys

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from cryptography.hazmat.primitives import hashes

# Application protocols (ALPN) that the engine serves.
HQ = "hq-interop"
PERF = "perf"
ECHO = "echo"

# Flow-control windows in bytes: wide enough that aioquic, not its window, is the limit.
WINDOW = 16 * 1024 * 1024
# Largest unreliable datagram accepted, in bytes (RFC 9221 `max_datagram_frame_size`).
DATAGRAM_MAX = 65535
# UDP payload in bytes that aioquic sends; it has no MTU discovery. 1452 fills a 1500-byte IPv6 MTU.
UDP_PAYLOAD = 1452
# Receive buffer asked of the kernel, in bytes. It grants up to net.core.rmem_max.
SOCKET_BUFFER = 8 * 1024 * 1024
# Bytes handed to a stream at a time while it is sent.
CHUNK = 1024 * 1024


def configuration(alpn: str | list[str], is_client: bool) -> QuicConfiguration:
    """A configuration with windows and datagram sizes fit for bulk transfers."""
    return QuicConfiguration(
        alpn_protocols=[alpn] if isinstance(alpn, str) else alpn,
        is_client=is_client,
        congestion_control_algorithm="cubic",
        idle_timeout=30.0,
        max_data=WINDOW,
        max_stream_data=WINDOW,
        max_datagram_size=UDP_PAYLOAD,
        max_datagram_frame_size=DATAGRAM_MAX,
        verify_mode=ssl.CERT_REQUIRED if is_client else None,
    )


def enlarge_socket(transport: asyncio.DatagramTransport) -> None:
    """Ask for socket buffers that hold a burst while Python is busy with the one before."""
    sock = transport.get_extra_info("socket")
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)


def fingerprint(certificate) -> str:
    """The SHA-256 of a certificate's DER form, written as the engine writes it."""
    return "sha256:" + certificate.fingerprint(hashes.SHA256()).hex()


def report(**fields) -> None:
    """Print one line of JSON on standard output, at once."""
    print(json.dumps(fields), flush=True)


def note(text: str) -> None:
    """Print a line for people, on standard error."""
    print(text, file=sys.stderr, flush=True)


def collecting(service):
    """A factory of connections for `serve`, and the list it puts them into."""
    connections = []

    def create(*args, **kwargs):
        connection = service(*args, **kwargs)
        connections.append(connection)
        return connection

    return create, connections


def stop_signal() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


async def close(server, connections) -> None:
    """Close a server once the ends of its connections are reported."""
    # One that its client closed ends only after a while (RFC 9000 §10.2).
    endings = [asyncio.create_task(connection.wait_closed()) for connection in connections]
    if endings:
        await asyncio.wait(endings, timeout=2.0)
    server.close()


class Incoming:
    """The receiving side of one stream: counted and hashed, kept only on demand."""

    def __init__(self, keep: bool) -> None:
        self.bytes = 0
        self.sha256 = hashlib.sha256()
        self.data = bytearray() if keep else None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def push(self, event: events.StreamDataReceived) -> None:
        self.bytes += len(event.data)
        self.sha256.update(event.data)
        if self.data is not None:
            self.data += event.data
        if event.end_stream and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # nobody need wait for it


class Closed(ConnectionError):
    """The connection ended; `code` and `reason` are the peer's (or ours, if we closed it)."""

    def __init__(self, event: events.ConnectionTerminated) -> None:
        super().__init__(f"closed: code {event.error_code:#x}, {event.reason_phrase!r}")
        self.code = event.error_code
        self.reason = event.reason_phrase
        # Transport errors carry the type of the frame at fault, application errors carry none.
        self.by_application = event.frame_type is None


class Connection(QuicConnectionProtocol):
    """A connection that hands stream data to `Incoming` objects without asyncio streams between."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.incoming: dict[int, Incoming] = {}
        self.datagrams: asyncio.Queue[bytes] = asyncio.Queue()
        self.handshake: events.HandshakeCompleted | None = None
        self.end: Closed | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        enlarge_socket(transport)

    def open_stream(self, data: bytes, keep: bool = False) -> Incoming:
        """Open a bidirectional stream, send `data` and its end; the answer arrives in `Incoming`."""
        stream_id = self._quic.get_next_available_stream_id()
        incoming = Incoming(keep)
        self.incoming[stream_id] = incoming
        self._quic.send_stream_data(stream_id, data, end_stream=True)
        self._transmit_soon()
        return incoming

    async def request(self, data: bytes, keep: bool = False) -> Incoming:
        """As `open_stream`, and wait for the end of the answer."""
        incoming = self.open_stream(data, keep)
        await incoming.done
        return incoming

    def send_datagram(self, data: bytes) -> None:
        self._quic.send_datagram_frame(data)
        self._transmit_soon()

    @property
    def peer_certificate(self):
        return self._quic.tls._peer_certificate

    def quic_event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived):
            incoming = self.incoming.get(event.stream_id)
            if incoming is None:
                self.stream_data(event)
            else:
                incoming.push(event)
                if event.end_stream:
                    del self.incoming[event.stream_id]
        elif isinstance(event, events.StreamReset):
            incoming = self.incoming.pop(event.stream_id, None)
            if incoming is not None:
                incoming.fail(ConnectionError(f"stream reset: code {event.error_code:#x}"))
        elif isinstance(event, events.DatagramFrameReceived):
            self.datagram(event.data)
        elif isinstance(event, events.HandshakeCompleted):
            self.handshake = event
        elif isinstance(event, events.ConnectionTerminated):
            self.end = Closed(event)
            for incoming in self.incoming.values():
                incoming.fail(self.end)
            self.ended(self.end)

    # What a server adds to a connection.

    def stream_data(self, event: events.StreamDataReceived) -> None:
        """Data of a stream that the peer opened."""

    def datagram(self, data: bytes) -> None:
        """An unreliable datagram."""
        self.datagrams.put_nowait(data)

    def ended(self, end: Closed) -> None:
        """The connection is over."""
