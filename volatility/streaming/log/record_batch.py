"""Write and read Kafka's record batches (format 2), several times faster than kafka-python.

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

from volatility.streaming.log.interface import Message

# base offset, length, leader epoch, magic, CRC | attributes, last offset delta, first and
# greatest time, producer id and epoch, first sequence number, count
HEADER = struct.Struct(">qiibIhiqqqhii")
CRC = struct.Struct(">I")
LENGTH_AT, CRC_AT, CHECKED_FROM = 8, 17, 21
LENGTH_COVERS_FROM = 12  # the length field counts the bytes after it
MAGIC = 2

CODEC_MASK, BROKER_TIME, TRANSACTIONAL, CONTROL = 0x07, 0x08, 0x10, 0x20
MARKER = struct.Struct(">hh")  # key of the record in a control batch: version, type
ABORT = 0
ZSTD = 4
PACKAGES = {"snappy": "python-snappy", "lz4": "lz4"}
SMALLEST_COMPRESSED = 512  # bytes; below this zstd gains nothing

Headers = Sequence[tuple[str, bytes]]
Record = tuple[bytes | None, bytes, Headers]  # key, value, headers


class BatchError(ValueError):
    """Bytes that are not a record batch, or were corrupted in transit."""


class CodecError(ValueError):
    """A batch is compressed in a way that this installation cannot read; repeating cannot help."""


class Batch(NamedTuple):
    """Represent one batch as read.

    Control batches have no messages; ``aborts`` says that one undoes its producer's transaction.
    """

    leader_epoch: int
    next_offset: int
    messages: list[Message]
    producer_id: int = -1
    transactional: bool = False
    aborts: bool = False


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


def decode(data: bytes | memoryview, partition: int) -> Iterator[Batch]:
    """Read the batches of one fetched partition; a truncated last one is skipped.

    Raises
    ------
    BatchError
        When a checksum or a length is wrong, or the batch is of an older format.
    CodecError
        When a batch is compressed with a codec that is unknown or not installed.
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
        raise BatchError(f"partition {partition}, offset {base}: format {magic} is not supported")
    if crc32c(view[CHECKED_FROM:]) != checksum:
        raise BatchError(f"partition {partition}, offset {base}: checksum mismatch")
    following, producer = base + last_delta + 1, header[9]
    where = f"partition {partition}, offset {base}"
    body = _unpack(bytes(view[HEADER.size :]), attributes & CODEC_MASK, where)
    stamp_ms = greatest_ms if attributes & BROKER_TIME else None
    try:
        messages = _messages(body, partition, base, header[12], first_ms, stamp_ms)
    except IndexError:
        raise BatchError(f"{where}: a record is truncated") from None
    if attributes & CONTROL:
        key = (messages[0].key if messages else None) or b""
        aborts = len(key) >= MARKER.size and MARKER.unpack_from(key)[1] == ABORT
        return Batch(leader_epoch, following, [], producer, True, aborts)
    return Batch(leader_epoch, following, messages, producer, bool(attributes & TRANSACTIONAL))


def _unpack(body: bytes, kind: int, where: str) -> bytes:
    if kind == 0:
        return body
    if kind == ZSTD:
        try:
            return zstandard.ZstdDecompressor().decompress(body)
        except zstandard.ZstdError:  # a streaming producer does not write the size
            return bytes(codec.zstd_decode(body))
    decoders: dict[int, Callable[[bytes], bytes]] = {
        1: codec.gzip_decode,
        2: codec.snappy_decode,
        3: codec.lz4_decode,
    }
    if kind not in decoders:
        raise CodecError(f"{where}: compression {kind} is unknown")
    name = ("gzip", "snappy", "lz4")[kind - 1]
    if not getattr(codec, f"has_{name}")():
        raise CodecError(f"{where}: to read {name}, run: pip install {PACKAGES[name]}")
    try:
        return bytes(decoders[kind](body))
    except Exception as error:  # each codec has its own errors
        raise BatchError(f"{where}: {name}: {error}") from error


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
