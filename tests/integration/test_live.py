"""One process without a broker: it forecasts, serves, and continues after a kill."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.one_process import SYMBOLS, OneProcess, rows
from tests.waiting import until
from volatility.client import Client, ClientError, Forecast
from volatility.lake import Lake
from volatility.settings import Settings, Simulate
from volatility.stages import Paths, simulate_ticks

HOURS = 0.5
KILLS = 2


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulate half an hour of two symbols."""
    lake = tmp_path_factory.mktemp("market") / "ticks"
    settings = Settings(simulate=Simulate(symbols=SYMBOLS, hours=HOURS))
    simulate_ticks(settings, Paths(ticks=lake), progress=False)
    return lake


def replay(folder: Path, market: Path) -> OneProcess:
    source = ["--source", "replay", "--path", str(market), "--symbols", ",".join(SYMBOLS)]
    return OneProcess(folder, [*source, "--speed", "max"])


def finished(run: OneProcess, market: Path) -> bool:
    """Return whether every tick of the market is in the run's lake."""
    lake = Lake(run.folder / "data" / "ticks")
    return lake.exists() and all(
        symbol in lake.symbols() and lake.rows(symbol) >= Lake(market).rows(symbol)
        for symbol in SYMBOLS
    )


@pytest.fixture(scope="module")
def uninterrupted(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneProcess]:
    """Replay the market in one go."""
    run = replay(tmp_path_factory.mktemp("whole"), market)
    run.start()
    try:
        until(lambda: finished(run, market), "the replay ends", details=run.log.read_text)
        run.stop()
        yield run
    finally:
        run.kill()


def read(run: OneProcess, found: list[Forecast], stopping: threading.Event) -> None:
    with Client(run.url) as client:
        try:
            for forecast in client.stream(SYMBOLS):
                found.append(forecast)  # noqa: PERF402  others read it meanwhile
        except ClientError:
            assert stopping.is_set()


def test_kills_change_nothing(market: Path, uninterrupted: OneProcess, tmp_path: Path) -> None:
    """No tick and no forecast is missing, repeated or different, in the lake or in the stream."""
    run, chance = replay(tmp_path, market), random.Random(7)
    found: list[Forecast] = []
    stopping = threading.Event()
    try:
        run.start()
        reader = threading.Thread(target=read, args=(run, found, stopping), daemon=True)
        reader.start()
        for _ in range(KILLS):
            more = len(found) + chance.randrange(1, 1_000)
            until(
                lambda more=more: len(found) > more or finished(run, market),  # type: ignore[misc]
                "more forecasts come",
                pause_seconds=0.001,
            )
            run.kill()
            run.start()
        until(lambda: finished(run, market), "the replay ends", details=run.log.read_text)
        last = {symbol: uninterrupted.said(symbol)[-1]["time"] for symbol in SYMBOLS}
        until(lambda: len(run.said(SYMBOLS[0])) == len(uninterrupted.said(SYMBOLS[0])), "captured")
        until(
            lambda: all(
                any(one.symbol == s and one.as_of[:19] == f"{t:%Y-%m-%dT%H:%M:%S}" for one in found)
                for s, t in last.items()
            ),
            "the reader has the last forecasts",
        )
        run.stop()
    finally:
        stopping.set()
        run.kill()
    for symbol in SYMBOLS:
        assert run.ticks(symbol) == rows(Lake(market), symbol, list(run.ticks(symbol)[0]))
        assert run.said(symbol) == uninterrupted.said(symbol)
        streamed = [one for one in found if one.symbol == symbol]
        said = [f"{row['time']:%Y-%m-%dT%H:%M:%S}" for row in run.said(symbol)]
        first = said.index(streamed[0].as_of[:19])
        assert [one.as_of[:19] for one in streamed] == said[first:]


def test_a_restart_answers_at_once_and_with_the_same_bits(
    market: Path, uninterrupted: OneProcess
) -> None:
    uninterrupted.start()
    try:
        for symbol in SYMBOLS:
            found = uninterrupted.get(f"/forecast?symbol={symbol}")
            said = uninterrupted.said(symbol)[-1]
            assert found["as_of"].startswith(f"{said['time']:%Y-%m-%dT%H:%M:%S}")
            for one in said["forecasts"]:
                shown = found["horizons"][f"{one['horizon_seconds']}s"]
                assert shown["volatility_bps"] == one["volatility_bps"]
                assert shown["spike_probability"] == one["spike_probability"]
    finally:
        uninterrupted.kill()


def test_a_symbol_without_a_past_is_warming(tmp_path: Path, market: Path) -> None:
    source = ["--source", "replay", "--path", str(market), "--symbols", SYMBOLS[0]]
    run = OneProcess(tmp_path, source)  # at the market's own pace
    run.start()
    try:
        found = run.get(f"/forecast?symbol={SYMBOLS[0]}")
        assert (found["symbol"], found["state"]) == (SYMBOLS[0], "warming")
        assert 1 <= found["seconds_left"] <= 300
        assert run.get("/health")["status"] == "ok"
    finally:
        run.stop()


def test_a_simulated_market_forecasts_at_once_and_streams_by_the_second(tmp_path: Path) -> None:
    run = OneProcess(tmp_path, ["--source", "simulate", "--symbols", ",".join(SYMBOLS)])
    run.start()
    try:
        with Client(run.url) as client:
            found = []
            for forecast in client.stream():
                found.append(forecast)
                if len(found) > 20 and {one.symbol for one in found} == set(SYMBOLS):
                    break
            for symbol in SYMBOLS:
                steps = [one.time for one in found if one.symbol == symbol]
                assert {(b - a).total_seconds() for a, b in pairwise(steps)} <= {1.0}
    finally:
        run.stop()
    assert (tmp_path / "data" / "predictions" / "symbol=BTC-USD").is_dir()


def test_errors_are_one_line(tmp_path: Path) -> None:
    for options, message in (
        (["--source", "replay"], "source replay needs --path"),
        (["--source", "simulate", "--symbols", ""], "no symbols given"),
    ):
        run = OneProcess(tmp_path, options)
        run.start(wait=False)
        assert run.process is not None
        assert run.process.wait(300) == 1
        assert f"Error: {message}" in run.log.read_text()
