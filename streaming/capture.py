"""Capture a topic into the lake, each record exactly once.

The lake is the offset store: capture goes on one past the greatest offset that it holds. A part
appears whole or not at all, so a crash at any instant loses nothing and doubles nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from streaming import metrics
from streaming.dead_letter import bury
from streaming.decoding import Decode, decode_predictions, decode_ticks
from streaming.distinct import Distinct
from streaming.log import PREDICTIONS, EventLog, LogError, Message, Reader, gone
from volatility.lake import Lake
from volatility.parts import LakeError
from volatility.prediction import PREDICTION_SCHEMA

logger = logging.getLogger(__name__)

POLL_RECORDS = 20_000
POLL_SECONDS = 0.2
RETRY_SECONDS = 5.0  # between two tries to write to a lake that has no room
FLUSH_SECONDS = 30.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Rotation:
    """Say when a part is written: at so many rows, or so many seconds after its first."""

    rows: int = 50_000
    seconds: float = 5.0


@dataclass
class _Buffer:
    """Hold what was read of one partition and is not in the lake yet."""

    messages: list[Message] = field(default_factory=list)
    since: float = 0.0


class Capture:
    """Copy one topic to a lake; one process, or several that share the partitions.

    Parameters
    ----------
    log : EventLog
    topic : str
    lake : Lake
    decode : Decode
        From messages to a table of the lake's schema and the rejected ones.
    rotation : Rotation
    group : str, optional
        Share the partitions with the processes of this consumer group.
    distinct : Distinct, optional
        What keeps one of each row, where the topic may repeat them.

    Raises
    ------
    LogError
        When there is no such topic.
    """

    def __init__(
        self,
        log: EventLog,
        topic: str,
        lake: Lake,
        decode: Decode,
        *,
        rotation: Rotation | None = None,
        group: str | None = None,
        distinct: Distinct | None = None,
    ) -> None:
        self._log, self._topic, self._lake, self._decode = log, topic, lake, decode
        self._distinct = distinct
        self._rotation = rotation or Rotation()
        self._buffers: dict[int, _Buffer] = {}
        if not log.partitions(topic):
            raise LogError(f"there is no topic {topic}; start `volatility ingest` first")
        self._group = group
        self._writer = log.writer()
        self._generation: str
        self._reader: Reader
        self._stale = False  # the reader is of a topic that is no more
        self._open()

    @property
    def source(self) -> str:
        """Name of this generation of the topic in the lake."""
        return f"{self._topic}.{self._generation}"

    def run(self, *, follow: bool, stopped: Callable[[], bool] = lambda: False) -> int:
        """Capture to the log's end of now, or with ``follow`` until ``stopped``.

        Returns
        -------
        int
            Rows written.

        Raises
        ------
        LakeError
            When the lake cannot be written. With ``follow`` it is logged once, nothing more is
            read, and the write is tried again until there is room.
        LogError
            When the log does not answer; with ``follow`` as above.
        """
        ends: dict[int, int] | None = self._log.end_offsets(self._topic)
        rows = 0
        while not stopped():
            if self._stale:
                self._insist(self._reopen, follow, stopped)
                ends = self._insist(partial(self._log.end_offsets, self._topic), follow, stopped)
            try:
                messages = self._reader.poll(POLL_RECORDS, POLL_SECONDS)
            except LogError:
                if not gone(self._log, self._topic, self._generation, self._reader):
                    raise
                # Deleted by retention, or by hand: keep what was read, and look where to go on.
                rows += self._rotate(follow, stopped, everything=True)
                messages, self._stale = [], True
            for message in messages:
                buffer = self._buffers.setdefault(message.partition, _Buffer())
                if not buffer.messages:
                    buffer.since = time.monotonic()
                buffer.messages.append(message)
            rows += self._rotate(follow, stopped)
            mine = self._reader.assignment()  # of a group: empty until all have joined
            done = ends and mine and all(self._reader.position(p) >= ends[p] for p in mine)
            if done and not follow:
                rows += self._rotate(follow, stopped, everything=True)
                if not self._stale:
                    break
        return rows + sum(self._write(p) for p in list(self._buffers))

    def close(self) -> None:
        """Free the connections; what was not written is read again next time."""
        self._reader.close()
        self._writer.close()

    def _open(self) -> None:
        self._generation = self._log.generation(self._topic)
        if self._group is None:
            starts = {p: self._next(p) for p in self._log.partitions(self._topic)}
            self._reader = self._log.reader(self._topic, starts)
        else:
            self._reader = self._log.group_reader(
                self._topic, self._group, self._assigned, self._revoked
            )
        self._stale = False

    def _reopen(self) -> None:
        self._reader.close()
        self._buffers.clear()
        self._open()

    def _rotate(self, follow: bool, stopped: Callable[[], bool], everything: bool = False) -> int:
        now, rows = time.monotonic(), 0
        for partition, buffer in list(self._buffers.items()):
            full = len(buffer.messages) >= self._rotation.rows
            due = everything or full or now - buffer.since >= self._rotation.seconds
            if buffer.messages and due:
                rows += self._insist(partial(self._write, partition), follow, stopped) or 0
        return rows

    def _insist(
        self, act: Callable[[], Result], follow: bool, stopped: Callable[[], bool]
    ) -> Result | None:
        """Do something; with ``follow`` until the disk and the broker let it, or ``stopped``."""
        waited = False
        while True:
            try:
                result = act()
            except (LakeError, LogError) as error:
                metrics.capture_errors.inc()
                if not follow:
                    raise
                if not waited:
                    logger.error("capture waits: %s", error)
                waited = True
                if _stopped_within(RETRY_SECONDS, stopped):
                    return None
            else:
                if waited:
                    logger.warning("capture goes on")
                return result

    def _write(self, partition: int) -> int:
        """Put a partition's buffer into the lake; on an error it stays where it is."""
        buffer = self._buffers.get(partition)
        if buffer is None or not buffer.messages or self._recreated():
            return 0
        messages = buffer.messages
        table, rejected = self._decode(messages, partition)
        if rejected:
            self._bury(rejected)
        if self._distinct:
            table = self._distinct.keep(table, self.source, partition, messages[0].offset)
        with self._lake.stage(self.source, partition, through=messages[-1].offset) as stage:
            stage.append(table)
        buffer.messages = []
        metrics.rows_written.labels(self._topic).inc(table.num_rows)
        with suppress(LogError):  # it is written all the same
            lag = self._log.end_offsets(self._topic).get(partition, 0) - messages[-1].offset - 1
            metrics.capture_lag.labels(self._topic, str(partition)).set(max(lag, 0))
        return int(table.num_rows)

    def _bury(self, rejected: Sequence[tuple[Message, str]]) -> None:
        """Keep what does not parse, before its neighbours are in the lake: twice if at all."""
        for message, reason in rejected:
            place = f"{self.source}/{message.partition}/{message.offset}"
            bury(self._writer, message.key, message.value, reason, place)
        metrics.rejected_ticks.inc(len(rejected))
        self._writer.flush(FLUSH_SECONDS)

    def _recreated(self) -> bool:
        """Notice a topic created anew: what is buffered may be of either, and is dropped."""
        generation = self._log.generation(self._topic)
        if generation == self._generation:
            return False
        logger.warning(
            "topic %s was created anew (%s -> %s): starting at its beginning",
            self._topic,
            self._generation,
            generation,
        )
        self._buffers.clear()
        self._stale = True
        return True

    def _next(self, partition: int) -> int:
        """Give the first offset that the lake lacks, or the first that the log still has."""
        wanted = self._lake.last_offset(self.source, partition) + 1
        kept = self._log.start_offsets(self._topic).get(partition, 0)
        if wanted < kept:
            logger.error(
                "%s partition %d: offsets %d to %d were deleted before they were captured",
                self._topic,
                partition,
                wanted,
                kept - 1,
            )
            metrics.lost_messages.inc(kept - wanted)
        return max(wanted, kept)

    def _assigned(self, partitions: Sequence[int]) -> None:
        if self._distinct:
            self._distinct.forget()
        for partition in partitions:
            self._buffers.pop(partition, None)
            self._reader.seek(partition, self._next(partition))

    def _revoked(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            if partition in self._buffers:
                try:
                    self._write(partition)
                except (LakeError, LogError) as error:
                    logger.error("partition %d is left to its next reader: %s", partition, error)
                self._buffers.pop(partition, None)


def capture_topic(
    log: EventLog,
    topic: str,
    folder: Path,
    *,
    rotation: Rotation | None = None,
    group: str | None = None,
    follow: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Capture ``ticks`` or ``predictions`` into a folder; give the rows written."""
    distinct = None
    if topic == PREDICTIONS:
        lake, decode = Lake(folder, PREDICTION_SCHEMA), decode_predictions
        distinct = Distinct(lake)
    else:
        lake, decode = Lake(folder), decode_ticks
    work = Capture(log, topic, lake, decode, rotation=rotation, group=group, distinct=distinct)
    try:
        return work.run(follow=follow, stopped=stopped)
    finally:
        work.close()


def _stopped_within(seconds: float, stopped: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if stopped():
            return True
        time.sleep(0.1)
    return False
