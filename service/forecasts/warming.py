"""Estimate when a symbol's first forecast comes, from its ticks in the log."""

from __future__ import annotations

import time
from typing import NamedTuple

from volatility.records import TickError, decode
from volatility.settings import Features
from volatility.streaming.log import TICKS, EventLog, partition_of
from volatility.units import SECOND

POLL_RECORDS, POLL_SECONDS = 5_000, 0.2
LONGEST_SECONDS = 2.0  # a look may take


class Warmth(NamedTuple):
    """Represent what the log holds of a symbol: the seconds outside gaps, and those needed."""

    covered_seconds: float
    needed_seconds: int

    @property
    def seconds_left(self) -> int:
        """Most seconds until the first forecast; at least one, as there is none yet."""
        return max(1, round(self.needed_seconds - self.covered_seconds))


def look(log: EventLog, symbol: str, rules: Features) -> Warmth | None:
    """Read the last minutes of a symbol's ticks; None if there are none.

    Raises
    ------
    LogError
        When the log does not respond.
    """
    count = len(log.partitions(TICKS))
    if not count:
        return None
    needed = rules.min_baseline_seconds
    partition = partition_of(symbol.encode(), count)
    now_ns = time.time_ns()
    start = log.offsets_at(TICKS, now_ns - needed * SECOND)[partition]
    end = log.end_offsets(TICKS)[partition]
    covered, last = 0, None
    reader = log.reader(TICKS, {partition: max(start, log.start_offsets(TICKS)[partition])})
    try:
        deadline = time.monotonic() + LONGEST_SECONDS
        while reader.position(partition) < end and time.monotonic() < deadline:
            for message in reader.poll(POLL_RECORDS, POLL_SECONDS):
                try:
                    record = decode(message.value, message.time_ns)
                except TickError:
                    continue
                if record.symbol != symbol:
                    continue
                if last is not None and 0 < record.time - last <= rules.gap_seconds * SECOND:
                    covered += record.time - last
                last = record.time if last is None else max(last, record.time)
    finally:
        reader.close()
    return None if last is None else Warmth(covered / SECOND, needed)
