"""Look, now and then, at how far the lake is behind the log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from streaming.kafka_log import KafkaLog
from streaming.log import PREDICTIONS, TICKS, EventLog, LogError
from volatility.lake import Lake, LakeError
from volatility.prediction import PREDICTION_SCHEMA
from volatility.settings import environment

logger = logging.getLogger(__name__)

EVERY_SECONDS = 15.0
SCHEMAS = {TICKS: None, PREDICTIONS: PREDICTION_SCHEMA}


@dataclass(frozen=True)
class Lag:
    """Hold what one look found: records not captured, by topic and partition; when [s]."""

    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    checked: float | None = None
    broker_up: bool | None = None  # None before the first look


def look(log: EventLog, data: Path) -> dict[tuple[str, int], int]:
    """Count the records of each topic and partition that the lake does not hold.

    Raises
    ------
    LogError, LakeError
        When the broker or the lake does not answer.
    """
    found = {}
    for topic in SCHEMAS:
        if not log.partitions(topic):
            continue
        lake = _lake(data, topic)
        source = f"{topic}.{log.generation(topic)}"
        starts = log.start_offsets(topic)
        for partition, end in log.end_offsets(topic).items():
            held = lake.last_offset(source, partition) + 1
            found[topic, partition] = max(end - max(held, starts.get(partition, 0)), 0)
    return found


class Watch:
    """Look in a thread of its own, so that a broker that is away delays no scrape."""

    def __init__(
        self,
        data: Path,
        *,
        every_seconds: float = EVERY_SECONDS,
        open_log: Callable[[], EventLog] | None = None,
    ) -> None:
        self._data, self._every = data, every_seconds
        self._open = open_log or _open
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture lag", daemon=True)
        self.newest = Lag()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """End; a look at a broker that does not answer is not waited for."""
        self._stop.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        log: EventLog | None = None
        while not self._stop.is_set():
            try:
                log = log or self._open()
                self.newest = Lag(look(log, self._data), time.time(), broker_up=True)
            except LogError as error:
                # A lag that is not known is absent: an old one would look like a healthy one.
                if self.newest.broker_up is not False:
                    logger.warning("the capture lag is not known: %s", error)
                self.newest = Lag(broker_up=False)
            except (LakeError, OSError) as error:
                logger.warning("the capture lag is not known: %s", error)
                self.newest = Lag(broker_up=True)
            self._stop.wait(self._every)
        if log is not None:
            log.close()


def _lake(data: Path, topic: str) -> Lake:
    schema = SCHEMAS[topic]
    return Lake(data / topic) if schema is None else Lake(data / topic, schema)


def _open() -> EventLog:
    return KafkaLog(environment().kafka_bootstrap_servers)
