"""Replay ticks through Kafka at full speed: the stream's bits must be those of the batch path."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tests.chaos import market
from tests.chaos.checks import batch_rows, bundle, check_lake, check_predictions, read_all
from tests.chaos.place import clear, registered
from tests.chaos.processes import hold, running, score
from tests.waiting import until
from volatility.features.engine import TICK_COLUMNS
from volatility.lake.lake import Lake
from volatility.models.forecaster import Forecasts
from volatility.streaming import ingest, sources
from volatility.streaming.capture import capture_topic
from volatility.streaming.log.interface import PREDICTIONS, TICKS, EventLog
from volatility.streaming.log.kafka_log import KafkaLog
from volatility.streaming.models import Model
from volatility.streaming.score import Scorer

Told = Callable[[], int]


def replay(servers: str, folder: Path, path: Path) -> dict[str, int]:
    """Bring a lake or recordings into Kafka, and from there into another lake."""
    clear(servers)
    with closing(KafkaLog(servers)) as log:
        source = sources.replay(path, speed=math.inf)
        ingest.run(log, source, Lake(folder / "lake"), partitions=market.PARTITIONS)
        capture_topic(log, TICKS, folder / "lake")
        return {"records": check_lake(log, folder / "lake")}


def simulate(servers: str, folder: Path, hours: float) -> dict[str, int]:
    """Bring a simulated market into Kafka, and from there into a lake."""
    clear(servers)
    symbols = ("BTC-USD", "ETH-USD", "SOL-USD")
    with closing(KafkaLog(servers)) as log:
        source = sources.simulated(symbols, 7, math.inf, 1_767_571_200_000_000_000, hours)
        ingest.run(log, source, Lake(folder / "lake"), partitions=market.PARTITIONS)
        capture_topic(log, TICKS, folder / "lake")
        return {"records": check_lake(log, folder / "lake")}


def rows_and_scores(log: EventLog, folder: Path) -> dict[str, int]:
    """Compare the rows that the stream scored, and their scores, with the batch path."""
    rows: list[np.ndarray] = []
    small = bundle(0)

    def record(values: np.ndarray, symbol: np.ndarray) -> Forecasts:
        rows.append(values.copy())
        return small.forecast(values, symbol)

    recording = SimpleNamespace(
        forecast=record,
        places=small.places,
        specification=small.specification,
        threshold=small.threshold,
        out_of_distribution=small.out_of_distribution,
        variant=small.variant,
    )
    model = Model("small", "1", recording)  # type: ignore[arg-type]
    scorer = Scorer(log, SimpleNamespace(current=lambda: (model,)), group=None)  # type: ignore[arg-type]
    scorer.run(follow=False)
    scorer.close()
    lake = Lake(folder / "lake")
    batch = [
        batch_rows(lake.scan(symbol, list(TICK_COLUMNS)))[1]
        for symbol in lake.symbols()
        if lake.rows(symbol) > 1
    ]
    streamed = sorted_rows(np.concatenate(rows))
    assert np.array_equal(streamed, sorted_rows(np.concatenate(batch)), equal_nan=True)
    counts = check_predictions(log)
    assert not counts["repeated"]
    return {"rows": len(streamed), **counts}


def sorted_rows(rows: np.ndarray) -> np.ndarray:
    """Order rows by their bits: the stream mixes the symbols, and not always alike."""
    return np.unique(np.ascontiguousarray(rows).view(np.uint64), axis=0).view(np.float64)


def across_a_restart(servers: str, folder: Path) -> dict[str, int]:
    """Kill score in the middle; another goes on."""

    def act(told: Told, steps: int) -> None:
        middle = partial(hold, str(folder / "never"), steps // 4)
        with running(folder / "score.txt", partial(score, servers, registered()), middle) as first:
            until(lambda: told() >= steps // 4, "a quarter of the predictions")
            first.kill()
        assert told() < steps, "it was over before it was killed"
        with running(folder / "score.txt", partial(score, servers, registered())) as second:
            until(lambda: told() >= steps, "all predictions")
            second.stop()

    return _scored(servers, act)


def across_a_rebalance(servers: str, folder: Path) -> dict[str, int]:
    """Start a second score process midway, and stop the first."""

    def act(told: Told, steps: int) -> None:
        gate = folder / "gate"
        middle = partial(hold, str(gate), steps // 4)
        with running(folder / "one.txt", partial(score, servers, registered()), middle) as one:
            until(lambda: told() >= steps // 4, "a quarter of the predictions")
            with running(folder / "two.txt", partial(score, servers, registered()), middle) as two:
                until(lambda: "warming up" in two.said(), "the second has its share")
                assert told() < steps, "it was over before the second came"
                one.stop()
                gate.touch()
                until(lambda: told() >= steps, "all predictions")
                two.stop()
        moved = [text.said().count("warming up") for text in (one, two)]
        assert min(moved) >= 2, f"no share has moved: {moved}"

    return _scored(servers, act)


def _scored(servers: str, act: Callable[[Told, int], None]) -> dict[str, int]:
    """Score anew what is in the log, and check it; ``act`` can ask how many steps have a score."""
    with closing(KafkaLog(servers)) as log:
        steps = sum(log.end_offsets(PREDICTIONS).values())
        clear(servers, PREDICTIONS)

        def told() -> int:
            if not log.partitions(PREDICTIONS):
                return 0
            count = sum(log.end_offsets(PREDICTIONS).values())
            # Only where there may be enough: some may be there twice.
            return count if count < steps else len({m.value for m in read_all(log, PREDICTIONS)})

        act(told, steps)
        return dict(check_predictions(log))


def parity(servers: str, folder: Path, path: Path | None = None, hours: float = 2.0) -> dict:
    """Run all of it on a recording, or a simulated market."""
    counts = simulate(servers, folder, hours) if path is None else replay(servers, folder, path)
    with closing(KafkaLog(servers)) as log:
        counts |= rows_and_scores(log, folder)
    restart = across_a_restart(servers, folder)
    rebalance = across_a_rebalance(servers, folder)
    return counts | {
        "repeated at a restart": restart["repeated"],
        "repeated at a rebalance": rebalance["repeated"],
    }
