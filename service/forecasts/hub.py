"""Pass each new forecast to every subscriber, none of whom can hold up the others.

What is sent is encoded once for all who read the same symbols. A subscriber who reads too slowly
is dropped, with a reason. The hub belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from service.forecasts.board import Told

MOST_WAITING = 60  # pieces of a subscriber, about a minute
MOST_BYTES = 1024 * 1024
SLOW = "you read too slowly; connect again with Last-Event-ID to continue where you were"
ENDED = "the service is stopping; connect again with Last-Event-ID to continue where you were"


class Piece(NamedTuple):
    """Represent what a step adds to a stream: as server-sent events, and as messages."""

    events: bytes
    messages: tuple[bytes, ...]


COMMENT = Piece(b": nothing new\n\n", ())


class Subscriber:
    """Queue what has not been sent to one reader yet.

    Parameters
    ----------
    symbols : frozenset of str
        Empty for all.
    """

    def __init__(self, symbols: frozenset[str]) -> None:
        self.symbols = symbols
        self.dropped = ""
        self.idle = False  # nothing was put since the hub's last beat
        self._waiting: deque[Piece] = deque()
        self._bytes = 0
        self._wake: asyncio.Future[None] | None = None

    def put(self, piece: Piece) -> bool:
        """Add a piece; return False if the reader is too slow."""
        self.idle = False
        self._waiting.append(piece)
        self._bytes += len(piece.events)
        if len(self._waiting) > MOST_WAITING or self._bytes > MOST_BYTES:
            self.drop(SLOW)
            return False
        self._notify()
        return True

    def drop(self, reason: str) -> None:
        """End the stream with a reason."""
        self.dropped = reason
        self._waiting.clear()
        self._notify()

    async def take(self) -> list[Piece]:
        """Wait for pieces; none come any more once the reader is dropped."""
        if not self._waiting and not self.dropped:
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        found = list(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        return found

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


class Hub:
    """Know the subscribers."""

    def __init__(self) -> None:
        self.dropped = 0
        self._subscribers: set[Subscriber] = set()

    def __len__(self) -> int:
        return len(self._subscribers)

    def join(self, symbols: frozenset[str]) -> Subscriber:
        """Add a subscriber."""
        subscriber = Subscriber(symbols)
        self._subscribers.add(subscriber)
        return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a subscriber."""
        self._subscribers.discard(subscriber)

    def publish(self, told: Sequence[Told]) -> None:
        """Pass new forecasts on."""
        pieces: dict[frozenset[str], Piece | None] = {}
        for subscriber in list(self._subscribers):
            symbols = subscriber.symbols
            if symbols not in pieces:
                pieces[symbols] = piece_of(told, symbols)
            piece = pieces[symbols]
            if piece is not None and not subscriber.put(piece):
                self.dropped += 1
                self.leave(subscriber)

    def beat(self) -> None:
        """Send a comment to who was sent nothing since the last beat, so that nobody leaves."""
        for subscriber in list(self._subscribers):
            if subscriber.idle and not subscriber.put(COMMENT):
                self.leave(subscriber)
            subscriber.idle = True

    def end(self) -> None:
        """End every stream, as the service stops."""
        for subscriber in list(self._subscribers):
            subscriber.drop(ENDED)
        self._subscribers.clear()


def piece_of(told: Sequence[Told], symbols: frozenset[str]) -> Piece | None:
    """Join the forecasts of some symbols (all if empty); None if there are none."""
    mine = [one for one in told if not symbols or one.symbol in symbols]
    if not mine:
        return None
    return Piece(b"".join(one.event for one in mine), tuple(one.data for one in mine))
