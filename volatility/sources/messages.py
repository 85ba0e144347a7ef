"""Represent the messages of any venue, and read what several venues write alike.

>>> parse_time("2026-04-04T21:13:43.291084825Z")
1775337223291084825
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from typing import Annotated, Protocol

import msgspec

from volatility.records import EARLIEST_NS, LATEST_NS, Record, TickError

BAD_TIME = "time is missing or not RFC 3339"
BAD_SYMBOL = "symbol is missing or malformed"
BAD_ENTRY = "entry is malformed"
NOT_JSON = "not JSON"

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,9}))? ?"
    r"(?:[Zz]|([+-])(\d\d):?(\d\d))(?: UTC)?(?: m=[+-][\d.]+)?"
)

Number = float | str | None
Count = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # range of a Parquet column


class Rejection(msgspec.Struct, frozen=True):
    """Represent an entry that is not a valid tick: the reason and its original text."""

    reason: str
    raw: str


class Message(msgspec.Struct, frozen=True):
    """Represent the content of one message.

    Parameters
    ----------
    kind : str
        Its channel or type: ``ticker``, ``heartbeats``, ``subscriptions``, ``l2_data``, ...
    records : tuple of Tick or Heartbeat
        Valid ones, in order.
    rejected : tuple of Rejection
        Entries that are not valid ticks.
    symbols : tuple of str, optional
        In a response to a subscription: the symbols whose ticker is now subscribed.
    sequence : int, optional
        ``sequence_num`` of the connection (Advanced Trade).
    heartbeat : int, optional
        ``heartbeat_counter`` (Advanced Trade), which increases by one per second.
    snapshot : bool
        Whether it states the current values on subscription, and so may repeat a tick.
    error : str, optional
        Text of an ``error`` message.
    stamp : str or int, optional
        When the exchange sent it, as it wrote the time, or in nanoseconds. Advanced Trade stamps
        every message, the Exchange feed only those of a product; its tickers carry the time of the
        trade.
    estimated : bool
        Whether the venue states no time, and ``stamp`` and the records' times were estimated from
        the arrival.
    last_trade_id : int, optional
        In a heartbeat: the product's newest trade.
    past : dict of str to dict of int to int
        The trades of each symbol before the subscription: number to time [ns].
    ending : str, optional
        Why the exchange is about to end the connection.
    """

    kind: str
    records: tuple[Record, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    symbols: tuple[str, ...] | None = None
    sequence: int | None = None
    heartbeat: int | None = None
    snapshot: bool = False
    error: str | None = None
    stamp: str | int | None = None
    estimated: bool = False
    last_trade_id: int | None = None
    past: dict[str, dict[int, int]] = {}
    ending: str | None = None

    @property
    def sent_ns(self) -> int | None:
        """When the exchange sent the message [ns]; None if it has no timestamp."""
        if isinstance(self.stamp, int):
            return self.stamp if EARLIEST_NS <= self.stamp <= LATEST_NS else None
        try:
            return parse_time(self.stamp)
        except TickError:
            return None


class Decoder(Protocol):
    """Read the messages of one venue, one connection after another."""

    def connected(self) -> None:
        """Forget what only the last connection knew."""

    def decode(self, message: bytes, received: int, symbols: Iterable[str]) -> Message:
        """Read one message; see ``volatility.sources.coinbase.decode``."""


def parse_time(text: str | None) -> int:
    """Read RFC 3339, or Go's default time format, exactly, as nanoseconds since the epoch.

    >>> parse_time("2026-04-04T21:13:43.291084825Z")
    1775337223291084825
    >>> parse_time("2024-10-04 07:04:40.820713045 +0000 UTC m=+66987.628148662")
    1728025480820713045

    Raises
    ------
    TickError
        When it is in neither format.
    """
    match = _TIME.fullmatch(text or "")
    if not match:
        raise TickError(BAD_TIME)
    day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = match.groups()
    seconds = _day_seconds(day) + int(hour) * 3600 + int(minute) * 60 + int(second)
    if sign:
        zone = int(zone_hours) * 3600 + int(zone_minutes) * 60
        seconds += -zone if sign == "+" else zone
    return seconds * 1_000_000_000 + (int(fraction.ljust(9, "0")) if fraction else 0)


@lru_cache(maxsize=64)
def _day_seconds(day: str) -> int:
    try:
        return (date.fromisoformat(day).toordinal() - _EPOCH_DAY) * 86_400
    except ValueError as error:
        raise TickError(BAD_TIME) from error


def number(value: Number) -> float:
    """Read a JSON number, or a string containing one; NaN if it is neither."""
    if isinstance(value, str) and "_" in value:  # Python accepts "1_000", but no venue writes it
        return float("nan")
    try:
        return float(value) if value is not None else float("nan")
    except (ValueError, OverflowError):
        return float("nan")


def text_of(message: bytes | str) -> str:
    """Return a message as text, whatever its bytes are."""
    return message if isinstance(message, str) else message.decode(errors="replace")
