"""Fill every other disk that a streaming process writes to, and make room again."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.brokers import run_broker
from tests.chaos import kills, market
from tests.chaos.disk import small_disk
from tests.chaos.place import clear
from tests.chaos.processes import capture, gaps, running
from tests.chaos.storm import kept_once
from tests.waiting import until
from volatility.lake.lake import Lake
from volatility.streaming.log.interface import PREDICTIONS, TICKS
from volatility.streaming.log.kafka_log import KafkaLog

BROKER_MEGABYTES = 200


@contextmanager
def full(folder: Path, left: int = 0) -> Iterator[Path]:
    """Fill a small disk with a file whose deletion makes room; yield that file."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        size = shutil.disk_usage(folder).free - left
        while size > 0:
            size -= file.write(b"x" * min(size, 1 << 16))
    yield ballast


def full_ledger(servers: str, folder: Path) -> dict[str, Any]:
    """Fill the disk of the ledger: ticks go on, and the gaps wait in ingest."""
    clear(servers)
    disk = folder / "disk"
    disk.mkdir()
    with small_disk(disk) as mounted, closing(KafkaLog(servers)) as log:
        if not mounted:
            return {"left out": "no disk can be mounted here"}
        lake = Lake(disk / "lake")
        work = partial(gaps, servers, str(lake.root), 400)
        with running(folder / "ingest.txt", work) as child:
            until(lambda: len(lake.gaps()) > 2, "the first gaps")
            with full(disk) as ballast:
                until(lambda: "buffering gaps" in child.said(), "the error")
                before = kills.total(log)
                until(lambda: kills.total(log) > before + 1_000, "ticks meanwhile")
                ballast.unlink()
            told = len(lake.gaps())
            until(lambda: len(lake.gaps()) > told + 5, "the gaps that waited")
            child.stop()
        numbers = [gap.detail["number"] for gap in lake.gaps()]
        assert numbers == list(range(len(numbers))), f"gaps are lost or doubled: {numbers}"
        return {"gaps": len(numbers), "records": kills.finish_lake(log, folder)}


def full_predictions(servers: str, folder: Path) -> dict[str, Any]:
    """Fill the disk of the predictions: capture waits, and each is kept once."""
    clear(servers)
    disk = folder / "disk"
    disk.mkdir()
    with small_disk(disk) as mounted, closing(KafkaLog(servers)) as log:
        if not mounted:
            return {"left out": "no disk can be mounted here"}
        log.create(PREDICTIONS, market.PARTITIONS)
        lake = disk / "lake"
        work = partial(capture, servers, str(lake), 200, 0.3, None, topic=PREDICTIONS)
        with (
            running(folder / "load.txt", kills.loading(servers, folder, 400)) as ticks,
            running(folder / "score.txt", kills.scoring(servers)) as scored,
            running(folder / "capture.txt", work) as child,
        ):
            until(lambda: kills.total(log, PREDICTIONS) > 0, "predictions")
            with full(disk) as ballast:
                until(lambda: "capture paused" in child.said(), "the error")
                before = kills.total(log, PREDICTIONS)
                until(lambda: kills.total(log, PREDICTIONS) > before + 500, "more meanwhile")
                assert child.process.is_alive()
                ballast.unlink()
            until(lambda: "capture resumed" in child.said(), "room")
            ticks.stop()
            scored.stop()
            made = kills.finish_predictions(log)
            until(lambda: kept_once(lake) == made["steps"], "the rest in the lake")
            child.stop()
        errors = [line for line in child.said().splitlines() if line.startswith("ERROR")]
        assert len(errors) == 1, errors
        assert "free some space" in errors[0], errors
        return made


def full_temporary(servers: str, folder: Path) -> dict[str, Any]:
    """Fill the folder for temporary files, through which score loads a model."""
    clear(servers)
    disk = folder / "disk"
    disk.mkdir()
    with small_disk(disk) as mounted, closing(KafkaLog(servers)) as log:
        if not mounted:
            return {"left out": "no disk can be mounted here"}
        work = partial(score_with, kills.scoring(servers), str(disk))
        with running(folder / "load.txt", kills.loading(servers, folder, 400)) as ticks:
            until(lambda: kills.total(log) > 500, "the load")
            with full(disk) as ballast:
                with running(folder / "full.txt", work) as child:
                    words = child.fail()
                assert "Traceback" not in words, words
                assert "space" in words, words
                ballast.unlink()
            with running(folder / "score.txt", work) as child:
                until(lambda: kills.total(log, PREDICTIONS) > 0, "predictions")
                child.stop()
            ticks.stop()
        return {"records": kills.total(log), **kills.finish_predictions(log)}


def score_with(work: partial[None], temporary: str) -> None:
    """Run a child with another folder for temporary files."""
    tempfile.tempdir = None  # it may have been chosen before the fork
    os.environ["TMPDIR"] = temporary
    work()


def full_broker(folder: Path) -> dict[str, Any]:
    """Fill the broker's disk, which ends it: ticks wait in ingest until there is room again."""
    disk = folder / "disk"
    disk.mkdir()
    with small_disk(disk, BROKER_MEGABYTES) as mounted:
        if not mounted:
            return {"left out": "no disk can be mounted here"}
        with run_broker(disk / "kafka") as broker, closing(KafkaLog(broker.servers)) as log:
            servers = broker.servers
            log.create(TICKS, market.PARTITIONS)
            with (
                running(folder / "load.txt", kills.loading(servers, folder, 400)) as ticks,
                running(folder / "capture.txt", kills.capturing(servers, folder)) as captured,
                running(folder / "score.txt", kills.scoring(servers)) as scored,
            ):
                until(lambda: kills.total(log, PREDICTIONS) > 0, "predictions")
                with full(disk) as ballast:
                    until(lambda: not broker.alive(), "the end of the broker")
                    for child in (ticks, captured, scored):
                        assert child.process.is_alive(), child.said()[-2_000:]
                    ballast.unlink()
                broker.start()
                before = kills.total(log), kills.total(log, PREDICTIONS)
                until(lambda: kills.total(log) > before[0] + 1_000, "ticks after the restart")
                until(lambda: kills.total(log, PREDICTIONS) > before[1] + 100, "predictions")
                for child in (ticks, captured, scored):
                    child.stop()
            records = kills.finish_lake(log, folder)
            return {"records": records, **kills.finish_predictions(log)}
