"""Capture a topic into the lake, each record exactly once.

The lake is the offset store: capture resumes one past its greatest offset. A part appears whole
or not at all, so a crash at any instant neither loses nor duplicates records.
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

from volatility.lake import Lake, LakeError
from volatility.streaming import metrics
from volatility.streaming.dead_letter import send_to_dead_letter
from volatility.streaming.decoding import Decode
from volatility.streaming.distinct import Distinct
from volatility.streaming.history import History, RewrittenError, mark_of
from volatility.streaming.layout import Layout
from volatility.streaming.log import (
    DEAD_LETTER,
    TICKS,
    DeniedError,
    EventLog,
    LogError,
    Message,
    Reader,
    was_deleted,
)
from volatility.streaming.topics import CAPTURED

logger = logging.getLogger(__name__)

POLL_RECORDS = 20_000
POLL_SECONDS = 0.2
RETRY_SECONDS = 5.0  # between two attempts to write to a full disk
FLUSH_SECONDS = 30.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Rotation:
    """Represent when a part is written: at this many rows, or seconds after its first row."""

    rows: int = 50_000
    seconds: float = 5.0


@dataclass
class _Buffer:
    """Represent what was read from one partition and is not in the lake yet."""

    messages: list[Message] = field(default_factory=list)
    since: float = 0.0


class Capture:
    """Copy one topic to a lake, in one process or in several that share the partitions.

    Parameters
    ----------
    log : EventLog
    topic : str
    lake : Lake
    decode : Decode
        Turns messages into a table of the lake's schema, and the rejected ones.
    rotation : Rotation
    group : str, optional
        Share the partitions with the processes of this consumer group.
    distinct : Distinct, optional
        Removes repeated rows, for a topic that may contain them.

    Raises
    ------
    LogError
        When the topic does not exist.
    RewrittenError
        When the log has lost records that the lake has.

    Attributes
    ----------
    history : History
        Compares the log with the lake, and counts what the log had deleted before.
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
            raise LogError(f"topic {topic} does not exist; start `volatility ingest` first")
        self._group = group
        self._writer = log.writer()
        self._generation: str
        self._reader: Reader
        self._stale = False  # the reader's topic no longer exists
        self.history = History(log, topic, lake)
        self._layout = Layout(log) if topic == TICKS else None
        self._open()

    @property
    def source(self) -> str:
        """Return the name of this generation of the topic in the lake."""
        return f"{self._topic}.{self._generation}"

    def run(self, *, follow: bool, stopped: Callable[[], bool] = lambda: False) -> int:
        """Capture up to the current end of the log, or with ``follow`` until ``stopped``.

        Returns
        -------
        int
            Rows written.

        Raises
        ------
        LakeError
            When the lake cannot be written. With ``follow``, this is logged once, reading pauses,
            and the write is retried until it succeeds.
        LogError
            When the log does not respond; with ``follow`` as above.
        """
        ends: dict[int, int] | None = self._log.end_offsets(self._topic)
        rows = 0
        while not stopped():
            if self._stale:
                self._retry(self._reopen, follow, stopped)
                ends = self._retry(partial(self._log.end_offsets, self._topic), follow, stopped)
            try:
                messages = self._reader.poll(POLL_RECORDS, POLL_SECONDS)
            except (DeniedError, RewrittenError):
                raise
            except LogError:
                # Deleted by retention or by hand: write what was read, then find where to resume.
                deleted = was_deleted(self._log, self._topic, self._generation, self._reader)
                rows += self._rotate(follow, stopped, everything=True)
                if not deleted:
                    for partition in self._reader.assignment():
                        self.history.require(self.source, partition)
                    raise
                messages, self._stale = [], True
            for message in messages:
                buffer = self._buffers.setdefault(message.partition, _Buffer())
                if not buffer.messages:
                    buffer.since = time.monotonic()
                buffer.messages.append(message)
            rows += self._rotate(follow, stopped)
            owned = self._reader.assignment()  # in a group, empty until all members have joined
            done = ends and owned and all(self._reader.position(p) >= ends.get(p, 0) for p in owned)
            if done and not follow:
                rows += self._rotate(follow, stopped, everything=True)
                if not self._stale:
                    self._note_positions()
                    break
            if follow and self._group is None and self._reader.partition_count() > len(owned):
                logger.info("partitions were added to topic %s: capturing them too", self._topic)
                rows += self._rotate(follow, stopped, everything=True)
                self._stale = True
        return rows + sum(self._write(p) for p in list(self._buffers))

    def close(self) -> None:
        """Free the connections; what was not written will be read again next time."""
        self._reader.close()
        self._writer.close()

    def _open(self) -> None:
        self._generation = self._log.generation(self._topic)
        if self._layout:
            # Before anything is read, so that partitions added meanwhile are a change.
            with suppress(LogError):  # it is asked again before the first record is judged
                self._layout.refresh()
        if self._group is None:
            starts = {
                p: self.history.continue_at(self.source, p)
                for p in self._log.partitions(self._topic)
            }
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
                rows += self._retry(partial(self._write, partition), follow, stopped) or 0
        return rows

    def _retry(
        self, act: Callable[[], Result], follow: bool, stopped: Callable[[], bool]
    ) -> Result | None:
        """Call ``act``; with ``follow``, retry disk and broker errors until ``stopped``."""
        waited = False
        while True:
            try:
                result = act()
            except (LakeError, LogError) as error:
                metrics.capture_errors.inc()
                if not follow or isinstance(error, (RewrittenError, DeniedError)):
                    raise
                if not waited:
                    logger.error("capture paused: %s", error)
                waited = True
                if _stopped_within(RETRY_SECONDS, stopped):
                    return None
            else:
                if waited:
                    logger.warning("capture resumed")
                return result

    def _write(self, partition: int) -> int:
        """Write a partition's buffer to the lake; on an error the buffer is kept."""
        buffer = self._buffers.get(partition)
        if buffer is None or not buffer.messages or self._recreated():
            return 0
        messages = buffer.messages
        table, rejected = self._decode(messages, partition)
        if self._layout:
            if self._reader.partition_count() > self._layout.count:
                self._layout.refresh()
            table, astray = self._layout.split(table, messages, partition)
            rejected += astray
        if rejected:
            self._send_rejected(rejected)
        if self._distinct:
            table = self._distinct.keep(table, self.source, partition, messages[0].offset)
        last = messages[-1]
        with self._lake.stage(self.source, partition, last.offset, mark_of(last)) as stage:
            stage.append(table)
        buffer.messages = []
        metrics.rows_written.labels(self._topic).inc(table.num_rows)
        with suppress(LogError):  # the rows are written; only the lag is unknown
            lag = self._log.end_offsets(self._topic).get(partition, 0) - messages[-1].offset - 1
            metrics.capture_lag.labels(self._topic, str(partition)).set(max(lag, 0))
        return int(table.num_rows)

    def _send_rejected(self, rejected: Sequence[tuple[Message, str]]) -> None:
        """Send what does not parse to the dead-letter topic.

        This happens before its neighbours are in the lake, so that a crash in between repeats
        dead letters but never loses one.
        """
        self._log.create(DEAD_LETTER, 1)  # whoever filled the topic may not have
        for message, reason in rejected:
            place = f"{self.source}/{message.partition}/{message.offset}"
            send_to_dead_letter(self._writer, message.key, message.value, reason, place)
        metrics.rejected_ticks.inc(len(rejected))
        self._writer.flush(FLUSH_SECONDS)

    def _note_positions(self) -> None:
        """Note where reading ended, if control records of transactions follow the last record."""
        for partition in self._reader.assignment():
            read = self._reader.position(partition) - 1
            if read > self._lake.last_offset(self.source, partition):
                self._lake.advance(self.source, partition, read)

    def _recreated(self) -> bool:
        """Detect a re-created topic; the buffer may mix old and new records, so it is dropped."""
        generation = self._log.generation(self._topic)
        if generation == self._generation:
            return False
        logger.warning(
            "topic %s was re-created (%s -> %s): starting from its beginning",
            self._topic,
            self._generation,
            generation,
        )
        self._buffers.clear()
        self._stale = True
        return True

    def _assigned(self, partitions: Sequence[int]) -> None:
        if self._distinct:
            self._distinct.forget()
        for partition in partitions:
            self._buffers.pop(partition, None)
            self._reader.seek(partition, self.history.continue_at(self.source, partition))

    def _revoked(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            if partition in self._buffers:
                try:
                    self._write(partition)
                except (LakeError, LogError) as error:
                    logger.error(
                        "could not write partition %d before losing it; "
                        "its next owner will read it again: %s",
                        partition,
                        error,
                    )
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
    """Capture a topic of ``CAPTURED`` into a folder; return the number of rows written."""
    stored = CAPTURED[topic]
    lake = Lake(folder, stored.schema)
    distinct = Distinct(lake) if stored.repeats else None
    work = Capture(
        log, topic, lake, stored.decode, rotation=rotation, group=group, distinct=distinct
    )
    try:
        rows = work.run(follow=follow, stopped=stopped)
    finally:
        work.close()
    if work.history.deleted and not follow:
        raise LogError(
            f"captured {rows} rows of {topic}, but {work.history.deleted} records had been deleted "
            "before: let the topic keep them for longer (retention.ms), or capture more often; the "
            "ledger gaps.jsonl names the gaps"
        )
    return rows


def _stopped_within(seconds: float, stopped: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if stopped():
            return True
        time.sleep(0.1)
    return False
