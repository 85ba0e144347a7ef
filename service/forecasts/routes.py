"""Answer the forecast routes: a small ASGI application ahead of BentoML's layers.

BentoML's would end a stream after ``serving.timeout_seconds``, and take longer than the answers.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlencode

import anyio
import anyio.to_thread
import msgspec

from service.forecasts import formats, history, messages, queries, streams, warming
from service.forecasts.board import Told, state_of
from service.forecasts.center import Center
from service.forecasts.distribution import Distribution
from service.state import State
from service.wire import Error, RequestError
from volatility.lake import LakeError
from volatility.records import Prediction
from volatility.settings import Features
from volatility.streaming.log import LogError

FORECAST, STREAM, SOCKET = "/forecast", "/forecast/stream", "/forecast/ws"
HISTORY, PROBABILITY = "/forecast/history", "/probability"
PATHS = frozenset({FORECAST, STREAM, SOCKET, HISTORY, PROBABILITY})

JSON = (b"content-type", b"application/json")
READERS = 2  # threads that read the lake or the log at once
PLACE = 256  # longest Last-Event-ID

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Prediction).decode
_decode_event = msgspec.json.Decoder(messages.Event).decode


class Forecasts:
    """Represent the routes of one worker.

    Parameters
    ----------
    center : Center
    state : State
        For the rules of the serving model, and to count refusals.
    """

    def __init__(self, center: Center, state: State) -> None:
        self.center, self._state = center, state
        self._limiter: anyio.CapacityLimiter | None = None
        self._routes: dict[str, Callable[[Any, Any, Any], Awaitable[None]]] = {
            FORECAST: self._forecast,
            STREAM: self._stream,
            HISTORY: self._history,
            PROBABILITY: self._probability,
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request to one of ``PATHS``."""
        self.center.start()
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        try:
            if scope["method"] not in ("GET", "HEAD"):
                allow = (b"allow", b"GET, HEAD")
                await _respond(scope, send, 405, _encode(Error("Method Not Allowed")), JSON, allow)
                return
            if scope["path"] == SOCKET:
                raise RequestError(426, "upgrade", "this route takes WebSocket connections only")
            try:
                await self._routes[scope["path"]](scope, receive, send)
            except (LakeError, LogError) as error:
                raise RequestError(503, "unavailable", str(error)) from error
        except RequestError as error:
            self._state.on_reject(error.reason)
            await _respond(scope, send, error.status, error.body(), JSON)

    async def _forecast(self, scope: Any, _: Any, send: Any) -> None:
        query = queries.read(scope["query_string"], frozenset({"symbol", "horizon"}))
        wanted, horizons = queries.symbols(query), queries.horizons(query)
        known = self.center.board.newest
        if not wanted and not known:
            raise RequestError(503, "no_stream", self.center.board.problem or "no forecast yet")
        found = [await self._newest(symbol, horizons) for symbol in wanted or sorted(known)]
        several = b'{"forecasts":[%s]}' % b",".join(found)
        await _respond(scope, send, 200, found[0] if len(wanted) == 1 else several, JSON)

    async def _newest(self, symbol: str, horizons: tuple[str, ...]) -> bytes:
        """Return the JSON of a symbol's newest forecast."""
        told = self.center.board.newest.get(symbol)
        if told is None:
            return _encode(await self._warming(symbol))
        data = told.data
        if horizons:
            event = _decode_event(data)
            event = msgspec.structs.replace(event, horizons=_chosen(event.horizons, horizons))
            data = _encode(event)
        age_ns = _age_ns(told)
        state = state_of(age_ns).encode()
        return b'%s,"state":"%s","age_ms":%d}' % (data[:-1], state, age_ns // 1_000_000)

    async def _warming(self, symbol: str) -> messages.Warming:
        """Return how long a symbol takes to its first forecast, or raise a 404."""
        log, served = self.center.log, self._state.served
        rules = served.bundle.specification.features if served else Features()
        found = await self._in_thread(partial(warming.look, log, symbol, rules))
        if found is None and symbol in self.center.expected:
            found = warming.Warmth(0.0, rules.min_baseline_seconds)
        if found is None:
            known = ", ".join(sorted(self.center.board.newest)[:20]) or "none"
            message = f"no ticks of {symbol} arrive; there are forecasts of: {known}"
            raise RequestError(404, "unknown_symbol", message, field="symbol")
        return messages.Warming(symbol, "warming", found.seconds_left)

    async def _probability(self, scope: Any, _: Any, send: Any) -> None:
        allowed = frozenset({"symbol", "horizon", "above_bps", "below_bps"})
        query = queries.read(scope["query_string"], allowed)
        symbol, chosen = queries.symbol(query), queries.horizons(query)
        above, below = queries.level(query, "above_bps"), queries.level(query, "below_bps")
        if len(chosen) > 1:
            raise queries.wrong("horizon", "give one horizon")
        if above is None and below is None:
            raise queries.wrong("above_bps", "is missing; give above_bps, below_bps or both")
        if above is not None and below is not None and above > below:
            raise queries.wrong("above_bps", "is more than below_bps")
        told = self.center.board.newest.get(symbol)
        if told is None:
            left = (await self._warming(symbol)).seconds_left
            raise RequestError(
                409, "warming", f"{symbol} is warming: at most {left} s to its first forecast"
            )
        forecasts = _decode(told.prediction).forecasts or {}
        (name,) = _chosen(forecasts, chosen or tuple(forecasts)[:1])
        law = Distribution.of(forecasts[name])
        least = 0.0 if below is None else law.above(below)
        probability = max((1.0 if above is None else law.above(above)) - least, 0.0)
        age_ns = _age_ns(told)
        odds = messages.Odds(
            symbol,
            messages.written(told.time),
            name,
            above,
            below,
            probability,
            state_of(age_ns),
            age_ns // 1_000_000,
        )
        await _respond(scope, send, 200, _encode(odds), JSON)

    async def _stream(self, scope: Any, receive: Any, send: Any) -> None:
        symbols, place = self._asked(scope)
        if scope["method"] == "HEAD":
            await _respond(scope, send, 200, b"", *streams.EVENTS)
            return
        await streams.send_events(self.center, symbols, place, send, receive)

    async def _socket(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            symbols, place = self._asked(scope)
        except RequestError as error:
            self._state.on_reject(error.reason)
            await refuse_socket(scope, receive, send, error)
            return
        await streams.send_messages(self.center, symbols, place, send, receive)

    def _asked(self, scope: Any) -> tuple[frozenset[str], str]:
        """Return the symbols of a stream, and the place from which to resume."""
        query = queries.read(scope["query_string"], frozenset({"symbol", "last_event_id"}))
        if self.center.board.problem and not self.center.board.newest:
            raise RequestError(503, "no_stream", self.center.board.problem)
        place = query.get("last_event_id", "")
        for name, value in scope["headers"]:
            if name == b"last-event-id":
                place = value.decode("latin-1")
        if len(place) > PLACE:
            raise queries.wrong("last_event_id", "is not an id of this stream")
        return frozenset(queries.symbols(query)), place

    async def _history(self, scope: Any, _: Any, send: Any) -> None:
        allowed = frozenset({"symbol", "from", "to", "as_of", "horizon", "format", "limit"})
        query = queries.read(scope["query_string"], allowed)
        wanted, horizons = queries.period(query), queries.horizons(query)
        kind, limit = queries.kind(query), queries.page_rows(query)
        later = self.center.tail(wanted.symbol)

        def begin() -> Iterator[Any]:
            # First what the stream has: what leaves it meanwhile is in the lake.
            rest = later()
            return history.batches(self.center.lake, wanted, rest)

        if scope["method"] == "HEAD":
            named = formats.TYPES.get(kind, "application/json").encode()
            await _respond(scope, send, 200, b"", (b"content-type", named))
            return
        batches = await self._in_thread(begin)
        if kind == "json":
            page = await self._in_thread(partial(_page, batches, query, horizons, limit))
            await _respond(scope, send, 200, _encode(page), JSON)
            return
        seconds = frozenset(int(name.removesuffix("s")) for name in horizons)
        pieces = formats.written(batches, kind, seconds)
        # The first piece before the status, so that a damaged lake is an error and not half a file.
        piece = await self._in_thread(partial(next, pieces, None))
        content_type = (b"content-type", formats.TYPES[kind].encode())
        await send({"type": "http.response.start", "status": 200, "headers": [content_type]})
        while piece is not None:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            piece = await self._in_thread(partial(next, pieces, None))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        if self._limiter is None:  # made here, because it belongs to the running event loop
            self._limiter = anyio.CapacityLimiter(READERS)
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)


async def refuse_socket(scope: Any, receive: Any, send: Any, error: RequestError) -> None:
    """Refuse a WebSocket connection before it is accepted."""
    await receive()  # websocket.connect
    if "websocket.http.response" in scope.get("extensions", {}):
        headers = [JSON, (b"content-length", b"%d" % len(error.body()))]
        start = {"type": "websocket.http.response.start", "status": error.status}
        await send({**start, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": error.body()})
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": str(error)})


def _chosen(known: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
    missing = [name for name in wanted if name not in known]
    if missing or not wanted:
        there = ", ".join(known) or "none"
        message = f"no forecast for {', '.join(missing) or 'any horizon'}; available: {there}"
        raise RequestError(404, "unknown_horizon", message, field="horizon")
    return {name: known[name] for name in wanted}


def _age_ns(told: Told) -> int:
    return max(time.time_ns() - told.said_at, 0)


def _page(
    batches: Iterator[Any], query: queries.Query, horizons: tuple[str, ...], limit: int
) -> messages.Page:
    """Read at most ``limit`` rows, and one more to see whether there are more."""
    rows: list[messages.Said] = []
    for batch in batches:
        for one in history.predictions(batch.slice(0, limit + 1 - len(rows))):
            kept = {n: f for n, f in (one.forecasts or {}).items() if not horizons or n in horizons}
            if len(rows) == limit:
                following = {**query, "from": str(one.time)}
                return messages.Page(rows, urlencode(following))
            rows.append(messages.said(msgspec.structs.replace(one, forecasts=kept)))
    return messages.Page(rows, None)


async def _respond(
    scope: Any, send: Any, status: int, content: bytes, *headers: tuple[bytes, bytes]
) -> None:
    sent = [*headers, (b"content-length", b"%d" % len(content))]
    if scope["method"] == "HEAD":
        # The length of what GET would send is not known for streams.
        sent, content = (sent if content else list(headers)), b""
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": content})
