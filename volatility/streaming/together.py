"""Run ingest, capture and score in threads of one process, over its own log: no broker is needed.

The code is that of the processes around Kafka. The log is kept on disk, so that a process that
was killed continues where it was, as it would with a broker. What the lake has and no window needs
any more is dropped from the log, so memory and disk stay bounded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from volatility.lake import Lake, Market
from volatility.streaming import ingest
from volatility.streaming.capture import capture_topic
from volatility.streaming.log import DEAD_LETTER, PREDICTIONS, TICKS, LocalLog
from volatility.streaming.models import Models
from volatility.streaming.score import Scorer
from volatility.streaming.topics import CAPTURED

logger = logging.getLogger(__name__)

PARTITIONS = 4
TRIM_SECONDS = 10.0
RECENT = 5_000  # predictions and dead letters of each partition that stay in the log
UNSCORED = 500_000  # ticks of a partition on which nothing is scored
JOIN_SECONDS = 30.0

Events = ingest.Events


class Together:
    """Start the threads, and stop them.

    Parameters
    ----------
    log : LocalLog
    models : Models
    data : Path
        Folder of the lakes ``ticks`` and ``predictions``.
    failed : callable
        Called in a thread that ends by an error, with the error.
    """

    def __init__(
        self, log: LocalLog, models: Models, data: Path, failed: Callable[[Exception], None]
    ) -> None:
        self._log, self._models, self._data, self._failed = log, models, data, failed
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        log.create(TICKS, PARTITIONS)
        log.create(PREDICTIONS, PARTITIONS)
        log.create(DEAD_LETTER, 1)

    def start(self, events: Events, market: Market, **options: Any) -> None:
        """Start to ingest, score and capture; ``options`` are those of ``ingest.run``."""
        self._scorer = Scorer(self._log, self._models, group=None)
        lake = Lake(self._data / TICKS)
        begin = partial(
            ingest.run, self._log, events, lake,
            partitions=PARTITIONS, market=market, stopped=self._stopping.is_set, **options,
        )  # fmt: skip
        for name, work in (
            ("ingest", begin),
            ("score", partial(self._scorer.run, follow=True, stopped=self._stopping.is_set)),
            ("capture ticks", partial(self._capture, TICKS)),
            ("capture predictions", partial(self._capture, PREDICTIONS)),
            ("trim", self._trim),
        ):
            thread = threading.Thread(target=self._run, args=(name, work), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Finish the current work, and write to the lake what is not in it yet."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        if self._threads:
            self._scorer.close()

    def _run(self, name: str, work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  whatever it is, the process must not go on
            if not self._stopping.is_set():
                self._failed(error)
            else:
                logger.warning("%s ended: %s", name, error)
        else:
            if not self._stopping.is_set():
                logger.info("%s has ended", name)

    def _capture(self, topic: str) -> None:
        folder = self._data / topic
        capture_topic(self._log, topic, folder, follow=True, stopped=self._stopping.is_set)

    def _trim(self) -> None:
        while not self._stopping.wait(TRIM_SECONDS):
            trim(self._log, self._data)


def trim(log: LocalLog, data: Path) -> None:
    """Drop from the log what the lake has and nobody needs any more."""
    ends = {topic: log.end_offsets(topic) for topic in (TICKS, PREDICTIONS, DEAD_LETTER)}
    captured = {
        topic: {
            partition: CAPTURED[topic]
            .lake(data)
            .last_offset(CAPTURED[topic].source(log), partition)
            for partition in ends[topic]
        }
        for topic in (TICKS, PREDICTIONS)
    }
    needed = {partition: _resume(log, partition, end) for partition, end in ends[TICKS].items()}
    log.trim(TICKS, {p: min(captured[TICKS][p] + 1, needed[p]) for p in needed})
    log.trim(
        PREDICTIONS,
        {
            p: min(captured[PREDICTIONS][p] + 1, end - RECENT)
            for p, end in ends[PREDICTIONS].items()
        },
    )
    log.trim(DEAD_LETTER, {p: end - RECENT for p, end in ends[DEAD_LETTER].items()})


def _resume(log: LocalLog, partition: int, end: int) -> int:
    """Return the first tick that a new scorer would need."""
    last = log.end_offsets(PREDICTIONS)[partition] - 1
    if last < log.start_offsets(PREDICTIONS)[partition]:
        return end - UNSCORED
    reader = log.reader(PREDICTIONS, {partition: last})
    (message, *_) = reader.poll(1, 0.0)
    reader.close()
    return int(dict(message.headers)["resume"])
