"""A symbol has one partition: what lies elsewhere counts nowhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.chaos import market
from tests.chaos.checks import batch_rows, bundle, read_all
from volatility.lake.lake import Lake
from volatility.records.tick import Record, encode
from volatility.streaming import metrics
from volatility.streaming.capture import Rotation, capture_topic
from volatility.streaming.ingest import last_records
from volatility.streaming.layout import GRACE_SECONDS, Layout
from volatility.streaming.log.interface import (
    DEAD_LETTER,
    LAYOUT,
    PREDICTIONS,
    TICKS,
    LogError,
)
from volatility.streaming.log.memory_log import MemoryLog
from volatility.streaming.log.partitioning import partition_of
from volatility.streaming.models import Model
from volatility.streaming.score import Scorer
from volatility.units import SECOND

MODELS = SimpleNamespace(current=lambda: (Model("m", "1", bundle(0)),))
Key = Callable[[str], bytes | None]


def key_of_symbol(symbol: str) -> bytes:
    return symbol.encode()


def by_another_partitioner(symbol: str) -> bytes:
    """Return a key that hashes to where another partitioner would put the symbol."""
    return f"elsewhere-{symbol}".encode()


def no_key(_: str) -> None:
    return None


def append(log: MemoryLog, records: Iterable[Record], key: Key = key_of_symbol) -> None:
    writer = log.writer()
    for record in records:
        writer.append(TICKS, key(record.symbol), encode(record))
    writer.close()


def made(partitions: int, clock: Callable[[], int] = time.time_ns) -> MemoryLog:
    log = MemoryLog(clock=clock)
    log.create(TICKS, partitions)
    return log


def score(log: MemoryLog) -> None:
    scorer = Scorer(log, MODELS, group=None)  # type: ignore[arg-type]
    try:
        scorer.run(follow=False)
    finally:
        scorer.close()


def scored(log: MemoryLog) -> dict[tuple[str, int], float]:
    found: dict[tuple[str, int], float] = {}
    for message in read_all(log, PREDICTIONS):
        one = json.loads(message.value)
        assert (one["symbol"], one["time"]) not in found, "a step is scored once"
        found[one["symbol"], one["time"]] = one["score"]
    return found


def of_lake(folder: Path) -> dict[tuple[str, int], float]:
    """Score the warm steps of the lake."""
    lake = Lake(folder)
    found: dict[tuple[str, int], float] = {}
    for symbol in lake.symbols():
        times, rows = batch_rows(lake.scan(symbol))
        scores = bundle(0).score(rows, bundle(0).places([symbol] * len(rows))).tolist()
        found |= {(symbol, time): one for time, one in zip(times, scores, strict=True)}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("key", [no_key, by_another_partitioner])
def test_records_on_another_partition_are_rejected_by_capture_and_score_alike(
    tmp_path: Path, key: Key
) -> None:
    log = made(4)
    stream = market.records(0, step_ns=SECOND // 5)
    append(log, islice(stream, 3_000))
    append(log, islice(stream, 1_500), key)
    append(log, islice(stream, 3_000))
    astray = [
        message
        for message in read_all(log, TICKS)
        if partition_of(json.loads(message.value)["symbol"].encode(), 4) != message.partition
    ]
    assert 200 < len(astray) <= 1_500
    before = metrics.misplaced_ticks._value.get()
    score(log)
    assert metrics.misplaced_ticks._value.get() - before == len(astray)
    assert capture_topic(log, TICKS, tmp_path) == 7_500 - len(astray)
    buried = [dict(message.headers) for message in read_all(log, DEAD_LETTER)]
    source = f"{TICKS}.{log.generation(TICKS)}"
    assert {headers["source"].decode() for headers in buried} == {
        f"{source}/{message.partition}/{message.offset}" for message in astray
    }
    assert all(b"not on its symbol's partition" in headers["reason"] for headers in buried)
    assert scored(log) == of_lake(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("more", "group"), [(3, None), (6, None), (6, "score")])
def test_added_partitions_are_followed_and_moved_symbols_wait_for_whole_windows(
    tmp_path: Path, more: int, group: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    log = made(2)
    stream = market.records(0, step_ns=SECOND // 5)
    append(log, islice(stream, 4_000))
    scorer = Scorer(log, MODELS, group=group)  # type: ignore[arg-type]
    polls = count()

    def stopped() -> bool:
        number = next(polls)
        if number == 10:
            log.extend(TICKS, more)
            append(log, islice(stream, 5_000))
        return number == 25

    scorer.run(follow=True, stopped=stopped)
    scorer.close()
    assert log.partitions(PREDICTIONS) == tuple(range(more))
    append(log, islice(stream, 9_000))
    score(log)
    append(log, islice(stream, 50))
    score(log)
    assert capture_topic(log, TICKS, tmp_path) == 18_050, "the old records are where they belonged"
    assert not log.partitions(DEAD_LETTER)
    expected, found = of_lake(tmp_path), scored(log)
    assert found == {key: expected[key] for key in found}
    symbols = {symbol for symbol, _ in expected}
    moved = {s for s in symbols if partition_of(s.encode(), 2) != partition_of(s.encode(), more)}
    assert moved
    assert {symbol for symbol, _ in found} == symbols
    missing = expected.keys() - found.keys()
    assert {symbol for symbol, _ in missing} == moved, "the others are not held back"
    for symbol in moved:
        assert f"{symbol} has moved to partition" in caplog.text
        since = [time for name, time in missing if name == symbol]
        assert max(since) - min(since) == pytest.approx(1_800 * SECOND, rel=0.02)


@pytest.mark.parametrize("late_seconds", [GRACE_SECONDS - 1, GRACE_SECONDS + 1])
def test_producers_have_a_grace_to_notice_added_partitions(
    tmp_path: Path, late_seconds: int
) -> None:
    now = [time.time_ns()]
    log = made(2, clock=lambda: now[0])
    records = list(islice(market.records(0), 40))
    append(log, records[:10])
    Layout(log).refresh()
    log.extend(TICKS, 5)
    Layout(log).refresh()
    now[0] += late_seconds * SECOND

    def stale(symbol: str) -> bytes:
        """Return a key that today hashes to where the symbol was."""
        keys = (b"%d" % number for number in count())
        return next(k for k in keys if partition_of(k, 5) == partition_of(symbol.encode(), 2))

    append(log, records[10:], stale)
    layout = Layout(log)
    layout.refresh()
    here = [r for r in records[10:] if layout.home(r.symbol) == partition_of(r.symbol.encode(), 2)]
    expected = 40 if late_seconds < GRACE_SECONDS else 10 + len(here)
    assert capture_topic(log, TICKS, tmp_path) == expected


def test_capture_asks_for_the_number_of_partitions_before_it_rejects(tmp_path: Path) -> None:
    """What is read before the running capture has noticed more partitions is not rejected."""
    log = made(1)
    records = list(islice(market.records(0), 60))
    polls = count()

    def stopped() -> bool:
        number = next(polls)
        if number == 1:
            append(log, records[:30])
        if number == 3:
            log.extend(TICKS, 7)
            append(log, records[30:])
        return number == 12

    written = capture_topic(
        log, TICKS, tmp_path, follow=True, stopped=stopped, rotation=Rotation(rows=10, seconds=0)
    )
    assert written == 60
    assert not log.partitions(DEAD_LETTER)


@pytest.mark.parametrize("group", [None, "capture"])
def test_capture_follows_added_partitions(tmp_path: Path, group: str | None) -> None:
    log = made(2)
    records = list(islice(market.records(0), 400))
    append(log, records[:100])
    polls = count()

    def stopped() -> bool:
        number = next(polls)
        if number == 5:
            log.extend(TICKS, 6)
            append(log, records[100:])
        return number == 15

    capture_topic(log, TICKS, tmp_path, follow=True, stopped=stopped, group=group)
    lake = Lake(tmp_path)
    assert sum(map(lake.rows, lake.symbols())) == 400
    assert capture_topic(log, TICKS, tmp_path) == 0


def test_partitions_added_amid_a_run_of_a_group_to_the_end(tmp_path: Path) -> None:
    log = made(2)
    append(log, islice(market.records(0), 100))
    polls = count()

    def stopped() -> bool:
        if next(polls) == 0:
            log.extend(TICKS, 4)
        return False

    assert capture_topic(log, TICKS, tmp_path, group="capture", stopped=stopped) == 100


def test_more_predictions_than_ticks_says_what_to_do() -> None:
    log = made(2)
    log.create(PREDICTIONS, 3)
    with pytest.raises(LogError, match=r"kafka-topics.sh --alter --topic ticks --partitions 3"):
        Scorer(log, MODELS, group=None)  # type: ignore[arg-type]


def test_each_number_is_noted_once_for_each_generation() -> None:
    log = made(2)
    one, other = Layout(log), Layout(log)
    assert one.refresh()
    assert other.refresh()
    assert not one.refresh()
    log.extend(TICKS, 3)
    assert one.refresh()
    assert other.refresh()
    assert [json.loads(m.value)["partitions"] for m in read_all(log, LAYOUT)] == [2, 3]
    log.delete(TICKS)
    log.create(TICKS, 2)
    assert one.refresh()
    assert one.count == 2
    assert one.moved(one.home("BTC-USD"), "BTC-USD") < 0, "this topic has always had two"


def test_the_last_record_of_a_symbol_that_moved_is_the_newest() -> None:
    for before, after in ((1, 5), (2, 7)):
        now = [time.time_ns()]
        log = made(before, clock=lambda now=now: now[0])  # type: ignore[misc]
        records = list(islice(market.records(0), 200))
        append(log, records[:100])
        log.extend(TICKS, after)
        now[0] += SECOND
        append(log, records[100:])
        newest = {(r.symbol, type(r)): r for r in records}
        assert {(r.symbol, type(r)): r for r in last_records(log)} == newest
