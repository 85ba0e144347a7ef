from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import market
from tests.chaos.checks import read_all
from volatility.lake.lake import Lake, LakeError
from volatility.records.tick import Heartbeat, Tick, decode, encode
from volatility.settings import Settings
from volatility.streaming import ingest
from volatility.streaming import metrics as metrics_module
from volatility.streaming.ingest import Ingest, last_records, run, source_of, symbols_of
from volatility.streaming.log.interface import DEAD_LETTER, TICKS, DeniedError, LogError
from volatility.streaming.log.memory_log import MemoryLog
from volatility.streaming.sources.events import (
    Arrived,
    Event,
    Gap,
    Reconnected,
    Rejected,
    SourceStatistics,
)


async def given(batches: list[list[Event]]) -> AsyncIterator[list[Event]]:
    for batch in batches:
        yield batch


def arrivals(count: int, seed: int = 0) -> list[Event]:
    return [Arrived(record) for record in islice(market.records(seed), count)]


def records(log: MemoryLog) -> list:
    return [decode(message.value) for message in read_all(log, TICKS)]


def counter(name: str, **labels: str) -> float:
    name = f"volatility_{name}_total"
    return metrics_module.registry.get_sample_value(name, labels) or 0.0


def gauge(name: str) -> float:
    return metrics_module.registry.get_sample_value(f"volatility_{name}") or 0.0


class OneBehind:
    """A writer that keeps up: only the newest record is not yet acknowledged."""

    queued = 0.0

    def append(self, *_record: Any) -> None:
        self.queued = time.monotonic()

    def pending(self) -> int:
        return 1

    def age_seconds(self) -> float:
        return time.monotonic() - self.queued

    def flush(self, timeout_seconds: float) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def test_what_arrives_is_in_the_log_in_order(lake: Lake) -> None:
    log, events = MemoryLog(), arrivals(500)
    assert run(log, given([events[:200], events[200:]]), lake, partitions=3) == 500
    for symbol in market.SYMBOLS:
        told = [e.record for e in events if isinstance(e, Arrived) and e.record.symbol == symbol]
        assert [r for r in records(log) if r.symbol == symbol] == told
    assert len(log.partitions(TICKS)) == 3


def test_a_gap_goes_to_the_ledger_and_a_reconnect_is_counted(lake: Lake) -> None:
    before, gaps = counter("reconnects"), counter("gaps", reason="lost messages")
    gap = Gap("BTC-USD", 5, 9, "lost messages", {"lost": 3})
    run(MemoryLog(), given([[gap, Reconnected("closed", "x", 1, 0.5)]]), lake, partitions=1)
    assert lake.gaps() == [gap]
    assert counter("reconnects") - before == 1
    assert counter("gaps", reason="lost messages") - gaps == 1
    zero = metrics_module.registry.get_sample_value("volatility_gaps_total", {"reason": "restart"})
    assert zero is not None  # a first gap must be an increase


def test_what_the_source_noticed_is_counted_in_the_metrics(lake: Lake) -> None:
    statistics = SourceStatistics()
    before = counter("duplicate_ticks"), counter("lost_messages")

    async def noticing() -> AsyncIterator[list[Event]]:
        for duplicates in (2, 5):
            statistics.duplicates, statistics.lost_messages = duplicates, 3
            yield arrivals(5)

    run(MemoryLog(), noticing(), lake, partitions=1, statistics=statistics)
    after = counter("duplicate_ticks"), counter("lost_messages")
    assert (after[0] - before[0], after[1] - before[1]) == (5, 3)


@pytest.mark.parametrize("symbol", ["XXX-USD", "NONE-EUR"])
def test_a_symbol_that_the_exchange_does_not_deliver_is_in_the_metrics(
    lake: Lake, symbol: str
) -> None:
    def missing() -> float | None:
        labels = {"symbol": symbol}
        return metrics_module.registry.get_sample_value("volatility_missing_symbols", labels)

    statistics = SourceStatistics(missing={symbol})
    log = MemoryLog()
    run(log, given([arrivals(5)]), lake, partitions=1, statistics=statistics)
    assert missing() == 1
    work = Ingest(log.writer(), lake, statistics)
    work.finish()
    statistics.missing.clear()
    work.finish()
    assert missing() == 0


def test_what_was_rejected_goes_to_the_dead_letter_topic_with_the_reason(lake: Lake) -> None:
    log = MemoryLog()
    run(log, given([[Rejected("bid is above ask", b"{...}")]]), lake, partitions=1)
    (message,) = read_all(log, DEAD_LETTER)
    assert message.value == b"{...}"
    assert dict(message.headers) == {"reason": b"bid is above ask"}


def test_while_the_log_is_away_records_wait_in_order(lake: Lake) -> None:
    log = MemoryLog()
    log.create(TICKS, 2)
    events = arrivals(900)
    work = Ingest(log.writer(), lake)
    work.take(events[:300])
    log.pause()
    work.take(events[300:600])
    assert not lake.gaps()
    log.resume()
    work.take(events[600:])
    work.finish()
    for symbol in market.SYMBOLS:
        told = [e.record for e in events if isinstance(e, Arrived) and e.record.symbol == symbol]
        assert [r for r in records(log) if r.symbol == symbol] == told


def test_the_age_of_the_buffer_is_that_of_the_oldest_record_that_waits(lake: Lake) -> None:
    log = MemoryLog()
    log.create(TICKS, 2)
    work = Ingest(log.writer(), lake)
    log.pause()
    work.take(arrivals(5))
    time.sleep(0.05)
    assert gauge("buffered_ticks") == 5
    assert gauge("buffer_age_seconds") >= 0.05, "it grows while the source is silent"
    log.resume()
    work.finish()
    assert gauge("buffer_age_seconds") == 0


def test_a_log_that_keeps_up_under_load_has_no_old_records(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "MEASURE_SECONDS", 0.0)
    work = Ingest(OneBehind(), lake)
    for event in arrivals(5):
        work.take([event])
        time.sleep(0.02)
    assert gauge("buffered_ticks") == 1, "there is always one that was just appended"
    assert gauge("buffer_age_seconds") < 0.05


def test_past_the_bound_each_loss_is_counted_and_lies_in_a_gap(lake: Lake) -> None:
    log = MemoryLog(max_pending=100)
    log.create(TICKS, 2)
    events, before = arrivals(400), counter("dropped_ticks")
    work = Ingest(log.writer(), lake)
    log.pause()
    work.take(events[:250])
    log.resume()
    work.take(events[250:])
    assert len(lake.gaps()) == 3, "a loss is named as soon as it has ended"
    work.finish()
    kept = records(log)
    lost = [e.record for e in events if isinstance(e, Arrived) and e.record not in kept]
    assert lost == [e.record for e in events[100:250] if isinstance(e, Arrived)]
    assert counter("dropped_ticks") - before == 150
    assert work.records == 250
    gaps = {gap.symbol: gap for gap in lake.gaps()}
    assert len(gaps) == len(lake.gaps()) == 3
    for symbol, gap in gaps.items():
        times = [record.time for record in lost if record.symbol == symbol]
        assert (gap.start_ns, gap.stop_ns) == (min(times), max(times))
        assert gap.reason == "buffer full"
        assert gap.detail == {"lost": len(times)}
    for symbol in market.SYMBOLS:
        times = [record.time for record in kept if record.symbol == symbol]
        assert times == sorted(times)


def test_a_source_that_can_wait_loses_nothing_however_long_the_log_is_away(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog(max_pending=100)
    log.create(TICKS, 2)
    log.pause()
    monkeypatch.setattr(ingest, "PATIENT_RECORDS", 60)
    events, pauses = arrivals(400), []

    async def asleep(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
            if len(pauses) == 50:
                log.resume()

    monkeypatch.setattr(asyncio, "sleep", asleep)
    batches = [events[i : i + 20] for i in range(0, 400, 20)]
    assert run(log, given(batches), lake, partitions=2, patient=True) == 400
    assert len(pauses) >= 50
    assert not lake.gaps()


def test_what_is_lost_when_ingest_ends_is_named_too(lake: Lake) -> None:
    log = MemoryLog(max_pending=10)
    log.create(TICKS, 1)
    work = Ingest(log.writer(), lake)
    log.pause()
    work.take(arrivals(50))
    log.resume()
    work.finish()
    assert sum(gap.detail["lost"] for gap in lake.gaps()) == 40


def test_a_log_that_does_not_come_back_is_an_error(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "FLUSH_SECONDS", 0.01)
    log = MemoryLog()
    log.create(TICKS, 1)
    work = Ingest(log.writer(), lake)
    log.pause()
    work.take(arrivals(5))
    with pytest.raises(LogError, match="not acknowledged"):
        work.finish()


def test_a_ledger_without_room_does_not_stop_the_ticks(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log, gaps = MemoryLog(), [Gap("BTC-USD", n, n + 1, "reconnect") for n in range(3)]
    log.create(TICKS, 1)
    work, write, full = Ingest(log.writer(), lake), lake.record_gap, [True]

    def record_gap(*arguments: object, **detail: object) -> None:
        if full:
            raise LakeError("no room")
        write(*arguments, **detail)  # type: ignore[arg-type]

    monkeypatch.setattr(lake, "record_gap", record_gap)
    work.take([*gaps[:2], *arrivals(10), gaps[2]])
    assert work.records == 10
    assert caplog.text.count("buffering gaps") == 1
    full.clear()
    work.finish()
    assert lake.gaps() == gaps


def test_the_last_records_are_those_of_each_symbol() -> None:
    log = MemoryLog()
    assert last_records(log) == []
    log.create(TICKS, 2)
    assert last_records(log) == []
    told = list(islice(market.records(0), 2_000))
    writer = log.writer()
    for record in told:
        writer.append(TICKS, record.symbol.encode(), encode(record))
    writer.append(TICKS, b"BTC-USD", b"not json")
    found = last_records(log)
    assert found == sorted(found, key=lambda record: record.time)
    for symbol in market.SYMBOLS:
        for kind in (Tick, Heartbeat):
            mine = [r for r in told if r.symbol == symbol and isinstance(r, kind)]
            assert mine[-1] in found
    assert len(found) == 6


def test_stopping_flushes_what_was_read(lake: Lake) -> None:
    log, asked = MemoryLog(), []

    async def endless() -> AsyncIterator[list[Event]]:
        source: Iterator[Event] = (Arrived(record) for record in market.records(0))
        while True:
            yield list(islice(source, 10))
            asked.append(1)
            await asyncio.sleep(0)

    count = run(log, endless(), lake, partitions=1, stopped=lambda: len(asked) > 5)
    assert count == len(records(log)) >= 50


def test_a_source_that_fails_ends_ingest_with_its_error(lake: Lake) -> None:
    async def failing() -> AsyncIterator[list[Event]]:
        yield arrivals(5)
        raise ValueError("broken source")

    with pytest.raises(ValueError, match="broken source"):
        run(MemoryLog(), failing(), lake, partitions=1)


def test_the_command_line_names_a_source(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "symbols": symbols_of("simulate", "BTC-USD, ETH-USD"),
        "speed": "max",
        "hours": 0.01,
        "path": None,
    }
    options |= {"protocol": "advanced-trade", "url": None, "known": []}

    async def first(source: str) -> list[Event]:
        events = source_of(source, Settings(), **options)
        return await anext(events)

    found = asyncio.run(first("simulate"))
    assert {json.loads(encode(e.record))["symbol"] for e in found if isinstance(e, Arrived)} <= {
        "BTC-USD",
        "ETH-USD",
    }
    with pytest.raises(ValueError, match="needs --path"):
        source_of("replay", Settings(), **options)


def test_symbols_are_those_named_or_those_of_the_source() -> None:
    assert symbols_of("kraken", " BTC-USD ,,ETH-EUR") == ("BTC-USD", "ETH-EUR")
    assert symbols_of("binance", None) == ("BTC-USDT", "ETH-USDT")
    assert symbols_of("simulate", None) == ("BTC-USD", "ETH-USD")
    assert symbols_of("replay", None) == ()  # all that was recorded
    with pytest.raises(ValueError, match="no symbols given"):
        symbols_of("coinbase", " , ")


@pytest.mark.parametrize("patient", [False, True])
@pytest.mark.parametrize("topic", [TICKS, DEAD_LETTER])
def test_a_log_that_denies_access_ends_ingest(
    lake: Lake, topic: str, patient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither counts it each record as dropped, nor waits for room in the queue."""
    monkeypatch.setattr(ingest, "PATIENT_RECORDS", 0)
    log = MemoryLog()
    log.deny(topic)
    before = counter("dropped_ticks")
    bad: list[Event] = [Rejected("bad price", b"bad")]
    with pytest.raises(DeniedError, match=f"denies access: topic `{topic}`"):
        run(log, given([arrivals(20), bad, arrivals(20)]), lake, partitions=2, patient=patient)
    assert counter("dropped_ticks") == before
