"""Compare a topic with what the lake has of it, to notice deleted and rewritten records."""

from __future__ import annotations

import hashlib
import logging
import time

from volatility.lake import Gap, Lake
from volatility.streaming import metrics
from volatility.streaming.log import EventLog, LogError, Message

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
MESSAGE_SECONDS = 5.0  # to read one record
DELETED, REWRITTEN = "deleted before capture", "log rewritten"


class RewrittenError(LogError):
    """Report a log that lost records which the lake has; waiting cannot help."""


class History:
    """Find where capture of a topic continues.

    Parameters
    ----------
    log : EventLog
    topic : str
    lake : Lake

    Attributes
    ----------
    deleted : int
        Records that the log had deleted before they could be captured.
    """

    def __init__(self, log: EventLog, topic: str, lake: Lake) -> None:
        self._log, self._topic, self._lake = log, topic, lake
        self.deleted = 0
        metrics.deleted_records.labels(topic)  # start at 0: an alert sees increases only

    def continue_at(self, source: str, partition: int) -> int:
        """Return the first offset missing in the lake, or the first that the log still has.

        Raises
        ------
        RewrittenError
            When the log has lost records that the lake has.
        """
        wanted = self._lake.last_offset(source, partition) + 1
        kept = self._log.start_offsets(self._topic).get(partition, 0)
        if wanted < kept:
            self._record_deleted(source, partition, wanted, kept)
        elif wanted:
            self._compare(source, partition, wanted)
        return max(wanted, kept)

    def require(self, source: str, partition: int) -> None:
        """Raise if the log no longer has the records that the lake has, under their offsets.

        Raises
        ------
        RewrittenError
        """
        if wanted := self._lake.last_offset(source, partition) + 1:
            self._compare(source, partition, wanted)

    def _record_deleted(self, source: str, partition: int, wanted: int, kept: int) -> None:
        """Report records that the log deleted before they were captured, once."""
        logger.error(
            "%s partition %d: offsets %d to %d were deleted before they were captured",
            self._topic,
            partition,
            wanted,
            kept - 1,
        )
        metrics.lost_messages.inc(kept - wanted)
        first = message_at(self._log, self._topic, partition, kept)
        until = first.time_ns if first else time.time_ns()
        for symbol, since in self._lake.newest(source, partition).items():
            detail = {"partition": partition, "offsets": [wanted, kept - 1]}
            self._lake.record_gap(symbol, since, max(since, until), DELETED, **detail)
        if wanted:  # a lake that begins later than its log has lost nothing
            self.deleted += kept - wanted
            metrics.deleted_records.labels(self._topic).inc(kept - wanted)
            # A capture that has just started met them before anyone scraped a first count.
            metrics.deleted_at.labels(self._topic).set_to_current_time()
            self._lake.advance(source, partition, kept - 1)

    def _compare(self, source: str, partition: int, wanted: int) -> None:
        """Raise if the log no longer has the records that the lake has, under their offsets.

        A broker that loses its newest records, as by a power cut, gives their offsets to others,
        which would be taken for those that are captured already.
        """
        end = self._log.end_offsets(self._topic).get(partition, 0)
        mark, last = self._lake.mark(source, partition), None
        if wanted <= end and mark:
            last = message_at(self._log, self._topic, partition, wanted - 1)
        if wanted <= end and (last is None or last.offset >= wanted or mark_of(last) == mark):
            return
        what = f"ends at offset {end}" if wanted > end else "has another record at that offset"
        for symbol, since in self._lake.newest(source, partition).items():
            gap = Gap(symbol, since, since, REWRITTEN, {"through": wanted - 1})
            if gap not in self._lake.gaps(symbol):
                self._lake.record_gap(symbol, since, since, REWRITTEN, **gap.detail)
        raise RewrittenError(
            f"{self._topic} partition {partition} was captured through offset {wanted - 1}, but "
            f"the log {what}: the broker has lost records that it had acknowledged. The lake keeps "
            "them; what to do is in docs/runbook.md, section LogRewritten"
        )


def message_at(log: EventLog, topic: str, partition: int, offset: int) -> Message | None:
    """Read the first record at or after an offset; None if there is none."""
    reader = log.reader(topic, {partition: offset})
    try:
        deadline = time.monotonic() + MESSAGE_SECONDS
        while time.monotonic() < deadline:
            if found := reader.poll(1, POLL_SECONDS):
                return found[0]
            if reader.position(partition) > offset:
                break
        return None
    finally:
        reader.close()


def mark_of(message: Message) -> str:
    """Return the fingerprint of a record."""
    return hashlib.blake2b(message.value, digest_size=8).hexdigest()
