"""Kill each process, and the broker, again and again under load: nothing lost, nothing doubled."""

from __future__ import annotations

import random
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import RunningBroker
from tests.chaos import market
from tests.chaos.checks import check_lake, check_predictions
from tests.chaos.place import clear, registered
from tests.chaos.processes import (
    POINTS,
    Child,
    capture,
    die_at,
    load,
    running,
    score,
)
from tests.waiting import until
from volatility.lake.lake import Lake
from volatility.streaming.capture import capture_topic
from volatility.streaming.log.interface import PREDICTIONS, TICKS
from volatility.streaming.log.kafka_log import KafkaLog
from volatility.streaming.models import Models
from volatility.streaming.score import Scorer
from volatility.units import SECOND

HOUR_NS = 3_600 * SECOND
ROWS, SECONDS = 60, 0.1  # of a part: so small that any instant may lie in the writing of one


def loading(servers: str, folder: Path, per_second: float, start_ns: int = market.START_NS) -> Any:
    """Return the function with which a child ingests ticks."""
    return partial(load, servers, str(folder / "lake"), start_ns % 1_000, per_second, start_ns)


def capturing(servers: str, folder: Path, group: str | None = None, port: int = 0) -> Any:
    return partial(capture, servers, str(folder / "lake"), ROWS, SECONDS, group, port=port)


def scoring(servers: str, port: int = 0) -> Any:
    return partial(score, servers, registered(), port)


def total(log: KafkaLog, topic: str = TICKS) -> int:
    return sum(log.end_offsets(topic).values()) if log.partitions(topic) else 0


def finish_lake(log: KafkaLog, folder: Path, **options: Any) -> int:
    """Capture what is left, and hold the lake against the log."""
    capture_topic(log, TICKS, folder / "lake")
    return check_lake(log, folder / "lake", **options)


def finish_predictions(log: KafkaLog, **options: Any) -> dict[str, int]:
    """Score what is left, and hold the predictions against the batch path."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", registered())
        scorer = Scorer(log, Models(), group=None)
    scorer.run(follow=False)
    scorer.close()
    return dict(check_predictions(log, **options))


def kill_capture(servers: str, folder: Path, kills: int, rounds: int, seed: int) -> dict[str, int]:
    """Kill capture at random instants, then at every point of writing a part."""
    clear(servers)
    chance = random.Random(seed)
    lake, counts = Lake(folder / "lake"), dict.fromkeys(("kills", "between", "unfinished"), 0)
    with closing(KafkaLog(servers)) as log:
        with running(folder / "load.txt", loading(servers, folder, 400)) as ticks:
            until(lambda: total(log) > 500, "the load")
            plans: list[tuple[str, int] | None] = [None] * kills
            plans += [(point, chance.randint(1, 4)) for point in POINTS for _ in range(rounds)]
            chance.shuffle(plans)
            for plan in plans:
                seen = hidden(folder)
                before = [partial(die_at, *plan)] if plan else []
                with running(folder / "capture.txt", capturing(servers, folder), *before) as child:
                    if plan is None:
                        time.sleep(chance.uniform(0.0, 0.6))
                    else:
                        until(lambda: not child.process.is_alive(), f"{plan}")
                    child.kill()
                counts["kills"] += 1
                counts["between"] += bool(hidden(folder) - seen)
            ticks.stop()
        captured = sum(lake.rows(symbol) for symbol in lake.symbols())
        counts["records"] = finish_lake(log, folder)
        counts["unfinished"] = counts["records"] - captured
    assert captured > counts["records"] / 4, "the killed ones wrote too little to mean anything"
    assert not kills + rounds or counts["between"], "no kill came while a part was written"
    return counts


def hidden(folder: Path) -> set[Path]:
    """List the parts that were being written when their process was killed."""
    return set((folder / "lake").glob("symbol=*/date=*/.part-*.tmp"))


def kill_ingest(servers: str, folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill ingest; capture goes on meanwhile."""
    clear(servers)
    chance = random.Random(seed)
    with closing(KafkaLog(servers)) as log:
        log.create(TICKS, market.PARTITIONS)
        with running(folder / "capture.txt", capturing(servers, folder)) as captured:
            for number in range(kills):
                before, start_ns = total(log), market.START_NS + number * HOUR_NS
                with running(folder / "load.txt", loading(servers, folder, 600, start_ns)) as ticks:
                    until(lambda: total(log) > before + 50, "the load")  # noqa: B023
                    time.sleep(chance.uniform(0.0, 0.5))
                    ticks.kill()
            captured.stop()
        return {"kills": kills, "records": finish_lake(log, folder)}


def kill_score(servers: str, folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill score while ticks come in."""
    clear(servers)
    chance = random.Random(seed)
    with closing(KafkaLog(servers)) as log:
        with running(folder / "load.txt", loading(servers, folder, 400)) as ticks:
            until(lambda: total(log) > 500, "the load")
            for _ in range(kills):
                with running(folder / "score.txt", scoring(servers)) as child:
                    before = total(log, PREDICTIONS)
                    until(lambda: total(log, PREDICTIONS) > before, "predictions")  # noqa: B023
                    time.sleep(chance.uniform(0.0, 1.0))
                    child.kill()
            ticks.stop()
        return {"kills": kills, "records": total(log), **finish_predictions(log)}


def kill_broker(broker: RunningBroker, folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill the broker and start it again; every process must outlive that."""
    servers = broker.servers
    clear(servers)
    chance = random.Random(seed)
    with closing(KafkaLog(servers)) as log:
        log.create(TICKS, market.PARTITIONS)
        with (
            running(folder / "load.txt", loading(servers, folder, 300)) as ticks,
            running(folder / "capture.txt", capturing(servers, folder)) as captured,
            running(folder / "score.txt", scoring(servers)) as scored,
        ):
            until(lambda: total(log, PREDICTIONS) > 0, "predictions")
            for _ in range(kills):
                time.sleep(chance.uniform(0.0, 1.0))
                broker.kill()
                time.sleep(chance.uniform(0.0, 1.0))
                broker.start()
                before, predicted = total(log), total(log, PREDICTIONS)
                until(lambda: total(log) > before, "ticks after the restart")  # noqa: B023
                until(
                    lambda: total(log, PREDICTIONS) > predicted,  # noqa: B023
                    "predictions after the restart",
                )
            children: list[Child] = [ticks, captured, scored]
            for child in children:
                child.stop()
        return {"kills": kills, "records": finish_lake(log, folder), **finish_predictions(log)}
