"""Name what a source yields, and count it.

A source is an async iterator of lists of events: what arrived, what could not be read, what is
known to be missing (the ledger's ``Gap``), and each new connection.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from volatility.ledger import Gap
from volatility.tick import Record, Tick

__all__ = [
    "Arrived",
    "Event",
    "Gap",
    "Reconnected",
    "Rejected",
    "SourceError",
    "SourceStatistics",
]


class SourceError(Exception):
    """A source that cannot run; one line says why and what to do."""


class Arrived(msgspec.Struct, frozen=True, gc=False):
    """Hold a tick or heartbeat; from a live source, ``received`` is when it arrived here."""

    record: Record


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """Keep what is no valid tick, as it came, with the reason."""

    reason: str
    raw: bytes


class Reconnected(msgspec.Struct, frozen=True):
    """Say that the connection stands again.

    Parameters
    ----------
    cause : str
        Of the loss, one of a few words fit for a metric's label: ``closed``, ``silent``,
        ``refused``, ``unreachable``, ``unsubscribed`` or ``untrusted``.
    detail : str
        What was seen.
    attempts : int
        To connect, this one counted.
    away_seconds : float
        Since the loss was noticed.
    """

    cause: str
    detail: str
    attempts: int
    away_seconds: float


Event = Arrived | Rejected | Gap | Reconnected


@dataclass
class SourceStatistics:
    """Count what a source did since it started.

    Parameters
    ----------
    messages : int
        Received from the wire, of any kind.
    ticks, heartbeats : int
        Yielded.
    rejected : Counter
        By reason.
    duplicates : int
        Ticks dropped because they came before.
    gaps : int
        Yielded, one for each symbol.
    lost_messages, missed_heartbeats : int
        Known, by their numbers, never to have come.
    reconnects, failed_attempts : int
        New connections after the first; attempts to connect that failed.
    last_message_seconds : float, optional
        On the monotonic clock.
    """

    messages: int = 0
    ticks: int = 0
    heartbeats: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    gaps: int = 0
    lost_messages: int = 0
    missed_heartbeats: int = 0
    reconnects: int = 0
    failed_attempts: int = 0
    last_message_seconds: float | None = None

    def count(self, events: Iterable[Event]) -> None:
        """Count what is about to be yielded."""
        for event in events:
            if isinstance(event, Arrived):
                if isinstance(event.record, Tick):
                    self.ticks += 1
                else:
                    self.heartbeats += 1
            elif isinstance(event, Rejected):
                self.rejected[event.reason] += 1
            elif isinstance(event, Gap):
                self.gaps += 1
            else:
                self.reconnects += 1
        self.last_message_seconds = time.monotonic()
