from __future__ import annotations

import asyncio
import math
import random

import numpy as np
import pyarrow as pa
import pytest

from volatility.lake.importing import import_files
from volatility.lake.lake import Lake
from volatility.records.columns import to_records, to_table
from volatility.records.tick import Heartbeat, Tick
from volatility.simulation.simulator import simulate
from volatility.streaming.sources.events import (
    Arrived,
    Event,
    Gap,
    Reconnected,
    Rejected,
    SourceError,
    SourceStatistics,
)
from volatility.streaming.sources.merge import merge
from volatility.streaming.sources.replay import MAX_EVENTS, _paced, _with_gaps, replay, simulated
from volatility.streaming.sources.websocket import MAX_RETRY_AFTER_SECONDS, Backoff, Timing
from volatility.units import SECOND

START = 1_775_337_223_000_000_000
BTC, ETH = "BTC-USD", "ETH-USD"


def tick(symbol, seconds):
    return Tick(symbol, START + round(seconds * SECOND), 100.0, 99.0, 101.0)


def collect(source):
    async def run():
        return [events async for events in source]

    return asyncio.run(run())


def flat(source):
    return [event for events in collect(source) for event in events]


def records(source):
    return [event.record for event in flat(source) if isinstance(event, Arrived)]


@pytest.fixture
def lake(tmp_path):
    lake = Lake(tmp_path / "lake")
    lake.write(to_table([tick(BTC, s) for s in (0, 1, 3, 2, 60)], 0, range(5)), "t", 0)
    lake.write(to_table([tick(ETH, s) for s in (0, 1.5, 3, 60)], 1, range(4)), "t", 1)
    lake.record_gap(BTC, START + 3 * SECOND, START + 60 * SECOND, "reconnect", cause="closed")
    return lake


def test_a_lake_is_merged_by_time_then_symbol_and_late_rows_keep_their_place(lake):
    found = [
        (r.symbol, (r.time - START) / SECOND) for r in records(replay(lake.root, speed=math.inf))
    ]
    assert found == [
        (BTC, 0), (ETH, 0), (BTC, 1), (ETH, 1.5), (BTC, 3), (BTC, 2), (ETH, 3), (BTC, 60), (ETH, 60)
    ]  # fmt: skip


def test_the_ledger_is_replayed_in_its_place(lake):
    statistics = SourceStatistics()
    events = flat(replay(lake.root, speed=math.inf, statistics=statistics))
    at = next(i for i, event in enumerate(events) if isinstance(event, Gap))
    assert events[at] == lake.gaps(BTC)[0]
    assert [e.record.time < events[at].stop_ns for e in events if isinstance(e, Arrived)] == (
        [True] * at + [False] * 2
    )
    assert (statistics.ticks, statistics.gaps) == (9, 1)


def test_gaps_after_the_last_record_and_several_at_once_are_kept():
    gaps = [Gap(BTC, 0, stop, "x", {}) for stop in (5, 2, 2, 1)]
    ticks: list[Event] = [Arrived(tick(BTC, s)) for s in (0, 1)]
    batches = iter([(ticks, np.array([2, 3], dtype=np.int64))])
    (events, times), (rest, rest_times) = _with_gaps(batches, gaps)
    assert [getattr(event, "stop_ns", "tick") for event in events] == [1, 2, 2, "tick", "tick"]
    assert times.tolist() == [2, 2, 2, 2, 3]
    assert (rest, rest_times.tolist()) == ([gaps[0]], [5])


def test_only_the_symbols_asked_for_are_replayed(lake):
    assert {r.symbol for r in records(replay(lake.root, [ETH], math.inf))} == {ETH}
    with pytest.raises(SourceError, match="no symbol DOGE-USD; it has BTC-USD, ETH-USD"):
        collect(replay(lake.root, ["DOGE-USD"]))


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_a_speed_is_above_zero(lake, speed):
    with pytest.raises(SourceError, match="speed"):
        collect(replay(lake.root, speed=speed))


def test_nothing_to_replay_is_an_error_of_one_line(tmp_path):
    with pytest.raises(SourceError, match="no such file") as error:
        collect(replay(tmp_path / "nothing"))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_recording_replays_as_the_lake_made_of_it(tmp_path, recordings):
    path = recordings / "ticks"
    lake = Lake(tmp_path)
    import_files([path], lake, progress=False)
    first, second = (flat(replay(source, speed=math.inf)) for source in (path, lake.root))
    assert first == second
    assert len(first) > 110_000
    for symbol in lake.symbols():
        scanned = [record for batch in lake.scan(symbol) for record in to_records(batch)]
        assert scanned == [
            e.record for e in first if isinstance(e, Arrived) and e.record.symbol == symbol
        ]


def test_what_a_recording_holds_beside_ticks_is_rejected_first(tmp_path):
    good = (
        '{"channel":"ticker","timestamp":"2026-04-04T21:13:43.5Z","sequence_num":0,"events":'
        '[{"type":"update","tickers":[{"product_id":"BTC-USD","price":"1","best_bid":"1",'
        '"best_ask":"%s"}]}]}'
    )
    path = tmp_path / "wire.ndjson"
    path.write_text(f"{good % 2}\n{good % 0.5}\n")
    first, second = flat(replay(path, speed=math.inf))
    assert isinstance(first, Rejected)
    assert first.reason == "bid is above ask"
    assert b'"best_ask":"0.5"' in first.raw
    assert isinstance(second, Arrived)


class FakeTime:
    """A clock that only sleeping moves, always by a little too much."""

    def __init__(self):
        self.now = 0.0
        self.slept = []

    def clock(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds + (0.001 if seconds else 0.0)


def paced(seconds, speed, batches=1):
    ticks = [tick(BTC, s) for s in seconds]
    events: list[Event] = [Arrived(record) for record in ticks]
    times = np.array([record.time for record in ticks], dtype=np.int64)
    size = -(-len(events) // batches)
    cut = [(events[i : i + size], times[i : i + size]) for i in range(0, len(events), size)]
    fake = FakeTime()

    async def run():
        source = _paced(iter(cut), speed, [], None, fake.clock, fake.sleep)
        return [(fake.now, event) async for found in source for event in found]

    return asyncio.run(run()), fake


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_spacing_is_kept_without_drift(speed, batches):
    seconds = np.arange(0, 1000, 0.5)
    told, _ = paced(seconds, speed, batches)
    late = np.array([now for now, _ in told]) - seconds / speed
    assert late.min() >= -1e-6
    assert late.max() <= 0.0011


def test_a_hole_takes_a_second_at_most_and_a_silence_its_time():
    month = 30 * 86_400
    told, _ = paced([0, 14, month, month + 14], 1.0)
    assert [round(now, 1) for now, _ in told] == [0, 14, 15, 29]
    told, _ = paced([0, 20, 40], 100.0)
    assert [round(now, 1) for now, _ in told] == [0, 0.2, 0.4]


def test_full_speed_never_waits_but_lets_others_run():
    told, fake = paced(range(3 * MAX_EVENTS), math.inf)
    assert [now for now, _ in told] == [0.0] * 3 * MAX_EVENTS
    assert fake.slept == [0.0] * 3


def test_a_simulated_market_is_the_simulators_own():
    hours = 0.3
    found = records(simulated([ETH, BTC], 7, math.inf, START, hours))
    for symbol in (BTC, ETH):
        batches = list(simulate(symbol, START, hours, 7))
        wanted = list(to_records(pa.Table.from_batches(batches)))
        assert [record for record in found if record.symbol == symbol] == wanted
    assert {type(record) for record in found} == {Tick, Heartbeat}
    assert found == records(simulated([BTC, ETH], 7, math.inf, START, hours))
    assert found != records(simulated([BTC, ETH], 8, math.inf, START, hours))


def test_a_live_demo_begins_now_and_without_end():
    async def first():
        async for events in simulated([BTC], 7, 1.0):
            return events
        return []

    asyncio.run(first())


@pytest.mark.parametrize(("symbols", "hours"), [([], 1), (["btc"], 1), ([BTC], 0)])
def test_a_market_that_cannot_be_simulated_is_an_error(symbols, hours):
    with pytest.raises(SourceError):
        collect(simulated(symbols, 7, math.inf, START, hours))


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_merging_does_not_depend_on_the_batches(size):
    generator = np.random.default_rng(3)
    streams, wanted = {}, []
    for symbol in ("A", "B", "C"):
        times = np.cumsum(generator.integers(-2, 4, 200))
        reached = np.maximum.accumulate(times)
        rows = pa.record_batch(
            {"time": pa.array(times), "symbol": [symbol] * 200, "row": range(200)}
        )
        streams[symbol] = iter([rows.slice(i, size) for i in range(0, 200, size)])
        wanted += [(int(t), symbol, row) for row, t in enumerate(reached)]
    merged = list(merge(streams))
    found = [
        (int(time), row["symbol"], row["row"])
        for table, times in merged
        for time, row in zip(times, table.to_pylist(), strict=True)
    ]
    assert found == sorted(wanted)


def test_waits_double_are_capped_and_differ():
    backoff = Backoff(Timing(), random.Random(1))
    waits = [backoff.next() for _ in range(200)]
    for step, wait in enumerate(waits):
        ceiling = min(30.0, 0.25 * 2.0**step)
        assert ceiling / 2 <= wait <= ceiling
    assert len(set(waits)) == len(waits)
    backoff.reset()
    assert backoff.next() <= 0.25


def test_a_refusal_waits_longer_and_as_long_as_asked():
    backoff = Backoff(Timing(), random.Random(1))
    assert 0.5 <= backoff.refused() <= 1.0
    assert 4.0 <= backoff.refused() <= 8.0
    assert 60.0 <= backoff.refused(60.0) <= 66.0
    assert backoff.refused(1e9) <= MAX_RETRY_AFTER_SECONDS * 1.1


def test_statistics_count_what_is_yielded():
    statistics = SourceStatistics()
    assert statistics.last_message_seconds is None
    beat = Arrived(Heartbeat(BTC, START))
    gap = Gap(BTC, 1, 2, "reconnect")
    back = Reconnected("silent", "", 1, 2.0)
    statistics.count([beat, Arrived(tick(BTC, 0)), Rejected("bad", b""), gap, back, beat])
    assert (statistics.ticks, statistics.heartbeats) == (1, 2)
    assert (statistics.gaps, statistics.reconnects) == (1, 1)
    assert statistics.rejected == {"bad": 1}
    assert statistics.last_message_seconds is not None
