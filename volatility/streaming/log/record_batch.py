"""Write and read plain record batches of Kafka, several times faster than kafka-python.

A batch is plain if it is what this project writes: format 2, uncompressed or compressed with zstd,
and not part of a transaction. It is a header of 61 bytes and its records, compressed together.
Numbers inside a record are zigzag varints. Layout:
https://kafka.apache.org/documentation/#recordbatch
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import zstandard
from crc32c import crc32c
from kafka import codec

from volatility.streaming.log.interface import Message

# base offset, length, leader epoch, magic, CRC | attributes, last offset delta, first and
# greatest time, producer id and epoch, first sequence number, count
HEADER = struct.Struct(">qiibIhiqqqhii")
CRC = struct.Struct(">I")
LENGTH_AT, CRC_AT, CHECKED_FROM = 8, 17, 21
LENGTH_COVERS_FROM = 12  # the length field counts the bytes after it
MAGIC = 2

BROKER_TIME = 0x08  # attribute: the broker stamped the batch
ZSTD = 4
PLAIN = (0, ZSTD, BROKER_TIME, BROKER_TIME | ZSTD)  # attributes
MAGIC_AT, ATTRIBUTES_AT = 16, 21
SMALLEST_COMPRESSED = 512  # bytes; below this zstd gains nothing

Headers = Sequence[tuple[str, bytes]]
Record = tuple[bytes | None, bytes, Headers]  # key, value, headers


class BatchError(ValueError):
    """Bytes that are not a record batch, or were corrupted in transit."""


class Batch(NamedTuple):
    """Represent one batch as read."""

    leader_epoch: int
    next_offset: int
    messages: list[Message]


def varint(number: int) -> bytes:
    """Encode a number as a zigzag varint."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(0x80 | (rest & 0x7F))
        rest >>= 7
    out.append(rest)
    return bytes(out)


_SMALL = [varint(number) for number in range(1 << 14)]  # nearly all lengths and offsets are small
_NO_HEADERS = varint(0)
_NONE = varint(-1)
# Attributes (0) and the time since the first record (0: the broker stamps the batch).
_RECORD_START = b"\0" + varint(0)


def _number(value: int) -> bytes:
    return _SMALL[value] if value < 1 << 14 else varint(value)


def encode(
    records: Sequence[Record], producer_id: int, producer_epoch: int, sequence: int, time_ms: int
) -> bytes:
    """Encode records as one batch, compressed with zstd when that makes it smaller.

    Parameters
    ----------
    producer_id, producer_epoch, sequence
        Identity of an idempotent producer, and the sequence number of the first record.
    time_ms
        Time of all records [ms since the epoch]; a topic with ``LogAppendTime`` overrides it.
    """
    parts: list[bytes] = []
    for offset, (key, value, headers) in enumerate(records):
        start = _RECORD_START + _number(offset)
        key_part = _NONE if key is None else _number(len(key)) + key
        tail = _headers(headers) if headers else _NO_HEADERS
        value_length = _number(len(value))
        length = len(start) + len(key_part) + len(value_length) + len(value) + len(tail)
        parts += (_number(length), start, key_part, value_length, value, tail)
    body = b"".join(parts)
    attributes = 0
    if len(body) >= SMALLEST_COMPRESSED:
        packed = zstandard.ZstdCompressor(level=1).compress(body)
        if len(packed) < len(body):
            body, attributes = packed, ZSTD
    out = bytearray(HEADER.size)
    last = len(records) - 1
    HEADER.pack_into(
        *(out, 0, 0, HEADER.size - LENGTH_COVERS_FROM + len(body), -1, MAGIC, 0, attributes, last),
        *(time_ms, time_ms, producer_id, producer_epoch, sequence, len(records)),
    )
    out += body
    with memoryview(out) as view:
        CRC.pack_into(out, CRC_AT, crc32c(view[CHECKED_FROM:]))
    return bytes(out)


def _headers(headers: Headers) -> bytes:
    parts = [varint(len(headers))]
    for name, value in headers:
        key = name.encode()
        parts += (varint(len(key)), key, varint(len(value)), value)
    return b"".join(parts)


def is_plain(data: bytes | memoryview) -> bool:
    """Return whether ``decode`` reads all batches of a fetched partition."""
    return all(
        view[MAGIC_AT] == MAGIC and int.from_bytes(view[ATTRIBUTES_AT:][:2], "big") in PLAIN
        for view in _views(data)
    )


def decode(data: bytes | memoryview, partition: int) -> Iterator[Batch]:
    """Read the plain batches of one fetched partition; a truncated last one is skipped.

    Raises
    ------
    BatchError
        When a checksum or a length is wrong.
    """
    for view in _views(data):
        yield _decode_one(view, partition)


def _views(data: bytes | memoryview) -> Iterator[memoryview]:
    """Split into batches, without a truncated last one."""
    view = memoryview(data)
    at = 0
    while len(view) - at >= HEADER.size:
        (length,) = struct.unpack_from(">i", view, at + LENGTH_AT)
        end = at + LENGTH_COVERS_FROM + length
        if end > len(view):
            return
        yield view[at:end]
        at = end


def _decode_one(view: memoryview, partition: int) -> Batch:
    fields = HEADER.unpack_from(view)
    base, _, leader_epoch, _, checksum, attributes, last_delta, first_ms, greatest_ms = fields[:9]
    where = f"partition {partition}, offset {base}"
    if crc32c(view[CHECKED_FROM:]) != checksum:
        raise BatchError(f"{where}: checksum mismatch")
    body = bytes(view[HEADER.size :])
    if attributes & ZSTD:
        try:
            body = zstandard.ZstdDecompressor().decompress(body)
        except zstandard.ZstdError:  # a streaming producer does not write the size
            body = bytes(codec.zstd_decode(body))
    stamp_ms = greatest_ms if attributes & BROKER_TIME else None
    try:
        messages = _messages(body, partition, base, fields[12], first_ms, stamp_ms)
    except IndexError:
        raise BatchError(f"{where}: a record is truncated") from None
    return Batch(leader_epoch, base + last_delta + 1, messages)


def _varint_at(data: bytes, at: int) -> tuple[int, int]:
    """Read a varint of any length; return it and the position after it."""
    byte = data[at]
    number, shift = byte & 0x7F, 7
    while byte & 0x80:
        at += 1
        byte = data[at]
        number |= (byte & 0x7F) << shift
        shift += 7
    return (number >> 1) ^ -(number & 1), at + 1


def _messages(
    data: bytes, partition: int, base: int, count: int, first_ms: int, stamp_ms: int | None
) -> list[Message]:
    # The hot loop of every reader. The numbers that are nearly always one byte are read inline:
    # a function call for each would double the time.
    out: list[Message] = []
    at = 0
    for _ in range(count):
        _, at = _varint_at(data, at)
        at += 1  # attributes: none are defined
        byte = data[at]
        if byte < 0x80:
            delta_ms, at = (byte >> 1) ^ -(byte & 1), at + 1
        else:
            delta_ms, at = _varint_at(data, at)
        byte = data[at]
        if byte < 0x80:
            offset, at = byte >> 1, at + 1
        else:
            offset, at = _varint_at(data, at)
        byte = data[at]
        if byte < 0x80:
            size, at = (byte >> 1) ^ -(byte & 1), at + 1
        else:
            size, at = _varint_at(data, at)
        key = None
        if size >= 0:
            key, at = data[at : at + size], at + size
        size, at = _varint_at(data, at)
        value = b""  # another producer's tombstone reads as empty, which no parser accepts
        if size >= 0:
            value, at = data[at : at + size], at + size
        headers: tuple[tuple[str, bytes], ...] = ()
        if data[at]:
            headers, at = _read_headers(data, at)
        else:
            at += 1
        time_ms = stamp_ms if stamp_ms is not None else first_ms + delta_ms
        out.append(Message(partition, base + offset, time_ms * 1_000_000, key, value, headers))
    if at != len(data):
        raise BatchError(f"partition {partition}, offset {base}: {len(data) - at} bytes left over")
    return out


def _read_headers(data: bytes, at: int) -> tuple[tuple[tuple[str, bytes], ...], int]:
    count, at = _varint_at(data, at)
    headers = []
    for _ in range(count):
        size, at = _varint_at(data, at)
        name, at = data[at : at + size].decode(), at + size
        size, at = _varint_at(data, at)
        headers.append((name, data[at : at + max(size, 0)]))
        at += max(size, 0)
    return tuple(headers), at
