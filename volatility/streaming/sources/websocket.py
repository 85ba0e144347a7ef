"""Receive ticks from a venue until closed, reconnecting whatever happens to the connection.

Every venue sends a heartbeat or something else each second, so ten seconds without any message mean
a dead connection, even if TCP has not noticed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)

from volatility.records import SYMBOL, Record
from volatility.streaming.sources.coinbase import ADVANCED_TRADE
from volatility.streaming.sources.events import Event, Reconnected, SourceError, SourceStatistics
from volatility.streaming.sources.feed import Feed
from volatility.streaming.sources.venue import Venue

MAX_MESSAGE_BYTES = 1 << 20  # a ticker has about 500 bytes
MAX_RETRY_AFTER_SECONDS = 300.0
MAX_REQUEST_SECONDS = 300.0  # between two requests while nothing is subscribed
REFUSALS = {418, 429, 503}  # HTTP: come back later
REFUSED_STEPS = 2  # doublings added by a refusal

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """Configure the delays and timeouts of the live source [seconds]; tests shorten them.

    Parameters
    ----------
    first_seconds, cap_seconds : float
        Wait before the first attempt to reconnect, and the longest wait; it doubles in between.
    healthy_seconds : float
        A connection that lasted this long resets the wait.
    silence_seconds : float
        Time without any message after which the connection is dropped.
    subscribe_seconds : float
        Time within which tickers and heartbeats must be subscribed. Then the connection continues
        without the tickers that are not; if there is none at all, they are requested again, after
        waits that double.
    connect_seconds, close_seconds : float
        Timeouts of the opening and the closing handshake.
    """

    first_seconds: float = 0.25
    cap_seconds: float = 30.0
    healthy_seconds: float = 60.0
    silence_seconds: float = 10.0
    subscribe_seconds: float = 10.0
    connect_seconds: float = 10.0
    close_seconds: float = 1.0


class Backoff:
    """Compute the wait before the next attempt: doubling, capped, with half of it random."""

    def __init__(self, timing: Timing, generator: random.Random) -> None:
        self.timing = timing
        self.generator = generator
        self._step = 0

    def next(self) -> float:
        """Return the next wait [seconds]."""
        ceiling = min(self.timing.cap_seconds, self.timing.first_seconds * 2.0**self._step)
        self._step = min(self._step + 1, 64)
        return ceiling * self.generator.uniform(0.5, 1.0)

    def refused(self, retry_after_seconds: float | None = None) -> float:
        """Return the next wait [seconds] after a refusal: longer than usual, or as requested."""
        self._step += REFUSED_STEPS
        asked = min(retry_after_seconds or 0.0, MAX_RETRY_AFTER_SECONDS)
        return max(self.next(), asked * self.generator.uniform(1.0, 1.1))

    def reset(self) -> None:
        """Start over with the shortest wait."""
        self._step = 0


class _LostError(Exception):
    """The connection was lost: cause and detail."""


async def live(
    symbols: Sequence[str],
    venue: Venue = ADVANCED_TRADE,
    url: str | None = None,
    *,
    clock: Callable[[], int] = time.time_ns,
    timing: Timing | None = None,
    statistics: SourceStatistics | None = None,
    known: Iterable[Record] = (),
    generator: random.Random | None = None,
) -> AsyncGenerator[list[Event], None]:
    """Yield a venue's messages for some symbols, endlessly; close it with ``aclosing``.

    Parameters
    ----------
    symbols : sequence of str
        Such as ``BTC-USD``.
    venue : Venue
    url : str, optional
        By default the venue's public feed.
    clock : callable
        Returns the local time [ns], which becomes ``received``.
    timing : Timing, optional
    statistics : SourceStatistics, optional
        Counts what is yielded, dropped and lost.
    known : iterable of Tick or Heartbeat
        The last records yielded by an earlier run; see ``Feed``.
    generator : random.Random, optional
        Source of the jitter.

    Yields
    ------
    list of Event
        In order of arrival, as soon as they arrive. A gap is yielded once it has ended, before
        the first record after it.

    Raises
    ------
    SourceError
        When a symbol or the address is malformed, or the exchange refuses every symbol by name
        before it has delivered any. Nothing else that the exchange does raises an error.
    """
    _check(symbols, venue)
    timing = timing or Timing()
    statistics = statistics or SourceStatistics()
    backoff = Backoff(timing, generator or random.Random())  # noqa: S311  spreads load, no secret
    feed = Feed(symbols, venue, statistics, known)
    cause = detail = failed = ""
    lost_at: float | None = None
    attempts = 0
    while True:
        attempts += 1
        try:
            connection = await _open(url or venue.url, timing)
        except _LostError as error:
            failed, detail, wait_seconds = _failure(error, backoff)
            cause = cause or failed  # a refusal after a silence does not undo the silence
            statistics.failed_attempts += 1
        else:
            opened_at = time.monotonic()
            feed.connected(clock(), cause)
            try:
                async with aclosing(_session(connection, feed, timing, clock)) as session:
                    if lost_at is not None:
                        back = Reconnected(cause, detail, attempts, opened_at - lost_at)
                        statistics.count([back])
                        yield [back]
                    async for events in session:
                        statistics.count(events)
                        yield events
            except _LostError as error:
                cause, detail = error.args
                failed = cause
            lost_at, attempts = time.monotonic(), 0
            if lost_at - opened_at >= timing.healthy_seconds:
                backoff.reset()
            wait_seconds = backoff.next()
        _log.warning("%s (%s); reconnecting in %.1f s", failed, detail, wait_seconds)
        await asyncio.sleep(wait_seconds)


def _check(symbols: Sequence[str], venue: Venue) -> None:
    wrong = [symbol for symbol in symbols if not SYMBOL.fullmatch(symbol)]
    if wrong or not symbols:
        named = f"invalid symbol {wrong[0][:40]!r}" if wrong else "no symbols given"
        raise SourceError(f"{named}; use symbols such as {','.join(venue.example)}")


async def _open(url: str, timing: Timing) -> ClientConnection:
    try:
        return await connect(
            url,
            open_timeout=timing.connect_seconds,
            close_timeout=timing.close_seconds,
            max_size=MAX_MESSAGE_BYTES,
            # A proxy configured in the environment cannot reach this machine's own addresses.
            proxy=None if urlsplit(url).hostname in _LOOPBACK else True,
        )
    except InvalidURI as error:
        raise SourceError(f"invalid address {url!r}: it must start with wss:// or ws://") from error
    except (OSError, EOFError, WebSocketException) as error:
        raise _LostError("unreachable", _line(error)) from error


def _failure(error: _LostError, backoff: Backoff) -> tuple[str, str, float]:
    """Return the cause and detail of a failed attempt, and how long to wait [seconds]."""
    origin = error.__cause__
    cause, detail = error.args
    if isinstance(origin, InvalidStatus) and origin.response.status_code in REFUSALS:
        asked = origin.response.headers.get("Retry-After", "")
        return "refused", detail, backoff.refused(float(asked) if asked.isdecimal() else None)
    return cause, detail, backoff.next()


async def _session(
    connection: ClientConnection, feed: Feed, timing: Timing, clock: Callable[[], int]
) -> AsyncGenerator[list[Event], None]:
    """Yield the events of one connection; always ends with ``_LostError``."""
    wait_seconds = timing.subscribe_seconds
    requesting = asyncio.ensure_future(_request(connection, feed))
    settle_at = time.monotonic() + wait_seconds + _requests_seconds(feed)
    try:
        while True:
            async with asyncio.timeout(timing.silence_seconds):
                raw = await connection.recv(decode=False)
            feed.statistics.last_message_seconds = time.monotonic()
            events = feed.take(raw, clock())
            if events:
                yield events
            if feed.fault is not None:
                raise _LostError(*feed.fault)
            if time.monotonic() > settle_at:
                if not feed.settle():
                    raise _LostError("unsubscribed", "no confirmation of tickers and heartbeats")
                settle_at = math.inf
                if not feed.products.covered:
                    requesting = asyncio.ensure_future(_request(connection, feed))
                    wait_seconds = min(2 * wait_seconds, MAX_REQUEST_SECONDS)
                    settle_at = time.monotonic() + wait_seconds + _requests_seconds(feed)
    except TimeoutError:
        feed.settle()
        # A silent peer will not answer a closing handshake either.
        connection.transport.abort()
        detail = f"no message for {timing.silence_seconds:g} s"
        raise _LostError("silent", detail) from None
    except ConnectionClosed as error:
        raise _LostError("closed", _line(error)) from error
    finally:
        requesting.cancel()
        await connection.close()


async def _request(connection: ClientConnection, feed: Feed) -> None:
    """Subscribe, at the pace that the exchange allows."""
    pace = feed.venue.messages_per_second
    with suppress(ConnectionClosed):  # the reader is notified too
        for number, message in enumerate(feed.venue.subscriptions(feed.products.requests)):
            if number >= pace:
                await asyncio.sleep(1 / pace)
            await connection.send(message, text=True)


def _requests_seconds(feed: Feed) -> float:
    return len(feed.products.requests) / feed.venue.messages_per_second


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
