"""Our record batches are Kafka's: what kafka-python writes we read, and it reads ours."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition, codec, errors
from kafka.protocol.consumer import IsolationLevel
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from volatility.streaming.log.interface import Message
from volatility.streaming.log.kafka_reader import ForeignRecords, PlainRecords, fetched
from volatility.streaming.log.record_batch import (
    CHECKED_FROM,
    CRC,
    CRC_AT,
    HEADER,
    BatchError,
    Record,
    decode,
    encode,
)

MARKER = struct.Struct(">hh")  # key of the record in a control batch: version, type
TRANSACTIONAL, CONTROL = 0x10, 0x20

headers = st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=200)), max_size=3).map(tuple)
records = st.lists(
    st.tuples(st.none() | st.binary(max_size=100), st.binary(max_size=300), headers),
    min_size=1,
    max_size=40,
)


def as_messages(written: list[Record], time_ms: int) -> list[Message]:
    return [
        Message(3, offset, time_ms * 1_000_000, key, value, tuple(pairs))
        for offset, (key, value, pairs) in enumerate(written)
    ]


@given(records, st.integers(0, 2**31 - 1), st.integers(0, 2**45))
def test_what_is_written_is_read(written: list[Record], sequence: int, time_ms: int) -> None:
    data = encode(written, 7, 1, sequence, time_ms)
    (batch,) = decode(data, 3)
    assert batch.messages == as_messages(written, time_ms)
    assert batch.next_offset == len(written)

    theirs = MemoryRecords(data).next_batch()
    assert theirs.validate_crc()
    assert (theirs.producer_id, theirs.producer_epoch, theirs.base_sequence) == (7, 1, sequence)
    assert [(record.key, record.value, tuple(record.headers)) for record in theirs] == [
        (key, value, tuple(pairs)) for key, value, pairs in written
    ]


@given(records, st.sampled_from([0, 1, 2, 3, 4]), st.integers(0, 2**45))
def test_what_kafka_python_writes_is_read(
    written: list[Record], compression: int, time_ms: int
) -> None:
    builder = MemoryRecordsBuilder(2, compression, batch_size=1 << 20)
    for number, (key, value, pairs) in enumerate(written):
        builder.append(time_ms + number * 100, key, value, list(pairs))
    builder.close()
    messages = partition_of(bytes(builder.buffer())).take(len(written))
    assert [message.value for message in messages] == [value for _, value, _ in written]
    assert [message.key for message in messages] == [key for key, _, _ in written]
    assert [message.headers for message in messages] == [pairs for *_, pairs in written]
    assert [message.time_ns for message in messages] == [
        (time_ms + number * 100) * 1_000_000 for number in range(len(written))
    ]


@given(records, st.data())
def test_a_changed_bit_is_found(written: list[Record], data: st.DataObject) -> None:
    batch = bytearray(encode(written, 7, 1, 0, 0))
    at = data.draw(st.integers(17, len(batch) - 1))  # from the checksum on
    batch[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BatchError, match="checksum"):
        list(decode(bytes(batch), 3))


def test_a_batch_that_was_cut_off_is_left_for_the_next_fetch() -> None:
    one = encode([(None, b"a", ())], 7, 1, 0, 0)
    two = one + encode([(None, b"b", ())], 7, 1, 1, 0)
    for cut in range(len(one), len(two)):
        assert [batch.messages[0].value for batch in decode(two[:cut], 3)] == [b"a"]
    assert len(list(decode(two, 3))) == 2


def test_many_similar_records_become_small() -> None:
    ticks = [
        (b"BTC-USD", b'{"symbol":"BTC-USD","price":68000.5,"n":%d}' % n, ()) for n in range(99)
    ]
    assert len(encode(ticks, 7, 1, 0, 0)) < 0.2 * sum(len(value) for _, value, _ in ticks)


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_every_codec_is_read(kind: int) -> None:
    assert read(built(kind, (b"a" * 99, b"b" * 99))) == ([0, 1], 2)


@pytest.mark.parametrize(("kind", "name"), [(2, "snappy"), (3, "lz4")])
def test_a_codec_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, kind: int, name: str
) -> None:
    data = built(kind)
    monkeypatch.setattr(codec, {2: "has_snappy", 3: "has_lz4"}[kind], lambda: False)
    with pytest.raises(errors.UnsupportedCodecError, match=name):
        read(data)


@pytest.mark.parametrize("kind", [1, 2, 3, 5])
def test_what_does_not_decompress_is_an_error_of_the_batch(kind: int) -> None:
    with pytest.raises(errors.KafkaError):
        read(rewritten(built(0), attributes=kind))


def built(kind: int, values: tuple[bytes, ...] = (b"value" * 50,)) -> bytes:
    """Return a batch written by kafka-python."""
    builder = MemoryRecordsBuilder(2, kind, batch_size=1 << 20)
    for value in values:
        builder.append(1_000, None, value, [])
    builder.close()
    return bytes(builder.buffer())


def rewritten(data: bytes, attributes: int, base: int = 0, producer: int = -1) -> bytes:
    """Return a batch with changed header fields and a matching checksum."""
    fields = list(HEADER.unpack_from(data))
    fields[0], fields[5], fields[9] = base, attributes, producer
    out = bytearray(data)
    HEADER.pack_into(out, 0, *fields)
    CRC.pack_into(out, CRC_AT, crc32c(bytes(out[CHECKED_FROM:])))
    return bytes(out)


class Undone(NamedTuple):
    producer_id: int
    first_offset: int


def partition_of(data: bytes, *undone: Undone) -> PlainRecords | ForeignRecords:
    """Return a fetched partition as the fetcher makes it."""
    return fetched(
        0,
        TopicPartition("t", 3),
        MemoryRecords(data),
        isolation_level=IsolationLevel.READ_COMMITTED,
        aborted_transactions=list(undone),
    )


def read(data: bytes, *undone: Undone, step: int = 100) -> tuple[list[int], int]:
    """Read a fetched partition in steps; return the offsets and the next fetch offset."""
    part = partition_of(data, *undone)
    found: list[int] = []
    while part:
        found += [message.offset for message in part.take(step)]
    return found, part.next_fetch_offset


def marker(base: int, producer: int, kind: int) -> bytes:
    """Return the control batch that commits (1) or aborts (0) a producer's transaction."""
    record = (MARKER.pack(0, kind), b"\0" * 6, ())
    return rewritten(encode([record], producer, 0, -1, 0), TRANSACTIONAL | CONTROL, base, producer)


def batch(base: int, producer: int, transactional: bool = True) -> bytes:
    return rewritten(built(0, (b"a", b"b")), TRANSACTIONAL * transactional, base, producer)


@pytest.mark.parametrize("step", [1, 2, 100])
def test_a_marker_at_the_end_is_read_past(step: int) -> None:
    assert read(batch(0, 7) + marker(2, 7, 1), step=step) == ([0, 1], 3)
    assert read(marker(0, 7, 1)) == ([], 1)


@pytest.mark.parametrize("step", [1, 3, 100])
def test_what_was_undone_is_not_read_and_all_else_is(step: int) -> None:
    data = b"".join(
        [
            batch(0, 7),  # undone
            batch(2, 8),  # committed, between the two
            batch(4, -1, transactional=False),
            batch(6, 7),  # undone, too
            marker(8, 7, 0),
            marker(9, 8, 1),
            batch(10, 7),  # a new transaction of the same producer
            marker(12, 7, 1),
        ]
    )
    assert read(data, Undone(7, 0), step=step) == ([2, 3, 4, 5, 10, 11], 13)


def test_two_undone_transactions_of_one_producer_end_each_at_its_marker() -> None:
    data = (
        batch(0, 7)
        + marker(2, 7, 0)
        + batch(3, 7)
        + marker(5, 7, 1)
        + batch(6, 7)
        + marker(8, 7, 0)
    )
    assert read(data, Undone(7, 6), Undone(7, 0)) == ([3, 4], 9)
