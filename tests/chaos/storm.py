"""Kill every process at random, many of them at once: 0 lost, 0 doubled, however many kills."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.brokers import RunningBroker
from tests.chaos import kills, market
from tests.chaos.place import clear
from tests.chaos.processes import Child, capture, load, running
from tests.waiting import until
from volatility.lake.lake import Lake
from volatility.records import PREDICTION_SCHEMA
from volatility.streaming.capture import capture_topic
from volatility.streaming.log.interface import PREDICTIONS, TICKS
from volatility.streaming.log.kafka_log import KafkaLog

PER_SECOND = 100  # of each ingest: 20 s of the market in one
BROKER_EVERY = 50  # kills of other processes
# Some die while they start, some soon after, and the others only when work has been done.
STARTING, EARLY, WORKING = (0.0, 0.5), (0.5, 4.0), (0.0, 1.0)
PATIENT_SECONDS = 30.0  # for work: the broker, or the other members of a group, may be to blame
PAUSE_SECONDS = 0.05


@dataclass
class Slot:
    """Represent one process that is started again whenever it is killed."""

    name: str
    output: Path
    work: Callable[..., Any]
    chance: random.Random
    done: Callable[[], int]
    child: Child | None = None
    dies_at: float = 0.0
    patient_until: float = 0.0
    begun_with: int = 0

    def turn(self) -> bool:
        """Start it, or kill it when it is due; return whether it was killed."""
        now = time.monotonic()
        if self.child is None:
            life = self.chance.choice((STARTING, EARLY, WORKING))
            self.dies_at = now + self.chance.uniform(*life)
            self.patient_until = now + (PATIENT_SECONDS if life is WORKING else 0.0)
            self.begun_with = self.done() if life is WORKING else 0
            self.child = Child(self.output, partial(self.work))
            return False
        if now < self.patient_until:
            if self.done() > self.begun_with:
                self.dies_at += now  # it was the time to live from here on
                self.dies_at -= self.patient_until - PATIENT_SECONDS
                self.patient_until = 0.0
            return False
        if now < self.dies_at:
            return False
        assert self.child.process.is_alive(), f"{self.name} has ended: {self.child.said()[-2000:]}"
        self.end()
        return True

    def end(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child = None


def storm(broker: RunningBroker, folder: Path, count: int, seed: int) -> dict[str, int]:
    """Kill ingest, capture, score and broker so many times in all, several side by side."""
    servers = broker.servers
    clear(servers)
    chance = random.Random(seed)
    lake = folder / "lake"
    counts: Counter[str] = Counter()
    with closing(KafkaLog(servers)) as log, ExitStack() as stack:
        log.create(TICKS, market.PARTITIONS)
        log.create(PREDICTIONS, market.PARTITIONS)
        rows = partial(capture, servers, rows=kills.ROWS, seconds=kills.SECONDS, group=None)
        slots = [
            Slot(
                *(f"ingest {symbol}", folder / f"{symbol}.txt", work),
                *(random.Random(seed + number), partial(kills.total, log)),
            )
            for number, symbol in enumerate(market.SYMBOLS)
            for work in [partial(load, servers, str(lake), number, PER_SECOND, None, (symbol,))]
        ]
        predicted = partial(kills.total, log, PREDICTIONS)
        kept = folder / "predictions"
        more: dict[str, tuple[Callable[..., Any], Callable[[], int]]] = {
            "capture": (partial(rows, str(lake)), partial(parts, lake)),
            "capture predictions": (
                partial(rows, str(kept), topic=PREDICTIONS),
                partial(parts, kept),
            ),
            "score one": (kills.scoring(servers), predicted),
            "score two": (kills.scoring(servers), predicted),
        }
        slots += [
            Slot(name, folder / f"{name.replace(' ', '-')}.txt", work, random.Random(name), done)
            for name, (work, done) in more.items()
        ]
        for slot in slots:
            stack.callback(slot.end)
        # The first child waits for the imports of all, and would be killed amid them.
        with running(folder / "first.txt", partial(slots[0].work)) as first:
            until(lambda: kills.total(log) > 0, "the first ticks")
            first.stop()
        began = time.monotonic()
        while sum(counts.values()) < count:
            for slot in slots:
                if slot.turn():
                    counts[slot.name.partition(" ")[0]] += 1
            others = sum(counts.values()) - counts["broker"]
            if others >= BROKER_EVERY * (counts["broker"] + 1):
                broker.kill()
                time.sleep(chance.uniform(0.0, 1.0))
                broker.start()
                counts["broker"] += 1
            time.sleep(PAUSE_SECONDS)
        seconds = time.monotonic() - began
        for slot in slots:
            slot.end()
        captured = sum(Lake(lake).rows(symbol) for symbol in Lake(lake).symbols())
        scored = kills.total(log, PREDICTIONS)
        records = kills.finish_lake(log, folder)
        assert captured > records / 4, f"the killed ones captured {captured} of {records}"
        predictions = kills.finish_predictions(log, lake=lake)
        assert scored > predictions["steps"] / 4, f"the killed ones scored {scored}"
        capture_topic(log, PREDICTIONS, kept)
        assert kept_once(kept) == predictions["steps"], "predictions are lost in their lake"
    found = {f"kills of {name}": number for name, number in sorted(counts.items())}
    return found | {
        "kills an hour": round(sum(counts.values()) / seconds * 3_600),
        "records": records,
        **predictions,
    }


def parts(folder: Path) -> int:
    """Count the parts of a lake."""
    return sum(1 for _ in folder.glob("symbol=*/date=*/part-*"))


def kept_once(folder: Path) -> int:
    """Count the predictions in a lake; none may be there twice."""
    lake = Lake(folder, PREDICTION_SCHEMA)
    count = 0
    for symbol in lake.symbols():
        keys = [
            key
            for batch in lake.scan(symbol, ["time", "model_version"])
            for key in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        ]
        assert len(keys) == len(set(keys)), f"{symbol} has predictions twice"
        count += len(keys)
    return count
