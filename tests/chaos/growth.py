"""Add partitions while everything runs: each process follows, and moved symbols come back."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

from tests.chaos import kills, market
from tests.chaos.checks import Key, lake_scores
from tests.chaos.clocks import newest
from tests.chaos.place import clear
from tests.chaos.processes import running
from tests.waiting import until
from volatility.lake.lake import Lake
from volatility.settings import Features
from volatility.streaming.log.interface import PREDICTIONS, TICKS
from volatility.streaming.log.kafka_log import KafkaLog
from volatility.streaming.log.partitioning import partition_of

COUNTS = (2, 3, 6)
PER_SECOND = 600  # 60 s of the market in one


def growth(servers: str, folder: Path) -> dict[str, int]:
    """Add partitions twice under load; two scorers share them."""
    clear(servers)
    with closing(KafkaLog(servers)) as log:
        log.create(TICKS, COUNTS[0])
        with (
            running(folder / "load.txt", kills.loading(servers, folder, PER_SECOND)) as ticks,
            running(folder / "capture.txt", kills.capturing(servers, folder)) as captured,
            running(folder / "one.txt", kills.scoring(servers)) as one,
            running(folder / "two.txt", kills.scoring(servers)) as two,
        ):
            until(lambda: kills.total(log, PREDICTIONS) > 0, "predictions")
            for count in COUNTS[1:]:
                log.extend(TICKS, count)
                until(lambda: used(log) == homes(log), "ticks on the partitions of now")
            since = {symbol: newest_tick(folder, symbol) for symbol in moved()}
            until(
                lambda: all(newest(log, symbol) > time for symbol, time in since.items()),
                "predictions of the symbols that have moved",
                pause_seconds=1.0,
            )
            for child in (ticks, captured, one, two):
                child.stop()
        records = kills.finish_lake(log, folder)
        waits: Counter[str] = Counter()

        def held_back(key: Key) -> bool:
            waits[key[0]] += 1
            return key[0] in moved()

        predictions = kills.finish_predictions(log, lake=folder / "lake", held_back=held_back)
        assert waits, "nobody has moved"
        longest = max(waits.values())
        most = Features().memory_seconds * (len(COUNTS) - 1) * 1.05
        assert longest < most, f"held back for {longest} s: {waits}"
        assert len(lake_scores(folder / "lake")) > sum(waits.values())
        return {"partitions": COUNTS[-1], "records": records, **predictions}


def moved() -> set[str]:
    """Return the symbols whose partition is not the same throughout."""
    return {
        symbol
        for symbol in market.SYMBOLS
        if len({partition_of(symbol.encode(), count) for count in COUNTS}) > 1
    }


def homes(log: KafkaLog) -> set[int]:
    """Return the partitions on which the symbols belong."""
    count = len(log.partitions(TICKS))
    return {partition_of(symbol.encode(), count) for symbol in market.SYMBOLS}


def used(log: KafkaLog) -> set[int]:
    """Return the partitions that have ticks."""
    return homes(log) & {p for p, end in log.end_offsets(TICKS).items() if end}


def newest_tick(folder: Path, symbol: str) -> int:
    """Return the time up to which the lake has a symbol [ns]."""
    return Lake(folder / "lake").span(symbol)[1]
