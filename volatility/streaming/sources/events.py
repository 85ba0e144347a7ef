"""Define the events that a source yields, and count them.

A source is an async iterator of lists of events: what arrived, what could not be read, what is
known to be missing (the ledger's ``Gap``), and each reconnection.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from volatility.lake import Gap
from volatility.records import Record, Tick

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
    """A source cannot run; the one-line message says why and what to do."""


class Arrived(msgspec.Struct, frozen=True, gc=False):
    """Represent a tick or heartbeat; from a live source, ``received`` is its arrival time."""

    record: Record


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """Represent raw input that is not a valid tick, with the reason."""

    reason: str
    raw: bytes


class Reconnected(msgspec.Struct, frozen=True):
    """Represent a connection that has been re-established.

    Parameters
    ----------
    cause : str
        Why it was lost, a word suitable as a metric label: ``closed``, ``silent``,
        ``refused``, ``unreachable``, ``unsubscribed`` or ``untrusted``.
    detail : str
        What was observed.
    attempts : int
        Attempts to connect, including the successful one.
    away_seconds : float
        Time since the loss was detected.
    """

    cause: str
    detail: str
    attempts: int
    away_seconds: float


Event = Arrived | Rejected | Gap | Reconnected


@dataclass
class SourceStatistics:
    """Count what a source has done since it started.

    Parameters
    ----------
    messages : int
        Messages received, of any kind.
    ticks, heartbeats : int
        Records yielded.
    rejected : Counter
        Rejected entries by reason.
    duplicates : int
        Ticks dropped because they had already been received.
    gaps : int
        Gaps yielded, one per symbol.
    lost_messages, missed_heartbeats : int
        Known from their numbers never to have arrived.
    reconnects, failed_attempts : int
        New connections after the first; attempts to connect that failed.
    missing : set of str
        Requested symbols that the exchange does not deliver.
    last_message_seconds : float, optional
        Arrival of the last message on the monotonic clock.
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
    missing: set[str] = field(default_factory=set)
    last_message_seconds: float | None = None

    def count(self, events: Iterable[Event]) -> None:
        """Count events that are about to be yielded."""
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
