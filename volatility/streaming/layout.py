"""Know the partition of a symbol, now and before partitions were added to ``ticks``.

A symbol lies on the partition that its name hashes to, modulo the number of partitions. Adding
partitions moves symbols, and the log does not say when that happened. So the first process that
notices a number appends it to the topic ``ticks.layout``. Every process judges a record by these
numbers and by the time of its arrival, so all of them judge it alike, whenever they read it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from volatility.streaming.log import (
    LAYOUT,
    TICKS,
    EventLog,
    LogError,
    Message,
    Writer,
    partition_of,
)
from volatility.units import SECOND

logger = logging.getLogger(__name__)

# Producers that have not noticed added partitions yet keep to the old ones. Kafka's own clients
# ask for the number every five minutes (metadata.max.age.ms), ours every five seconds.
GRACE_SECONDS = 300
READ_SECONDS = 10.0
POLL_SECONDS = 0.2
REASON = "the record is not on its symbol's partition: use the symbol as key, hashed by murmur2"


class _Noted(msgspec.Struct, frozen=True):
    """Represent a record of ``ticks.layout``: the partition count of a generation of ``ticks``."""

    generation: str
    partitions: int


class _Count(NamedTuple):
    partitions: int
    until_ns: float  # records that arrived before this may lie where this count puts them


def note(log: EventLog, writer: Writer) -> None:
    """Append the number of partitions that ``ticks`` has, without waiting.

    Repetitions do no harm: of each number, the first record counts.
    """
    log.create(LAYOUT, 1, forever=True)
    now = _Noted(log.generation(TICKS), len(log.partitions(TICKS)))
    writer.append(LAYOUT, None, msgspec.json.encode(now))


class Layout:
    """Represent the partition counts that topic ``ticks`` has had.

    Attributes
    ----------
    count : int
        The newest number of partitions; 0 before the first ``refresh``.

    Examples
    --------
    >>> from volatility.streaming.log.memory_log import MemoryLog
    >>> log = MemoryLog()
    >>> log.create("ticks", 4)
    >>> layout = Layout(log)
    >>> layout.refresh()
    True
    >>> layout.home("BTC-USD")
    1
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._generation = ""
        self._counts: list[_Count] = []
        self.count = 0

    def refresh(self) -> bool:
        """Ask the log for the number of partitions; return whether it has changed.

        Raises
        ------
        LogError
            When the log does not respond, or ``ticks`` does not exist.
        """
        generation, count = self._log.generation(TICKS), len(self._log.partitions(TICKS))
        if (generation, count) == (self._generation, self.count) or not count:
            return False
        self._log.create(LAYOUT, 1, forever=True)
        now, history = _Noted(generation, count), self._noted()
        if not any(noted == now for noted, _ in history):
            writer = self._log.writer()
            try:
                note(self._log, writer)
                writer.flush(READ_SECONDS)
            finally:
                writer.close()
            history = self._noted()
        since: dict[int, int] = {}  # of two processes that noticed it, the first is right
        for noted, time_ns in history:
            if noted.generation == generation:
                since.setdefault(noted.partitions, time_ns)
        counts = sorted(since)
        ends = [float(since[after] + GRACE_SECONDS * SECOND) for after in counts[1:]]
        self._counts = [_Count(*each) for each in zip(counts, [*ends, np.inf], strict=True)]
        self._generation, self.count = generation, counts[-1]
        if ends:
            logger.info("topic ticks has had %s partitions", ", then ".join(map(str, counts)))
        return True

    def home(self, symbol: str) -> int:
        """Return the partition that a symbol has now."""
        return partition_of(symbol.encode(), self.count)

    def owns(self, partition: int, symbol: str, time_ns: int) -> bool:
        """Return whether a record that arrived at a time may lie on a partition."""
        key = symbol.encode()
        return any(
            time_ns < until_ns and partition == partition_of(key, count)
            for count, until_ns in reversed(self._counts)
        )

    def moved(self, partition: int, symbol: str) -> float:
        """Return until when [ns] a symbol's records may still arrive at its previous partition.

        Minus infinity for a symbol that has always been on this one.
        """
        key = symbol.encode()
        others = [
            until_ns for count, until_ns in self._counts if partition_of(key, count) != partition
        ]
        return max(others, default=-np.inf)

    def split(
        self, table: pa.Table, messages: Sequence[Message], partition: int
    ) -> tuple[pa.Table, list[tuple[Message, str]]]:
        """Divide decoded records into those on their symbol's partition, and the others.

        Parameters
        ----------
        table : Table
            Valid ones of ``messages``, with columns ``symbol`` and ``offset``.

        Raises
        ------
        LogError
            When a record is elsewhere, and the log cannot be asked whether partitions were added.
        """
        if self.count and not self._astray(table, messages, partition):
            return table, []
        self.refresh()
        astray = self._astray(table, messages, partition)
        kept = [offset not in astray for offset in table.column("offset").to_pylist()]
        return table.filter(pa.array(kept)), [(message, REASON) for message in astray.values()]

    def _astray(
        self, table: pa.Table, messages: Sequence[Message], partition: int
    ) -> dict[int, Message]:
        names = table.column("symbol").unique().to_pylist()
        elsewhere = {name for name in names if self.home(name) != partition}
        if not elsewhere:
            return {}
        by_offset = {message.offset: message for message in messages}
        symbols, offsets = (table.column(name).to_pylist() for name in ("symbol", "offset"))
        return {
            offset: by_offset[offset]
            for symbol, offset in zip(symbols, offsets, strict=True)
            if symbol in elsewhere and not self.owns(partition, symbol, by_offset[offset].time_ns)
        }

    def _noted(self) -> list[tuple[_Noted, int]]:
        """Read ``ticks.layout``: each number, and when it was noted [ns]."""
        end = self._log.end_offsets(LAYOUT)[0]
        reader = self._log.reader(LAYOUT, self._log.start_offsets(LAYOUT))
        try:
            found: list[tuple[_Noted, int]] = []
            deadline = time.monotonic() + READ_SECONDS
            while reader.position(0) < end:
                found += [
                    (msgspec.json.decode(message.value, type=_Noted), message.time_ns)
                    for message in reader.poll(1_000, POLL_SECONDS)
                ]
                if time.monotonic() > deadline:
                    raise LogError(f"cannot read topic {LAYOUT}; check that the broker is running")
            return found
        finally:
            reader.close()
