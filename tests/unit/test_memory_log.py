"""What the in-process log has beyond the contract that it shares with Kafka."""

from __future__ import annotations

import pytest

from volatility.streaming.log.interface import LogError
from volatility.streaming.log.memory_log import MemoryLog
from volatility.streaming.log.partitioning import partition_of


def test_while_it_is_away_records_wait_and_nothing_is_read() -> None:
    log = MemoryLog()
    log.create("ticks", 2)
    writer, reader = log.writer(), log.reader("ticks", {0: 0, 1: 0})
    log.pause()
    for number in range(20):
        writer.append("ticks", b"key-%d" % number, b"%d" % number)
    assert writer.pending() == 20
    assert writer.age_seconds() > 0
    assert reader.poll(100, 0.0) == []
    with pytest.raises(LogError, match="20 records were not acknowledged"):
        writer.flush(0.0)
    log.resume()
    writer.flush(0.0)
    assert (writer.pending(), writer.age_seconds()) == (0, 0.0)
    assert {int(message.value) for message in reader.poll(100, 0.0)} == set(range(20))


def test_a_full_queue_takes_nothing() -> None:
    log = MemoryLog(max_pending=2)
    log.create("ticks", 1)
    log.pause()
    writer = log.writer()
    for _ in range(2):
        writer.append("ticks", None, b"")
    with pytest.raises(LogError, match="queue full"):
        writer.append("ticks", None, b"")
    assert writer.pending() == 2


def test_time_never_runs_backwards_along_offsets() -> None:
    times_ns = iter([30, 10, 20, 40])
    log = MemoryLog(clock=lambda: next(times_ns))
    log.create("ticks", 1)
    writer = log.writer()
    for _ in range(4):
        writer.append("ticks", b"key", b"")
    found = log.reader("ticks", {0: 0}).poll(10, 0.0)
    assert [message.time_ns for message in found] == [30, 30, 30, 40]
    assert log.offsets_at("ticks", 31) == {0: 3}


def test_no_partition_starves_another() -> None:
    log = MemoryLog()
    log.create("ticks", 4)
    writer = log.writer()
    for number in range(400):
        writer.append("ticks", b"key-%d" % (number % 20), b"")
    reader = log.reader("ticks", dict.fromkeys(range(4), 0))
    seen = {message.partition for _ in range(4) for message in reader.poll(10, 0.0)}
    assert seen == {0, 1, 2, 3}


def test_a_rebalance_waits_until_all_members_gave_back() -> None:
    log = MemoryLog()
    log.create("ticks", 4)
    steps: list[str] = []

    def member(name: str):
        return log.group_reader(
            "ticks",
            "group",
            lambda parts: steps.append(f"{name}+{list(parts)}"),
            lambda parts: steps.append(f"{name}-{list(parts)}"),
        )

    one, other = member("a"), member("b")
    with pytest.raises(LogError, match="no record at"):
        one.poll(1, 0.0)  # it was assigned, and nobody said where to start
    other.poll(1, 0.0)
    assert steps == ["a+[0, 1, 2, 3]"]
    assert other.assignment() == ()
    with pytest.raises(LogError, match="no record at"):
        one.poll(1, 0.0)
    assert steps[1:] == ["a-[0, 1, 2, 3]", "a+[0, 1]"]
    one.close()
    assert steps[3:] == ["a-[0, 1]"]


@pytest.mark.parametrize(
    ("key", "digest"),
    [  # from the tests of Kafka's own Utils.murmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_go_where_kafka_puts_them(key: bytes, digest: int) -> None:
    for partitions in (1, 2, 3, 4, 7, 12):
        assert partition_of(key, partitions) == (digest & 0x7FFFFFFF) % partitions
