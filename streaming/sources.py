"""Offer the sources of ticks: ``live``, ``replay`` and ``simulated``.

Each is an async iterator of lists of events, see ``streaming.events``. Close it when done, so
that its connection or its temporary files go at once::

    async with aclosing(live(["BTC-USD"])) as events:
        async for batch in events:
            ...
"""

from __future__ import annotations

from streaming.events import (
    Arrived,
    Event,
    Gap,
    Reconnected,
    Rejected,
    SourceError,
    SourceStatistics,
)
from streaming.live import Timing, live
from streaming.replay import replay, simulated

__all__ = [
    "Arrived",
    "Event",
    "Gap",
    "Reconnected",
    "Rejected",
    "SourceError",
    "SourceStatistics",
    "Timing",
    "live",
    "replay",
    "simulated",
]
