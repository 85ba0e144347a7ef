"""Build requests and read answers, alike for both clients; nothing here sends or waits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import httpx
import msgspec

from volatility.client.types import Fields, Forecast, Limits, Refusal, Warming

TIMEOUT_SECONDS = 60.0  # the service gives up after serving.timeout_seconds
SILENCE_SECONDS = 45.0  # of a stream, which sends something every 15 s
RETRIES = 3  # of a request whose connection failed, or that the service was too busy for
BUSY_SECONDS = 60  # how long to retry rows and ticks while the service answers 429
PATIENCE_SECONDS = 300.0  # how long to try to reach a stream again
BUSY = frozenset({429, 502, 503, 504})

Kind = TypeVar("Kind")
Moment = int | str | datetime


class ClientError(ValueError):
    """Report a request that failed; the message is one line.

    Parameters
    ----------
    message : str
    row : int, optional
        Index of the invalid row or tick in the request, counted from 0.
    field : str, optional
        Name of the invalid feature, field or parameter.
    status : int, optional
        Status of the answer, if there was one.
    """

    def __init__(
        self,
        message: str,
        row: int | None = None,
        field: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.row, self.field, self.status = row, field, status


@dataclass(frozen=True)
class Core:
    """Represent the service to ask: its address and key."""

    url: str
    key: str

    def headers(self) -> dict[str, str]:
        """Return the headers of every request."""
        found = {"content-type": "application/json"}
        if self.key:
            found["authorization"] = f"Bearer {self.key}"
        return found

    def failed(self, error: httpx.HTTPError) -> ClientError:
        """Return the error of a request without an answer."""
        if isinstance(error, httpx.ConnectError):
            return ClientError(
                f"no service responds at {self.url} ({error}): start one with `make serve`, or "
                "pass another address with --url"
            )
        if isinstance(error, httpx.TimeoutException):
            return ClientError(f"{self.url} did not respond within {TIMEOUT_SECONDS:.0f} s")
        return ClientError(f"the connection to {self.url} failed: {error}")

    def read(self, response: httpx.Response, kind: type[Kind]) -> Kind:
        """Read an answer.

        Raises
        ------
        ClientError
            If it is a refusal, or not one of this service's answers.
        """
        if response.status_code != httpx.codes.OK:
            raise self.refused(response)
        try:
            return msgspec.json.decode(response.content, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self.strange() from None

    def refused(self, response: httpx.Response) -> ClientError:
        """Return the error of a refusal, whose body has been read."""
        status = response.status_code
        if status == httpx.codes.UNAUTHORIZED:
            return ClientError(
                f"{self.url} rejects the key in VOLATILITY_API_KEY"
                if self.key
                else f"{self.url} requires a key: set VOLATILITY_API_KEY",
                status=status,
            )
        try:
            refusal = msgspec.json.decode(response.content, type=Refusal)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return self.strange(f": HTTP {status}", status)
        text = f"{refusal.error} (HTTP {status})"
        return ClientError(text, refusal.row, refusal.field, status)

    def strange(self, detail: str = "", status: int | None = None) -> ClientError:
        """Return the error of an answer that this service does not give."""
        text = f"{self.url} does not respond like this service{detail}: check --url"
        return ClientError(text, status=status)

    def newest(self, response: httpx.Response) -> Forecast | Warming:
        """Read the newest forecast of one symbol."""
        return self._newest(self.read(response, msgspec.Raw))

    def several(self, response: httpx.Response) -> list[Forecast | Warming]:
        """Read the newest forecasts of several symbols."""
        return [self._newest(one) for one in self.read(response, _Several).forecasts]

    def _newest(self, content: msgspec.Raw) -> Forecast | Warming:
        try:
            state = msgspec.json.decode(content, type=_State).state
            if state == "warming":
                return msgspec.json.decode(content, type=Warming)
            return msgspec.json.decode(content, type=Forecast)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self.strange() from None

    def limits(self, response: httpx.Response) -> Limits:
        """Read the maximum size of a request from the service's description of itself."""
        content = self.read(response, dict)
        try:
            schemas = content["components"]["schemas"]
            rows, ticks = (
                schemas[kind]["properties"][items]["maxItems"]
                for kind, items in (("Rows", "rows"), ("Ticks", "ticks"))
            )
            return msgspec.convert({"rows": rows, "ticks": ticks}, Limits)
        except (msgspec.MsgspecError, LookupError, TypeError):
            raise self.strange() from None

    def event(self, data: str) -> Forecast:
        """Read an event of the stream."""
        try:
            return msgspec.json.decode(data, type=Forecast)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self.strange() from None


class _Several(msgspec.Struct, frozen=True):
    forecasts: list[msgspec.Raw]


class _State(msgspec.Struct, frozen=True):
    state: str


@dataclass
class Progress:
    """Represent how far a reader of the stream has come.

    Parameters
    ----------
    symbols : sequence of str
    place : str
        Id of the last event.
    """

    symbols: Sequence[str]
    place: str = ""
    seen: dict[str, str] = field(default_factory=dict)  # by symbol: the last step

    def query(self) -> str:
        """Return the query of the stream."""
        return params(symbol=self.symbols)

    def headers(self) -> dict[str, str]:
        """Return the headers of the stream."""
        return {"last-event-id": self.place} if self.place else {}

    def is_new(self, forecast: Forecast) -> bool:
        """Note a forecast; return whether it follows those before."""
        self.place = forecast.id or self.place
        if forecast.as_of <= self.seen.get(forecast.symbol, ""):
            return False
        self.seen[forecast.symbol] = forecast.as_of
        return True

    def missed(self) -> list[str]:
        """Return queries of the history for what may have been missed."""
        return [
            params(symbol=symbol, limit=10_000, **{"from": step})
            for symbol, step in self.seen.items()
        ]


def params(**given: Sequence[str] | Moment | float | None) -> str:
    """Return a query string of what is given."""
    found = {}
    for name, value in given.items():
        if value is None or value == () or value == []:
            continue
        if isinstance(value, datetime):
            utc = value if value.tzinfo else value.replace(tzinfo=UTC)
            found[name] = utc.astimezone(UTC).isoformat().replace("+00:00", "Z")
        elif isinstance(value, str | int | float):
            found[name] = str(value)
        else:
            found[name] = ",".join(value)
    return str(httpx.QueryParams(found))


def rows_body(rows: Sequence[Fields], symbol: str | None) -> bytes:
    """Return the body of a request for rows; None and NaN stand for what is missing."""
    kept = [{n: v for n, v in row.items() if v is not None and v == v} for row in rows]
    body: Fields = {"rows": kept}
    return msgspec.json.encode(body if symbol is None else {**body, "symbol": symbol})


def ticks_body(ticks: Sequence[Fields]) -> bytes:
    """Return the body of a request for ticks."""
    return msgspec.json.encode({"ticks": ticks})


def pauses(first: float = 0.1, most: float = 2.0) -> Iterator[float]:
    """Yield the seconds to wait before each attempt, more and more."""
    pause = first
    while True:
        yield pause
        pause = min(2 * pause, most)


class Events:
    """Read server-sent events line by line."""

    def __init__(self) -> None:
        self._kind = ""
        self._data: list[str] = []

    def feed(self, line: str) -> tuple[str, str] | None:
        """Take a line; return kind and data of the event that it ends, if it does."""
        if not line:
            found = (self._kind or "message", "\n".join(self._data)) if self._data else None
            self._kind, self._data = "", []
            return found
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        return None
