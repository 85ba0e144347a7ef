"""Read the query strings of the forecast routes; errors name the parameter."""

from __future__ import annotations

import re
import time
from typing import Literal, get_args
from urllib.parse import parse_qsl

from service.forecasts.history import Wanted
from service.wire import RequestError, shorten
from volatility.records import EARLIEST_NS, LATEST_NS, SYMBOL
from volatility.units import SECOND, parse_iso

HORIZON = re.compile(r"[1-9][0-9]{0,6}s")
NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?")
PAGE_ROWS, MOST_ROWS = 1_000, 10_000
MOST_SYMBOLS = 100
_FRACTION = re.compile(r"(?P<whole>[^.]*)\.(?P<digits>\d{1,9})(?P<zone>Z|[+-]\d\d:?\d\d)?")

Query = dict[str, str]
Format = Literal["json", "csv", "arrow", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)


def wrong(name: str, message: str) -> RequestError:
    """Return the error of a parameter."""
    return RequestError(422, "query", f"{name}: {message}", field=name)


def read(query: bytes, allowed: frozenset[str]) -> Query:
    """Read a query string; each parameter at most once."""
    found: Query = {}
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:  # not ASCII, or not UTF-8 once unquoted
        raise RequestError(422, "query", "the query string is not UTF-8") from None
    for name, value in pairs:
        if name not in allowed:
            known = ", ".join(sorted(allowed))
            raise wrong(shorten(name), f"unknown parameter; there are {known}")
        if name in found:
            raise wrong(name, "is given twice; separate several values by commas")
        found[name] = value
    return found


def symbols(query: Query) -> tuple[str, ...]:
    """Return the symbols asked for; none for all."""
    return tuple(dict.fromkeys(map(_symbol, _list(query, "symbol"))))[:MOST_SYMBOLS]


def symbol(query: Query) -> str:
    """Return the one symbol asked for."""
    if "symbol" not in query:
        raise wrong("symbol", "is missing; for example symbol=BTC-USD")
    return _symbol(query["symbol"])


def horizons(query: Query) -> tuple[str, ...]:
    """Return the horizons asked for; none for all."""
    found = tuple(dict.fromkeys(_list(query, "horizon")))
    for one in found:
        if not HORIZON.fullmatch(one):
            raise wrong("horizon", f"{shorten(one)} is not a horizon; for example 60s,300s")
    return found


def level(query: Query, name: str) -> float | None:
    """Return a level [basis points over the horizon]."""
    if name not in query:
        return None
    value = float(query[name]) if NUMBER.fullmatch(query[name]) else -1.0
    if not 0.0 <= value < 1e9:
        raise wrong(name, "is not a number of basis points, such as 12.5")
    return value


def moment(query: Query, name: str) -> int | None:
    """Return a time [ns since the epoch]: given as that or as ISO 8601."""
    if name not in query:
        return None
    text = query[name].replace(" ", "+")  # a plus that was not quoted
    try:
        found = int(text) if text.isascii() and text.isdigit() else _iso(text)
    except (ValueError, OverflowError):
        found = -1
    if not EARLIEST_NS <= found <= LATEST_NS:
        raise wrong(
            name, "is not a time from 2009 to 2100, such as 2026-04-04T21:13:43Z or nanoseconds"
        )
    return found


def period(query: Query) -> Wanted:
    """Return the forecasts of the past that are asked for; by default those of the last hour."""
    now = time.time_ns()
    stop = moment(query, "to")
    stop = now + SECOND if stop is None else stop
    start = moment(query, "from")
    start = min(stop, now) - 3_600 * SECOND if start is None else start
    return Wanted(symbol(query), start, stop, moment(query, "as_of"))


def kind(query: Query) -> Format:
    """Return the format of the answer."""
    text = query.get("format", "json")
    for known in FORMATS:
        if text == known:
            return known
    raise wrong("format", f"{shorten(text)} is not one of {', '.join(FORMATS)}")


def page_rows(query: Query) -> int:
    """Return the most rows of a page."""
    text = query.get("limit", str(PAGE_ROWS))
    found = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
    if not 1 <= found <= MOST_ROWS:
        raise wrong("limit", f"is not a number of rows from 1 to {MOST_ROWS}")
    return found


def _list(query: Query, name: str) -> list[str]:
    if name not in query:
        return []
    found = query[name].split(",")
    if not all(found):
        raise wrong(name, "is empty or has an empty entry")
    if len(found) > MOST_SYMBOLS:
        raise wrong(name, f"has more than {MOST_SYMBOLS} entries")
    return found


def _symbol(text: str) -> str:
    if not SYMBOL.fullmatch(text):
        raise wrong("symbol", f"{shorten(text)} is not a symbol such as BTC-USD")
    return text


def _iso(text: str) -> int:
    """Read ISO 8601, with up to nine digits of a second."""
    parts = _FRACTION.fullmatch(text)
    if parts is None:
        return parse_iso(text)
    whole = parse_iso(parts["whole"] + (parts["zone"] or ""))
    return whole + int(parts["digits"].ljust(9, "0"))
