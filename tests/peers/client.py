#!/usr/bin/env python3
"""A client on aioquic for the engine's services.

Does one thing per run and prints what happened as one line of JSON; exits non-zero on failure.
"""

import argparse
import asyncio
import contextlib
import os
import pathlib
import random
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator

from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration

import quic

# A version of the pattern that RFC 9000 §15 reserves so that nobody ever supports it.
UNKNOWN_VERSION = 0x1A2A3A4A
VERSION_1 = 0x00000001


class Failure(Exception):
    """The server did something else than it should."""


class Client:
    """Where to connect, and how to know the server."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options

    def configuration(self, alpn: str) -> QuicConfiguration:
        configuration = quic.configuration(alpn, is_client=True)
        configuration.server_name = self.options.server_name
        if self.options.anchor:
            configuration.load_verify_locations(cafile=self.options.anchor)
        else:  # known by its fingerprint, or not at all
            configuration.verify_mode = ssl.CERT_NONE
        if self.options.certificate:
            configuration.load_cert_chain(self.options.certificate, self.options.key)
        if path := os.environ.get("SSLKEYLOGFILE"):
            configuration.secrets_log_file = open(path, "a")
        return configuration

    @contextlib.asynccontextmanager
    async def connection(
        self, configuration: QuicConfiguration, **arguments
    ) -> AsyncIterator[quic.Connection]:
        """Connect, check the certificate's fingerprint if one was given, close at the end."""
        async with connect(
            self.options.host,
            self.options.port,
            configuration=configuration,
            create_protocol=quic.Connection,
            **arguments,
        ) as connection:
            if connection.handshake is not None:
                self.check_fingerprint(connection)
            yield connection

    def check_fingerprint(self, connection: quic.Connection) -> None:
        wanted = self.options.fingerprint
        if wanted is not None:
            found = quic.fingerprint(connection.peer_certificate)
            if found != wanted:
                raise Failure(f"the server's certificate is {found}, not {wanted}")


async def hq(client: Client) -> dict:
    """Download files; report bytes and SHA-256 of each."""
    options = client.options
    async with client.connection(client.configuration(quic.HQ)) as connection:
        started = time.monotonic()
        keep = options.output is not None
        answers = [connection.open_stream(f"GET {path}\r\n".encode(), keep) for path in options.paths]
        for answer in answers:
            await answer.done
        seconds = time.monotonic() - started
    if keep:
        options.output.mkdir(parents=True, exist_ok=True)
        for path, answer in zip(options.paths, answers, strict=True):
            (options.output / pathlib.PurePosixPath(path).name).write_bytes(answer.data)
    return {
        "seconds": seconds,
        "bytes": sum(answer.bytes for answer in answers),
        "files": [
            {"path": path, "bytes": answer.bytes, "sha256": answer.sha256.hexdigest()}
            for path, answer in zip(options.paths, answers, strict=True)
        ],
    }


async def perf(client: Client) -> dict:
    """Streams that each upload and download so many bytes."""
    options = client.options
    request = struct.pack(">Q", options.download) + bytes(options.upload)
    async with client.connection(client.configuration(quic.PERF)) as connection:
        started = time.monotonic()
        answers = [connection.open_stream(request) for _ in range(options.streams)]
        for answer in answers:
            await answer.done
        seconds = time.monotonic() - started
    received = [answer.bytes for answer in answers]
    if set(received) != {options.download}:
        raise Failure(f"asked for {options.download} bytes a stream, got {sorted(set(received))}")
    return {"seconds": seconds, "streams": len(received), "bytes": sum(received)}


async def echo(client: Client) -> dict:
    """Streams with content of their own each, all open at once, echoed."""
    options = client.options
    async with client.connection(client.configuration(quic.ECHO)) as connection:
        bodies = [random.Random(n).randbytes(options.size) for n in range(options.streams)]
        answers = [connection.open_stream(body, keep=True) for body in bodies]
        for answer, body in zip(answers, bodies, strict=True):
            await answer.done
            if answer.data != body:
                raise Failure("a stream came back changed")
    return {"streams": len(bodies), "bytes": sum(len(answer.data) for answer in answers)}


async def datagrams(client: Client) -> dict:
    """Unreliable datagrams, echoed; sent one by one so that none is lost to a full buffer."""
    options = client.options
    async with client.connection(client.configuration(quic.ECHO)) as connection:
        echoed = 0
        for number in range(options.count):
            body = struct.pack(">Q", number).ljust(options.size, b"\xa5")
            connection.send_datagram(body)
            with contextlib.suppress(asyncio.TimeoutError):
                answer = await asyncio.wait_for(connection.datagrams.get(), timeout=1.0)
                if answer != body:
                    raise Failure("a datagram came back changed")
                echoed += 1
    return {"sent": options.count, "echoed": echoed}


async def zero_rtt(client: Client) -> dict:
    """Download twice; the second request leaves before the handshake is done."""
    options = client.options
    request = f"GET {options.path}\r\n".encode()
    tickets = asyncio.Queue()
    configuration = client.configuration(quic.HQ)
    async with client.connection(
        configuration, session_ticket_handler=tickets.put_nowait
    ) as connection:
        first = await connection.request(request)
        configuration.session_ticket = await asyncio.wait_for(tickets.get(), timeout=5.0)
    async with client.connection(configuration, wait_connected=False) as connection:
        second = await connection.request(request)
        handshake = connection.handshake
    if first.sha256.digest() != second.sha256.digest():
        raise Failure("the two downloads differ")
    return {
        "bytes": second.bytes,
        "sha256": second.sha256.hexdigest(),
        "resumed": handshake.session_resumed,
        "early_data_accepted": handshake.early_data_accepted,
    }


async def key_update(client: Client) -> dict:
    """Change the keys several times, with echoed streams in between."""
    async with client.connection(client.configuration(quic.ECHO)) as connection:
        updates = 0
        for number in range(client.options.count):
            body = random.Random(number).randbytes(100_000)
            answer = await connection.request(body, keep=True)
            if answer.data != body:
                raise Failure(f"changed after {updates} key updates")
            await connection.ping()  # the phase before must be acknowledged before the next one
            connection.request_key_update()
            updates += 1
            await connection.ping()
    return {"updates": updates}


async def close(client: Client) -> dict:
    """Close with a code and a reason of the application."""
    options = client.options
    async with client.connection(client.configuration(quic.ECHO)) as connection:
        await connection.request(b"before the end")
        connection.close(error_code=options.code, reason_phrase=options.reason)
        await connection.wait_closed()
    return {"code": options.code, "reason": options.reason}


async def wait_closed(client: Client) -> dict:
    """Hold a connection until the server closes it."""
    async with client.connection(client.configuration(quic.ECHO)) as connection:
        await connection.request(b"hold the line")
        quic.note("connected")
        await asyncio.wait_for(connection.wait_closed(), timeout=client.options.timeout)
        end = connection.end
    return {"code": end.code, "reason": end.reason, "by_application": end.by_application}


async def versions(client: Client) -> dict:
    """Offer an unknown version, look at the answer, then let aioquic negotiate and connect."""
    offered = version_negotiation(client.options.host, client.options.port)
    configuration = client.configuration(quic.ECHO)
    configuration.supported_versions = [UNKNOWN_VERSION, VERSION_1]
    configuration.original_version = UNKNOWN_VERSION
    async with client.connection(configuration) as connection:
        answer = await connection.request(b"negotiated", keep=True)
    return {"offered": offered, "echoed": answer.data.decode()}


def version_negotiation(host: str, port: int) -> list[int]:
    """Send a long header with an unknown version; return the versions the server says it speaks."""
    destination, source = os.urandom(8), os.urandom(5)
    packet = struct.pack(">BI", 0xC0, UNKNOWN_VERSION)
    packet += bytes([len(destination)]) + destination + bytes([len(source)]) + source
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2.0)
        sock.connect((host, port))
        for _ in range(3):
            sock.send(packet.ljust(1200, b"\0"))
            with contextlib.suppress(TimeoutError):
                answer = sock.recv(2048)
                break
        else:
            raise Failure("no answer to an unknown version")
    # RFC 8999 §6: the version is 0 and the connection IDs come back crosswise.
    ids = bytes([len(source)]) + source + bytes([len(destination)]) + destination
    if not answer[0] & 0x80 or answer[1:5] != bytes(4) or answer[5 : 5 + len(ids)] != ids:
        raise Failure(f"not a Version Negotiation packet for us: {answer.hex()}")
    return [version for (version,) in struct.iter_unpack(">I", answer[5 + len(ids) :])]


def parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--host", default="::1")
    arguments.add_argument("--port", type=int, default=4433)
    arguments.add_argument("--server-name", default="localhost")
    arguments.add_argument("--anchor", help="PEM file the server's certificate must lead to")
    arguments.add_argument("--fingerprint", help="sha256:... of the server's certificate")
    arguments.add_argument("--certificate", help="PEM file, for servers that ask for one")
    arguments.add_argument("--key", help="PEM file")
    arguments.add_argument("--timeout", type=float, default=300.0, help="seconds for all of it")
    commands = arguments.add_subparsers(required=True)

    def command(function, name: str | None = None) -> argparse.ArgumentParser:
        parser = commands.add_parser(name or function.__name__, help=function.__doc__)
        parser.set_defaults(command=function)
        return parser

    parser = command(hq)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--output", type=pathlib.Path, help="folder to write the files to")
    parser = command(perf)
    parser.add_argument("--upload", type=int, default=0, help="bytes a stream")
    parser.add_argument("--download", type=int, default=0, help="bytes a stream")
    parser.add_argument("--streams", type=int, default=1)
    parser = command(echo)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--size", type=int, default=1000, help="bytes a stream")
    parser = command(datagrams)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--size", type=int, default=1000, help="bytes")
    parser = command(zero_rtt, "zero-rtt")
    parser.add_argument("path")
    parser = command(key_update, "key-update")
    parser.add_argument("--count", type=int, default=5)
    parser = command(close)
    parser.add_argument("--code", type=int, default=42)
    parser.add_argument("--reason", default="closed by the client")
    command(wait_closed, "wait-closed")
    command(versions)
    return arguments.parse_args()


async def main() -> None:
    options = parse()
    try:
        outcome = await asyncio.wait_for(options.command(Client(options)), options.timeout)
    except (Failure, ConnectionError, asyncio.TimeoutError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    quic.report(**outcome)


if __name__ == "__main__":
    asyncio.run(main())
