"""Measure periodically how far the lake is behind the log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from volatility.lake import LakeError
from volatility.settings import environment
from volatility.streaming import CAPTURED
from volatility.streaming.log import EventLog, KafkaLog, LogError

logger = logging.getLogger(__name__)

EVERY_SECONDS = 15.0


@dataclass(frozen=True)
class Lag:
    """Represent one measurement: records not captured, by topic and partition, and time [s]."""

    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    checked: float | None = None
    broker_up: bool | None = None  # None before the first measurement


def look(log: EventLog, data: Path) -> dict[tuple[str, int], int]:
    """Count the records of each topic and partition that are not in the lake yet.

    Raises
    ------
    LogError, LakeError
        If the broker or the lake is unavailable.
    """
    found = {}
    for topic, stored in CAPTURED.items():
        if not log.partitions(topic):
            continue
        lake, source = stored.lake(data), stored.source(log)
        starts = log.start_offsets(topic)
        for partition, end in log.end_offsets(topic).items():
            held = lake.last_offset(source, partition) + 1
            found[topic, partition] = max(end - max(held, starts.get(partition, 0)), 0)
    return found


class Watch:
    """Measure in a separate thread, so that an unavailable broker does not delay scrapes."""

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
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Stop, without waiting for a broker that does not respond."""
        self._stop.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        log: EventLog | None = None
        while not self._stop.is_set():
            try:
                log = log or self._open()
                self.newest = Lag(look(log, self._data), time.time(), broker_up=True)
            except LogError as error:
                # Leave an unknown lag out: an old value would look healthy.
                if self.newest.broker_up is not False:
                    logger.warning("the capture lag is unknown: %s", error)
                self.newest = Lag(broker_up=False)
            except (LakeError, OSError) as error:
                logger.warning("the capture lag is unknown: %s", error)
                self.newest = Lag(broker_up=True)
            self._stop.wait(self._every)
        if log is not None:
            log.close()


def _open() -> EventLog:
    return KafkaLog(environment().kafka_bootstrap_servers)
