"""Write and read Kafka's record batches (format 2), several times as fast as kafka-python.

A batch is a header of 61 bytes and its records, compressed together. Numbers inside a record
are zigzag varints. Layout: https://kafka.apache.org/documentation/#recordbatch
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import zstandard
from crc32c import crc32c
from kafka import codec

from streaming.log import Message

# base offset, length, leader epoch, magic, CRC | attributes, last offset delta, first and
# greatest time, producer id and epoch, first sequence number, count
HEADER = struct.Struct(">qiibIhiqqqhii")
CRC = struct.Struct(">I")
LENGTH_AT, CRC_AT, CHECKED_FROM = 8, 17, 21
LENGTH_COVERS_FROM = 12  # the length counts what follows it
MAGIC = 2

CODEC_MASK, BROKER_TIME, CONTROL = 0x07, 0x08, 0x20
ZSTD = 4
SMALLEST_COMPRESSED = 512  # bytes; below it zstd gains nothing

Headers = Sequence[tuple[str, bytes]]
Record = tuple[bytes | None, bytes, Headers]  # key, value, headers


class BatchError(ValueError):
    """Bytes that are no record batch, or were changed on their way."""


class Batch(NamedTuple):
    """Hold one batch as it was read; control batches have no messages."""

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


_SMALL = [varint(number) for number in range(1 << 14)]  # lengths and offsets are nearly all small
_NO_HEADERS = varint(0)
_NONE = varint(-1)
# Attributes (0) and the distance in time to the first record (0: the broker stamps the batch).
_RECORD_START = b"\0" + varint(0)


def _number(value: int) -> bytes:
    return _SMALL[value] if value < 1 << 14 else varint(value)


def encode(
    records: Sequence[Record], producer_id: int, producer_epoch: int, sequence: int, time_ms: int
) -> bytes:
    """Write records into one batch, compressed with zstd when that makes it smaller.

    Parameters
    ----------
    producer_id, producer_epoch, sequence
        Identity of an idempotent producer, and the number of its first record here.
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


def decode(data: bytes | memoryview, partition: int) -> Iterator[Batch]:
    """Read the batches of one fetched partition; a last one that was cut off is left out.

    Raises
    ------
    BatchError
        When a checksum or a length is wrong, or the batch is of an older format.
    """
    view = memoryview(data)
    at = 0
    while len(view) - at >= HEADER.size:
        (length,) = struct.unpack_from(">i", view, at + LENGTH_AT)
        end = at + LENGTH_COVERS_FROM + length
        if end > len(view):
            return
        yield _decode_one(view[at:end], partition)
        at = end


def _decode_one(view: memoryview, partition: int) -> Batch:
    header = HEADER.unpack_from(view)
    base, _, leader_epoch, magic, checksum, attributes, last_delta, first_ms, greatest_ms = header[
        :9
    ]
    if magic != MAGIC:
        raise BatchError(f"partition {partition}, offset {base}: format {magic}, not {MAGIC}")
    if crc32c(view[CHECKED_FROM:]) != checksum:
        raise BatchError(f"partition {partition}, offset {base}: the checksum is wrong")
    following = base + last_delta + 1
    if attributes & CONTROL:
        return Batch(leader_epoch, following, [])
    body = _unpack(bytes(view[HEADER.size :]), attributes & CODEC_MASK)
    stamp_ms = greatest_ms if attributes & BROKER_TIME else None
    try:
        messages = _messages(body, partition, base, header[12], first_ms, stamp_ms)
    except IndexError:
        raise BatchError(f"partition {partition}, offset {base}: a record is cut off") from None
    return Batch(leader_epoch, following, messages)


def _unpack(body: bytes, kind: int) -> bytes:
    if kind == 0:
        return body
    if kind == ZSTD:
        try:
            return zstandard.ZstdDecompressor().decompress(body)
        except zstandard.ZstdError:  # a producer that streams does not state the size
            return bytes(codec.zstd_decode(body))
    decoders: dict[int, Callable[[bytes], bytes]] = {
        1: codec.gzip_decode,
        2: codec.snappy_decode,
        3: codec.lz4_decode,
    }
    return bytes(decoders[kind](body))


def _varint_at(data: bytes, at: int) -> tuple[int, int]:
    """Read a varint of any length; give it and the place after it."""
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
    # The hot loop of every reader. The four numbers that are nearly always one byte are read in
    # place: a call each would double the time.
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
        value = b""  # a tombstone of another producer reads as empty: it parses as nothing
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
        raise BatchError(f"partition {partition}, offset {base}: {len(data) - at} bytes too many")
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
