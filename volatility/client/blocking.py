"""Ask a running service, waiting for each answer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import httpx

from volatility.client import core
from volatility.client.core import ClientError, Core, Events, Moment, Progress, params
from volatility.client.history import History
from volatility.client.types import Answer, Fields, Forecast, Limits, Odds, Page, Warming


class Client:
    """Ask a running service; use as a context manager.

    Every method raises ``ClientError`` if the request fails. A request whose connection fails, or
    that the service is too busy for, is repeated.

    Parameters
    ----------
    url : str
        For example ``http://localhost:3000``.
    key : str
        API key; empty to send none.
    timeout_seconds : float
        For the answer to a request.
    transport : httpx.BaseTransport, optional
        Transport to use instead of the network.
    """

    def __init__(
        self,
        url: str = "http://localhost:3000",
        key: str = "",
        *,
        timeout_seconds: float = core.TIMEOUT_SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._core = Core(url.rstrip("/"), key)
        self._client = httpx.Client(
            base_url=self._core.url,
            headers=self._core.headers(),
            timeout=timeout_seconds,
            transport=transport,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def latest(self, symbol: str, horizons: Sequence[str] = ()) -> Forecast | Warming:
        """Return the newest forecast of a symbol, or how long it takes to its first."""
        query = params(symbol=symbol, horizon=horizons)
        return self._core.newest(self._get(f"/forecast?{query}"))

    def latest_of(
        self, symbols: Sequence[str] = (), horizons: Sequence[str] = ()
    ) -> list[Forecast | Warming]:
        """Return the newest forecasts of several symbols, by default of all."""
        if len(symbols) == 1:
            return [self.latest(symbols[0], horizons)]
        query = params(symbol=symbols, horizon=horizons)
        return self._core.several(self._get(f"/forecast?{query}"))

    def probability(
        self,
        symbol: str,
        *,
        above_bps: float | None = None,
        below_bps: float | None = None,
        horizon: str | None = None,
    ) -> Odds:
        """Return the probability that volatility is above or below a level, or between two."""
        query = params(symbol=symbol, above_bps=above_bps, below_bps=below_bps, horizon=horizon)
        return self._core.read(self._get(f"/probability?{query}"), Odds)

    def stream(
        self,
        symbols: Sequence[str] = (),
        *,
        after: str = "",
        patience_seconds: float = core.PATIENCE_SECONDS,
    ) -> Iterator[Forecast]:
        """Yield each new forecast, the newest first; continue without a hole after a cut.

        Parameters
        ----------
        symbols : sequence of str
            By default all.
        after : str
            ``id`` of a forecast: continue after it.
        patience_seconds : float
            How long to try to reach the service again before giving up.
        """
        progress, waits = Progress(symbols, after), core.pauses()
        reached = time.monotonic()
        while True:
            try:
                for forecast in self._events(progress):
                    reached, waits = time.monotonic(), core.pauses()
                    yield forecast
            except ClientError as error:
                lasting = error.status is not None and error.status not in core.BUSY
                if lasting or time.monotonic() - reached > patience_seconds:
                    raise
            time.sleep(next(waits))

    def history(
        self,
        symbol: str,
        start: Moment | None = None,
        stop: Moment | None = None,
        *,
        as_of: Moment | None = None,
        horizons: Sequence[str] = (),
    ) -> History:
        """Return forecasts of the past as they were said, by default those of the last hour.

        Parameters
        ----------
        symbol : str
        start, stop : int, str or datetime, optional
            Steps from ``start`` on and before ``stop``: nanoseconds since the epoch, ISO 8601, or
            a datetime.
        as_of : int, str or datetime, optional
            Leave out what was said later.
        horizons : sequence of str
            By default all.
        """
        bounds = {"from": start, "to": stop, "as_of": as_of}
        query = params(symbol=symbol, **bounds, horizon=horizons, format="arrow")
        response = self._get(f"/forecast/history?{query}")
        if response.status_code != httpx.codes.OK:
            raise self._core.refused(response)
        return History(response.content)

    def predict(
        self, rows: Sequence[Fields], symbol: str | None = None, *, explain: bool = False
    ) -> Answer:
        """Forecast feature rows of one symbol."""
        route = "/predict?explain=true" if explain else "/predict"
        return self.post(route, core.rows_body(rows, symbol))

    def predict_ticks(self, ticks: Sequence[Fields], *, explain: bool = False) -> Answer:
        """Forecast from the ticks and heartbeats of one symbol, in order of arrival."""
        route = "/predict/ticks?explain=true" if explain else "/predict/ticks"
        return self.post(route, core.ticks_body(ticks))

    def limits(self) -> Limits:
        """Return the maximum size of a request."""
        return self._core.limits(self._get("/docs.json"))

    def post(self, route: str, body: bytes) -> Answer:
        """Send rows to ``/predict`` or ticks to ``/predict/ticks``."""
        response = self._request("POST", route, body)
        for _ in range(core.BUSY_SECONDS):
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                break
            time.sleep(1.0)
            response = self._request("POST", route, body)
        return self._core.read(response, Answer)

    def _get(self, route: str) -> httpx.Response:
        waits = core.pauses()
        response = self._request("GET", route)
        for _ in range(core.RETRIES):
            if response.status_code not in core.BUSY:
                break
            time.sleep(next(waits))
            response = self._request("GET", route)
        return response

    def _request(self, method: str, route: str, body: bytes | None = None) -> httpx.Response:
        waits = core.pauses()
        for attempt in range(core.RETRIES + 1):
            try:
                return self._client.request(method, route, content=body)
            except httpx.TimeoutException as error:
                raise self._core.failed(error) from error
            except httpx.HTTPError as error:
                if attempt == core.RETRIES:
                    raise self._core.failed(error) from error
            time.sleep(next(waits))
        raise AssertionError("unreachable")

    def _events(self, progress: Progress) -> Iterator[Forecast]:
        """Yield the new forecasts of one connection."""
        timeout = httpx.Timeout(core.TIMEOUT_SECONDS, read=core.SILENCE_SECONDS)
        route, headers = f"/forecast/stream?{progress.query()}", progress.headers()
        try:
            with self._client.stream("GET", route, headers=headers, timeout=timeout) as found:
                if found.status_code != httpx.codes.OK:
                    found.read()
                    raise self._core.refused(found)
                events = Events()
                for line in found.iter_lines():
                    kind, data = events.feed(line) or ("", "")
                    if kind == "reset":
                        for forecast in self._missed(progress):
                            yield forecast
                    elif kind == "message":
                        forecast = self._core.event(data)
                        if progress.is_new(forecast):
                            yield forecast
        except httpx.HTTPError as error:
            raise self._core.failed(error) from error

    def _missed(self, progress: Progress) -> Iterator[Forecast]:
        """Yield from the history what the stream does not have any more."""
        for first in progress.missed():
            query: str | None = first
            while query:
                page = self._core.read(self._get(f"/forecast/history?{query}"), Page)
                for forecast in page.rows:
                    if progress.is_new(forecast):
                        yield forecast
                query = page.next
