"""Our record batches are Kafka's: what kafka-python writes we read, and it reads ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from streaming.log import Message
from streaming.record_batch import BatchError, Record, decode, encode

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


@given(records, st.sampled_from([0, 1, 4]), st.integers(0, 2**45))
def test_what_kafka_python_writes_is_read(
    written: list[Record], compression: int, time_ms: int
) -> None:
    builder = MemoryRecordsBuilder(2, compression, batch_size=1 << 20)
    for number, (key, value, pairs) in enumerate(written):
        builder.append(time_ms + number * 100, key, value, list(pairs))
    builder.close()
    (batch,) = decode(bytes(builder.buffer()), 3)
    assert [message.value for message in batch.messages] == [value for _, value, _ in written]
    assert [message.key for message in batch.messages] == [key for key, _, _ in written]
    assert [message.headers for message in batch.messages] == [pairs for *_, pairs in written]
    assert [message.time_ns for message in batch.messages] == [
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
