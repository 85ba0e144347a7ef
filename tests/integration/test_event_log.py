"""Both event logs keep one contract: the same tests run in memory and against a real broker."""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.logs import (
    InKafka,
    InMemory,
    Ledger,
    Member,
    Place,
    append,
    assert_contiguous,
    assert_each_key_in_order,
    by_partition,
    read,
    read_all,
)
from tests.waiting import PATIENCE_SECONDS, until
from volatility.streaming.log.interface import LARGEST_RECORD, DeniedError, LogError, Message
from volatility.streaming.log.memory_log import MemoryLog
from volatility.streaming.log.partitioning import partition_of

names = (f"topic-{number}" for number in itertools.count())


@pytest.fixture(params=["memory", "kafka"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    made: InMemory | InKafka = (
        InMemory()
        if request.param == "memory"
        else InKafka(request.getfixturevalue("broker").servers)
    )
    yield made
    made.log.close()


@pytest.fixture
def topic(place: Place) -> str:
    """Name of a new topic of four partitions."""
    name = next(names)
    place.log.create(name, 4)
    return name


def test_every_record_comes_back_in_order_of_its_key(place: Place, topic: str) -> None:
    append(place.log, topic, 5000)
    found = read_all(place.log, topic, at_once=700)
    assert sorted(int(message.value) for message in found) == list(range(5000))
    assert_contiguous(found)
    assert_each_key_in_order(found)


def test_records_flushed_one_by_one_are_all_kept(place: Place, topic: str) -> None:
    writer = place.log.writer()
    for number in range(30):  # to a broker, batches of one length may look like one repeated
        writer.append(topic, b"key", b"%d" % number)
        writer.flush(PATIENCE_SECONDS)
    writer.close()
    assert [int(message.value) for message in read_all(place.log, topic)] == list(range(30))


def test_both_logs_choose_the_same_partition_as_kafka_python(place: Place, topic: str) -> None:
    append(place.log, topic, 100, keys=100)
    memory = MemoryLog()
    memory.create(topic, 4)
    append(memory, topic, 100, keys=100)
    expected = {message.key: message.partition for message in read_all(memory, topic)}
    assert {message.key: message.partition for message in read_all(place.log, topic)} == expected
    assert set(expected.values()) == {0, 1, 2, 3}


def test_key_value_and_headers_survive(place: Place, topic: str) -> None:
    writer = place.log.writer()
    before_ns = time.time_ns() // 1_000_000 * 1_000_000
    records = [
        (None, b"no key", ()),
        (b"", b"", ()),
        (b"key", bytes(range(256)) * 3000, (("reason", b"bad price"), ("größe", b""))),
        (b"key", b"x" * 63, ()),
        (b"key", b"x" * 64, ()),  # where lengths grow from one byte to two
    ]
    for key, value, headers in records:
        writer.append(topic, key, value, headers)
    writer.flush(PATIENCE_SECONDS)
    writer.close()
    found = read_all(place.log, topic)
    got = sorted((message.key or b"", message.value, message.headers) for message in found)
    assert got == sorted((key or b"", value, headers) for key, value, headers in records)
    assert {message.key for message in found} == {None, b"", b"key"}
    assert all(before_ns <= message.time_ns <= time.time_ns() for message in found)


def test_the_longest_record_is_taken_and_a_longer_one_refused(place: Place, topic: str) -> None:
    writer = place.log.writer()
    with pytest.raises(LogError, match=f"{LARGEST_RECORD + 1} bytes"):
        writer.append(topic, None, b"x" * (LARGEST_RECORD + 1))
    assert writer.pending() == 0
    longest = random.Random(0).randbytes(LARGEST_RECORD)  # compression gains nothing
    writer.append(topic, None, longest)
    writer.flush(PATIENCE_SECONDS)
    writer.close()
    assert [message.value for message in read_all(place.log, topic)] == [longest]


def test_offsets_tell_where_the_log_starts_and_ends(place: Place, topic: str) -> None:
    nothing = dict.fromkeys(range(4), 0)
    assert place.log.start_offsets(topic) == place.log.end_offsets(topic) == nothing
    append(place.log, topic, 400)
    ends = place.log.end_offsets(topic)
    assert sum(ends.values()) == 400
    assert place.log.start_offsets(topic) == nothing
    found = by_partition(read_all(place.log, topic))
    assert {part: len(found[part]) for part in range(4)} == ends


def test_offsets_at_a_time(place: Place, topic: str) -> None:
    append(place.log, topic, 200)
    middle = place.log.end_offsets(topic)
    time.sleep(0.01)
    border_ns = time.time_ns()
    time.sleep(0.01)
    append(place.log, topic, 200, start=200)
    assert place.log.offsets_at(topic, border_ns) == middle
    assert place.log.offsets_at(topic, 0) == place.log.start_offsets(topic)
    later_ns = time.time_ns() + 10**9
    assert place.log.offsets_at(topic, later_ns) == place.log.end_offsets(topic)
    for message in read_all(place.log, topic):
        assert (message.time_ns >= border_ns) == (message.offset >= middle[message.partition])


def test_seek_and_position(place: Place, topic: str) -> None:
    append(place.log, topic, 1000, keys=1)
    (partition,) = {message.partition for message in read_all(place.log, topic)}
    reader = place.log.reader(topic, {partition: 990})
    assert reader.assignment() == (partition,)
    assert reader.position(partition) == 990
    assert [message.offset for message in read(reader, 10, at_once=4)] == list(range(990, 1000))
    assert reader.position(partition) == 1000
    reader.seek(partition, 5)
    assert reader.position(partition) == 5
    first = reader.poll(3, PATIENCE_SECONDS)
    assert [message.offset for message in first] == [5, 6, 7]
    assert reader.position(partition) == 8
    reader.close()


def test_an_offset_that_does_not_exist_is_an_error(place: Place, topic: str) -> None:
    append(place.log, topic, 10)
    reader = place.log.reader(topic, {0: 10**6})
    with pytest.raises(LogError, match="no record at the requested offsets"):
        read(reader, 1)
    reader.close()


def test_a_topic_created_anew_is_another_generation(place: Place, topic: str) -> None:
    append(place.log, topic, 100)
    generation = place.log.generation(topic)
    assert place.log.generation(topic) == generation
    assert re.fullmatch(r"[A-Za-z0-9_.]{1,16}", generation)
    place.log.create(topic, 4)  # it exists: nothing happens
    assert place.log.generation(topic) == generation
    reader = place.log.reader(topic, place.log.start_offsets(topic))
    assert read(reader, 100)
    place.delete(topic)
    assert place.log.partitions(topic) == ()
    place.log.create(topic, 2)
    assert place.log.generation(topic) != generation
    assert place.log.partitions(topic) == (0, 1)
    append(place.log, topic, 1000)  # more than before: its offsets all exist anew
    with pytest.raises(LogError, match="re-created"):
        assert read(reader, 1) == []
    reader.close()


def test_a_topic_that_is_not_there(place: Place) -> None:
    assert place.log.partitions("absent") == ()
    for ask in (place.log.generation, place.log.end_offsets, place.log.start_offsets):
        with pytest.raises(LogError, match="`absent`"):
            ask("absent")
    with pytest.raises(LogError, match="`absent`"):
        place.log.reader("absent", {0: 0})


def test_records_wait_for_their_topic(place: Place) -> None:
    late = next(names)
    writer = place.log.writer()
    writer.append(late, b"key", b"1")
    with pytest.raises(LogError, match="1 records were not acknowledged"):
        writer.flush(0.3)
    assert writer.pending() == 1
    assert writer.age_seconds() >= 0.3
    place.log.create(late, 1)
    writer.flush(PATIENCE_SECONDS)
    assert writer.age_seconds() == 0
    writer.close()
    assert [message.value for message in read_all(place.log, late)] == [b"1"]


def test_a_group_shares_the_partitions_and_reads_each_record_once(place: Place, topic: str) -> None:
    ledger = Ledger()
    one = Member(place, topic, ledger)
    append(place.log, topic, 400)
    until(lambda: len(one.found) == 400, "one reads all")
    assert one.reader.assignment() == (0, 1, 2, 3)

    other = Member(place, topic, ledger)
    until(
        lambda: set(ledger.owners.values()) == {one, other} and len(ledger.owners) == 4,
        "both have a share",
    )
    append(place.log, topic, 400, start=400)
    until(lambda: len(one.found) + len(other.found) == 800, "both read all")
    assert {one.reader.assignment(), other.reader.assignment()} == {(0, 1), (2, 3)}

    one.stop()
    until(lambda: len(ledger.owners) == 4, "every partition has an owner")
    append(place.log, topic, 400, start=800)
    until(lambda: len(one.found) + len(other.found) == 1200, "the rest is read")
    other.stop()
    assert ledger.problems == []
    assert ledger.owners == {}
    found = sorted(one.found + other.found, key=lambda message: message.offset)
    assert sorted(int(message.value) for message in found) == list(range(1200))
    assert_contiguous(found)


def test_an_error_in_a_callback_reaches_the_caller(place: Place, topic: str) -> None:
    def fail(partitions: Sequence[int]) -> None:
        raise RuntimeError("no state for these")

    reader = place.log.group_reader(topic, topic, fail, lambda _: None)
    with pytest.raises(RuntimeError, match="no state for these"):
        read(reader, 1)
    reader.close()


@pytest.mark.parametrize("more", [5, 8])
def test_partitions_can_be_added_and_writers_and_readers_see_them(
    place: Place, topic: str, more: int
) -> None:
    writer = place.log.writer()
    reader = place.log.reader(topic, place.log.start_offsets(topic))
    for number in range(100):
        writer.append(topic, b"key-%d" % number, b"%d" % number)
    writer.flush(PATIENCE_SECONDS)
    assert len(read(reader, 100)) == 100
    assert reader.partition_count() == 4
    place.log.extend(topic, more)
    place.log.extend(topic, 3)  # it has more already: nothing happens
    assert place.log.partitions(topic) == tuple(range(more))

    def noticed() -> bool:
        reader.poll(100, 0.1)
        return reader.partition_count() == more

    until(noticed, "the reader sees the new partitions")
    assert reader.assignment() == (0, 1, 2, 3), "whoever opened it chooses"

    def used() -> bool:
        for number in range(100):
            writer.append(topic, b"key-%d" % number, b"%d" % number)
        writer.flush(PATIENCE_SECONDS)
        return min(place.log.end_offsets(topic).values()) > 0

    until(used, "the writer uses the new partitions", pause_seconds=0.5)
    writer.close()
    reader.close()
    newest = {message.key: message for message in sorted(read_all(place.log, topic), key=_time)}
    assert {key: m.partition for key, m in newest.items()} == {
        key: partition_of(key, more) for key in newest if key is not None
    }


def _time(message: Message) -> int:
    return message.time_ns


def test_a_group_takes_added_partitions(place: Place, topic: str) -> None:
    ledger = Ledger()
    ledger.positions = dict.fromkeys(range(6), 0)
    member = Member(place, topic, ledger)
    append(place.log, topic, 100)
    until(lambda: len(member.found) == 100, "the first partitions are read")
    place.log.extend(topic, 6)
    until(lambda: member.reader.assignment() == tuple(range(6)), "the new ones are assigned")
    append(place.log, topic, 400, keys=100, start=100)
    until(lambda: len(member.found) == 500, "all is read")
    member.stop()
    assert ledger.problems == []
    assert {message.partition for message in member.found} == set(range(6))


def test_a_topic_that_is_not_there_cannot_be_extended(place: Place) -> None:
    with pytest.raises(LogError, match="`absent`"):
        place.log.extend("absent", 2)


@pytest.mark.parametrize("hide", [False, True])
def test_a_writer_without_permission_ends_with_an_error_that_says_what_to_do(
    place: Place, topic: str, hide: bool
) -> None:
    place.deny(topic, hide=hide)
    writer = place.log.writer()
    writer.append(topic, b"key", b"1")
    with pytest.raises(DeniedError, match=rf"denies access: .*{topic}.*; allow this user "):
        writer.flush(PATIENCE_SECONDS)
    with pytest.raises(DeniedError, match="denies access"):
        writer.append(topic, b"key", b"2")
    assert writer.pending() == 0
    assert writer.age_seconds() == 0
    writer.close()
    other = next(names)
    place.log.create(other, 1)
    append(place.log, other, 10)
    assert len(read_all(place.log, other)) == 10, "another writer is not affected"
