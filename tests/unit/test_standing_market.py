from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace

import pytest

from volatility import registry, stages
from volatility.dev import first_model, standing_market
from volatility.dev.standing_market import PAST_HOURS, PAUSE_HOURS, RECENT_HOURS, standing, stream
from volatility.records.tick import Record
from volatility.registry import Registered
from volatility.settings import Settings
from volatility.simulation.simulator import simulate
from volatility.streaming.sources import MAX_EVENTS
from volatility.streaming.sources.events import Arrived
from volatility.units import SECOND

NOW = 1_775_337_223 * SECOND + 5


def collect(lake: Path, now: int, known: dict[str, int]) -> list[Record]:
    """Take what the stream gives at once."""

    async def read() -> list[Record]:
        found: list[Record] = []
        async with aclosing(
            stream(standing(lake, NOW), 7, known, ["BTC-USD", "ETH-USD"], clock=lambda: now)
        ) as events:
            while True:
                try:
                    batch = await asyncio.wait_for(anext(events), 2.0)
                except TimeoutError:
                    return found
                assert 0 < len(batch) <= MAX_EVENTS
                found += [event.record for event in batch if isinstance(event, Arrived)]

    return asyncio.run(read())


def test_a_market_stands_from_the_first_look_on(tmp_path):
    market = standing(tmp_path / "lake", NOW)
    assert NOW - market.stream_ns == RECENT_HOURS * 3600 * SECOND + 5
    assert market.stream_ns - market.start_ns == (PAST_HOURS + PAUSE_HOURS) * 3600 * SECOND
    assert standing(tmp_path / "lake", NOW + 10**15) == market


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing_market, "PAST_HOURS", 1)
    monkeypatch.setattr(standing_market, "RECENT_HOURS", 1)


@pytest.mark.usefixtures("short")
def test_what_has_passed_comes_at_once_and_a_restart_loses_and_doubles_nothing(tmp_path):
    market = standing(tmp_path, NOW)
    whole = collect(tmp_path, NOW, {})
    assert whole[0].time >= market.stream_ns
    assert NOW - 3 * SECOND < whole[-1].time <= NOW
    assert [r.time for r in whole] == sorted(r.time for r in whole)

    later = NOW + 300 * SECOND
    known = {record.symbol: record.time for record in whole}
    rest = collect(tmp_path, later, known)
    for symbol in ("BTC-USD", "ETH-USD"):
        expected = [
            time
            for batch in simulate(symbol, market.start_ns, 4, 7)
            for time in batch.column("time").cast("int64").to_pylist()
            if market.stream_ns <= time <= later
        ]
        assert [r.time for r in (*whole, *rest) if r.symbol == symbol] == expected


@pytest.mark.parametrize("aside", [False, True])
def test_the_first_model_is_made_once_of_the_past_of_the_market(tmp_path, monkeypatch, aside):
    asked: list[tuple[str, Settings]] = []

    def note(name: str, result: object):
        def stage(settings: Settings, *_: object, **__: object) -> object:
            asked.append((name, settings))
            return result

        return stage

    latest: list[str | None] = [None, "1"]
    done = SimpleNamespace(trained=None, version=Registered("m", "1", "d", True, "r"))
    monkeypatch.setattr(registry, "latest", lambda: latest.pop(0))
    monkeypatch.setattr(stages, "simulate_ticks", note("simulate", 5))
    monkeypatch.setattr(stages, "make_features", note("features", {}))
    monkeypatch.setattr(stages, "train", note("train", done))
    monkeypatch.setattr(
        stages, "promote", note("promote", ("1", SimpleNamespace(reasons=(), earned=True)))
    )
    paths = stages.Paths(ticks=tmp_path)
    assert first_model.make(Settings(), paths, aside=aside, now_ns=NOW) == "1"
    names = ["simulate", "features", "train"] + ([] if aside else ["promote"])
    assert [name for name, _ in asked] == names
    past = asked[0][1].simulate
    assert (past.start, past.hours) == ("20260402T181343", PAST_HOURS)
    assert first_model.make(Settings(), paths, aside=aside, now_ns=NOW) is None
    assert len(asked) == len(names)
