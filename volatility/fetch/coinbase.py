"""Fetch the trades of a day from Coinbase's public REST interface, as one CSV file.

It returns pages of up to 1,000 trades, newest first, below a trade's number. The numbers have no
holes and grow with the time, so the end of a day is found by bisection.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from volatility.fetch.download import Downloader, FetchError
from volatility.files import replacing
from volatility.sources import parse_time

URL = "https://api.exchange.coinbase.com"
FIELDS = ("time", "symbol", "exchange", "price", "size", "side", "trade_id")
PAGE = 1000
# The interface names the side of the maker; a tick has that of the taker.
TAKER = {"buy": "sell", "sell": "buy"}

Trade = dict[str, Any]


def trades_of_day(
    downloader: Downloader, symbol: str, day: date, path: Path, url: str | None = None
) -> Path | None:
    """Write a day's trades to a gzipped CSV file, oldest first; None where there are none.

    Raises
    ------
    FetchError
        When the exchange cannot be reached, or answers something else.
    """
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000_000
    stop = start + timedelta(days=1) // timedelta(microseconds=1) * 1_000
    pages = _Pages(downloader, f"{(url or URL).rstrip('/')}/products/{symbol}/trades")
    newest = pages.page(None)
    if newest is None:
        raise FetchError(f"Coinbase does not list {symbol}; use a product such as BTC-USD")
    if not newest:
        return None
    below = _first_at(pages, newest, stop)
    # Text takes a tenth of the memory: a busy day has a million trades.
    found = [
        "".join(_line(trade, symbol) for trade in page[::-1])
        for page in _backwards(pages, below, start)
    ]
    if not found:
        return None
    with replacing(path) as temporary, gzip.open(temporary, "wt") as file:
        file.write(f"{','.join(FIELDS)}\n")
        file.writelines(reversed(found))
    return path


def _line(trade: Trade, symbol: str) -> str:
    names = ("price", "size", "trade_id")
    price, size, number = (str(trade[name]) for name in names)
    side = TAKER.get(str(trade["side"]), "")
    return f"{trade['time']},{symbol},coinbase,{price},{size},{side},{number}\n"


class _Pages:
    def __init__(self, downloader: Downloader, url: str) -> None:
        self._downloader, self._url = downloader, url

    def page(self, below: int | None) -> list[Trade] | None:
        """Return the newest trades below a number; None if the product is not listed."""
        after = "" if below is None else f"&after={below}"
        response = self._downloader.get(f"{self._url}?limit={PAGE}{after}")
        if response is None:
            return None
        try:
            page = response.json()
            if not all({"trade_id", "time", "price", "size", "side"} <= t.keys() for t in page):
                raise ValueError("fields are missing")
        except (ValueError, AttributeError, TypeError) as error:
            raise FetchError(f"{self._url}: the answer has no trades ({error})") from error
        return list(page)


def _first_at(pages: _Pages, newest: list[Trade], moment: int) -> int:
    """Return the number of the first trade at or after a time [ns], or one past the newest."""
    low, high = 1, int(newest[0]["trade_id"]) + 1
    while low < high:
        middle = (low + high) // 2
        page = pages.page(middle + 1)
        if page and parse_time(page[0]["time"]) >= moment:
            high = middle
        else:
            low = middle + 1
    return low


def _backwards(pages: _Pages, below: int, start: int) -> Iterator[list[Trade]]:
    """Yield the pages below a number until a trade is older than a time [ns]."""
    while below > 1:
        page = pages.page(below) or []
        inside = [trade for trade in page if parse_time(trade["time"]) >= start]
        if inside:
            yield inside
        if len(inside) < len(page) or not page:
            return
        below = int(page[-1]["trade_id"])
