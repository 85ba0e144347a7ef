"""Provide the sources of ticks: ``live``, ``replay`` and ``simulated``.

Each is an async iterator of lists of events; see ``events``. Close it when done, so that its
connection or temporary files are released at once::

    async with aclosing(live(["BTC-USD"])) as events:
        async for batch in events:
            ...
"""

from volatility.streaming.sources.events import (
    Arrived,
    Event,
    Gap,
    Reconnected,
    Rejected,
    SourceError,
    SourceStatistics,
)
from volatility.streaming.sources.feed import GAP_REASONS
from volatility.streaming.sources.merge import merge
from volatility.streaming.sources.replay import MAX_EVENTS, replay, simulated, when_due
from volatility.streaming.sources.resumed import resumed
from volatility.streaming.sources.websocket import Timing, live

__all__ = [
    "GAP_REASONS",
    "MAX_EVENTS",
    "Arrived",
    "Event",
    "Gap",
    "Reconnected",
    "Rejected",
    "SourceError",
    "SourceStatistics",
    "Timing",
    "live",
    "merge",
    "replay",
    "resumed",
    "simulated",
    "when_due",
]
