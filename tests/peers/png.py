"""Pixels of the PNG that a browser makes of its page (PNG Specification, Third Edition)."""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Bytes of a pixel, by colour type; others do not occur in screenshots.
CHANNELS = {2: 3, 6: 4}


def pixels(png: bytes, points: list[tuple[int, int]]) -> list[list[int]]:
    """Red, green and blue at each point, that is column and row, of an image of 8-bit RGB(A)."""
    header, data = parse(png)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if depth != 8 or colour not in CHANNELS or interlaced:
        raise ValueError(f"a PNG of depth {depth}, colour type {colour}, interlaced {interlaced}")
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(f"({x}, {y}) is not in an image of {width} by {height}")
    step = CHANNELS[colour]
    last = max((y for _, y in points), default=-1)
    found = {}
    for number, row in enumerate(rows(zlib.decompress(data), width * step, step)):
        if number > last:
            break
        for x, y in points:
            if y == number:
                found[x, y] = list(row[x * step : x * step + 3])
    return [found[point] for point in points]


def parse(png: bytes) -> tuple[bytes, bytes]:
    """The header, and the compressed data of all chunks (§5.3)."""
    if not png.startswith(SIGNATURE):
        raise ValueError("no PNG")
    header, data, at = b"", b"", len(SIGNATURE)
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        body = png[at + 8 : at + 8 + length]
        if zlib.crc32(kind + body) != struct.unpack_from(">I", png, at + 8 + length)[0]:
            raise ValueError(f"the chunk {kind} is damaged")
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            data += body
        at += 12 + length
    return header, data


def rows(data: bytes, size: int, step: int) -> Iterator[bytearray]:
    """Rows without their filters (§9)."""
    above = bytearray(size)
    for start in range(0, len(data), size + 1):
        kind, row = data[start], bytearray(data[start + 1 : start + 1 + size])
        for i in range(size) if kind else ():
            left = row[i - step] if i >= step else 0
            corner = above[i - step] if i >= step else 0
            row[i] = (row[i] + predict(kind, left, above[i], corner)) & 0xFF
        yield row
        above = row


def predict(kind: int, left: int, up: int, corner: int) -> int:
    """What a byte is said to be like, by the type of its row's filter."""
    if kind == 1:
        return left
    if kind == 2:
        return up
    if kind == 3:
        return (left + up) // 2
    if kind != 4:
        raise ValueError(f"filter {kind}")
    guess = left + up - corner
    return min((left, up, corner), key=lambda value: abs(guess - value))
