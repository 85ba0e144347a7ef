"""Ask Coinbase's public REST interface for past trades, page by page and at a pace it allows."""

from __future__ import annotations

import json
import logging
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from urllib.parse import urlencode, urlsplit

import msgspec

from volatility.tick import SYMBOL

URL = "https://api.exchange.coinbase.com"
PAGE_TRADES = 1000  # the most that a page holds

_log = logging.getLogger(__name__)


class BackfillError(Exception):
    """A backfill that cannot go on; one line says why and what to do."""


class Trade(msgspec.Struct):
    """Hold one entry of ``GET /products/{id}/trades``, as it was told."""

    trade_id: int
    time: str
    price: str
    size: str
    side: str


_page = msgspec.json.Decoder(list[Trade])


@dataclass(frozen=True)
class Pace:
    """Say how often to ask, and how long to wait after a refusal or a failure.

    Parameters
    ----------
    requests_per_second : float
        Coinbase allows 10 for each address, for all of its programs together.
    attempts : int
        For one page.
    first_seconds, cap_seconds : float
        Wait after the first failure, and the longest; it doubles in between. Of each wait a
        random half is taken off, so that many clients do not come back at once.
    longest_seconds : float
        Most that a ``Retry-After`` may ask for.
    timeout_seconds : float
        Without a sign of life of the server.
    """

    requests_per_second: float = 8.0
    attempts: int = 8
    first_seconds: float = 0.5
    cap_seconds: float = 30.0
    longest_seconds: float = 300.0
    timeout_seconds: float = 20.0


@dataclass
class Trades:
    """Ask for trades of one product, no faster than the pace allows.

    Parameters
    ----------
    symbol : str
    url : str
    pace : Pace

    Raises
    ------
    BackfillError
        When the symbol or the address is malformed.
    """

    symbol: str
    url: str = URL
    pace: Pace = field(default_factory=Pace)
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _due: float = float("-inf")

    def __post_init__(self) -> None:
        if not SYMBOL.fullmatch(self.symbol):
            raise BackfillError(f"symbol {self.symbol[:40]!r} is malformed; write it as BTC-USD")
        address = urlsplit(self.url)
        if address.scheme not in {"http", "https"} or not address.hostname:
            raise BackfillError(f"--url {self.url!r} is no http or https address")
        self._opener = urllib.request.build_opener()
        self._opener.addheaders = [
            ("User-Agent", "volatility-service"),  # Coinbase refuses who gives none
            ("Accept", "application/json"),
        ]

    def older(self, *, limit: int, after: int | None = None) -> list[Trade]:
        """Give the newest trades numbered below ``after``, or of all; ascending.

        Raises
        ------
        BackfillError
            When there is no such product, or no page came in all attempts.
        """
        query = {"limit": str(limit)} | ({} if after is None else {"after": str(after)})
        address = f"{self.url.rstrip('/')}/products/{self.symbol}/trades?{urlencode(query)}"
        reason = ""
        for attempt in range(self.pace.attempts):
            self._wait_for_turn()
            try:
                with self._opener.open(address, timeout=self.pace.timeout_seconds) as answer:
                    trades = _page.decode(answer.read())
                return sorted(trades, key=lambda trade: trade.trade_id)
            except urllib.error.HTTPError as error:
                with error:
                    reason, wait = self._refused(error, attempt)
            except (OSError, HTTPException, msgspec.MsgspecError, UnicodeDecodeError) as error:
                reason, wait = _one_line(error), self._backoff(attempt)
            if attempt + 1 < self.pace.attempts:
                _log.warning("%s: %s; again in %.1f s", self.symbol, reason, wait)
                self.sleep(wait)
        raise BackfillError(
            f"{urlsplit(self.url).netloc} gave no page in {self.pace.attempts} attempts "
            f"({reason}); run the same command again, it goes on where it stopped"
        )

    def _wait_for_turn(self) -> None:
        """Space the requests evenly: a burst would use up what others of this address need."""
        now = self.clock()
        self.sleep(max(self._due - now, 0.0))
        self._due = max(now, self._due) + 1 / self.pace.requests_per_second

    def _refused(self, error: urllib.error.HTTPError, attempt: int) -> tuple[str, float]:
        text = _message(error)
        if error.code == 404:
            raise BackfillError(
                f"{urlsplit(self.url).netloc} has no product {self.symbol} ({text}); check --symbol"
            )
        if error.code not in {408, 418, 425, 429} and error.code < 500:
            raise BackfillError(f"{urlsplit(self.url).netloc} refused: {error.code} {text}")
        asked = _retry_after(error.headers.get("Retry-After"))
        if asked > self.pace.longest_seconds:
            raise BackfillError(
                f"{urlsplit(self.url).netloc} asks to stay away for {asked:.0f} s; "
                "run the same command again after that, it goes on where it stopped"
            )
        return f"{error.code} {text}", max(asked, self._backoff(attempt))

    def _backoff(self, attempt: int) -> float:
        longest = min(self.pace.first_seconds * 2.0**attempt, self.pace.cap_seconds)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  spreads load, no secret


def _retry_after(text: str | None) -> float:
    """Read the header's seconds, or its date; 0 where it is neither."""
    if text is None or text.isdecimal():
        return float(text or 0)
    with suppress(ValueError):
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    return 0.0


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return _one_line(json.loads(error.read())["message"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return str(error.reason)


def _one_line(value: object) -> str:
    return " ".join(str(value).split())[:120] or type(value).__name__
