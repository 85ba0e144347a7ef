"""Continue a replay after what a log already has of it, at the replay's pace."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence

import numpy as np

from volatility.lake import Gap
from volatility.records import Record
from volatility.streaming.sources.events import Arrived, Event, Rejected, SourceError
from volatility.streaming.sources.replay import when_due
from volatility.units import SECOND

HOLE_NS = 15 * SECOND  # a longer one is shortened, as in a replay
LONGEST_NS = SECOND


async def resumed(
    events: AsyncIterator[list[Event]], last: Mapping[str, Sequence[Record]], speed: float
) -> AsyncIterator[list[Event]]:
    """Yield the events of a replay that follow the last records of each symbol.

    Parameters
    ----------
    events : async iterator of list of Event
        A replay as fast as possible.
    last : mapping of str to sequence of Record
        The last records in the log, by symbol, in order; several of them, as a record may repeat.
    speed : float
        Multiple of the recorded pace; ``math.inf`` for as fast as possible.

    Raises
    ------
    SourceError
        When the replay ends before it comes to these records: it is another one.
    """
    ahead = {symbol: deque[Record](maxlen=len(records)) for symbol, records in last.items()}
    pace = _Pace(speed)
    async for batch in events:
        kept = [event for event in batch if not _known(event, ahead, last)]
        if not kept:
            continue
        if math.isinf(speed):
            yield kept
            continue
        async for part in when_due(kept, pace.due(kept), time.monotonic_ns, _sleep):
            yield part
    missing = sorted(symbol for symbol, seen in ahead.items() if seen)
    if missing:
        raise SourceError(
            f"the log holds other ticks of {missing[0]} than this replay: choose another folder "
            "with --data"
        )


def _known(
    event: Event, ahead: dict[str, deque[Record]], last: Mapping[str, Sequence[Record]]
) -> bool:
    """Return whether an event is one that the log has already."""
    if isinstance(event, Rejected):
        return bool(ahead)
    symbol = event.record.symbol if isinstance(event, Arrived) else getattr(event, "symbol", "")
    seen = ahead.get(symbol)
    if seen is None:
        return False
    if isinstance(event, Arrived):
        seen.append(event.record)
        if list(seen) == list(last[symbol]):
            del ahead[symbol]
    return True


class _Pace:
    """Say when events are due [ns of the monotonic clock]."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._time: int | None = None  # of the last event
        self._due = 0.0

    def due(self, events: Sequence[Event]) -> np.ndarray:
        found = np.empty(len(events))
        for place, event in enumerate(events):
            time_ns = self._time
            if isinstance(event, Arrived):
                time_ns = event.record.time
            elif isinstance(event, Gap):
                time_ns = event.stop_ns
            if self._time is None:
                self._due = float(time.monotonic_ns())
            elif time_ns is not None:
                step = time_ns - self._time
                wait = step / self._speed
                self._due += min(wait, LONGEST_NS) if step > HOLE_NS else max(wait, 0.0)
            self._time = time_ns
            found[place] = self._due
        return found


async def _sleep(nanoseconds: float) -> None:
    await asyncio.sleep(nanoseconds / SECOND)
