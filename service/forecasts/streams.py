"""Send the stream to one reader: as server-sent events, or over a WebSocket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec

from service.forecasts.center import Center
from service.forecasts.hub import Piece, piece_of
from service.wire import Error

TRY_AGAIN_LATER = 1013  # RFC 6455's registry: the server ends a connection that costs too much
EVENTS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the events back
]
RETRY = b"retry: 1000\n\n"
RESET = "not everything since Last-Event-ID is kept here; GET /forecast/history has the rest"


def first_pieces(center: Center, symbols: frozenset[str], place: str) -> list[Piece]:
    """Return what a reader is sent at once.

    Without a place: the newest forecast of each symbol. With one: everything since, or a message
    that says that not everything is kept, and the newest forecasts.
    """
    board = center.board
    since = board.since(place) if place else None
    if since is not None:
        piece = piece_of(since, symbols)
        return [] if piece is None else [piece]
    piece = piece_of(list(board.newest.values()), symbols) or Piece(b"", ())
    if not place:
        return [piece]
    reset = error_body(RESET)
    return [Piece(b"event: reset\ndata: %s\n\n" % reset, (reset,)), piece]


def error_body(text: str) -> bytes:
    """Return the JSON of an error."""
    return msgspec.json.encode(Error(text))


async def send_events(
    center: Center, symbols: frozenset[str], place: str, send: Any, receive: Any
) -> None:
    """Answer with server-sent events until the reader leaves or is dropped."""
    await send({"type": "http.response.start", "status": 200, "headers": list(EVENTS)})

    async def write() -> None:
        subscriber = center.hub.join(symbols)
        try:
            begun = first_pieces(center, symbols, place)
            content = RETRY + _joined(begun)
            while not subscriber.dropped:
                await _body(send, content, more=True)
                found = await subscriber.take()
                content = found[0].events if len(found) == 1 else _joined(found)
            reason = error_body(subscriber.dropped)
            await _body(send, b"event: dropped\ndata: %s\n\n" % reason, more=False)
        finally:
            center.hub.leave(subscriber)

    await _until_left(write, receive, "http.disconnect")


async def send_messages(
    center: Center, symbols: frozenset[str], place: str, send: Any, receive: Any
) -> None:
    """Send messages over a WebSocket until the reader leaves or is dropped."""
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})

    async def write() -> None:
        subscriber = center.hub.join(symbols)
        try:
            found = first_pieces(center, symbols, place)
            while not subscriber.dropped:
                for piece in found:
                    for message in piece.messages:
                        await send({"type": "websocket.send", "text": message.decode()})
                found = await subscriber.take()
            reason = subscriber.dropped
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": reason})
        finally:
            center.hub.leave(subscriber)

    await _until_left(write, receive, "websocket.disconnect")


def _joined(found: list[Piece]) -> bytes:
    return b"".join(piece.events for piece in found)


async def _body(send: Any, content: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": content, "more_body": more})


async def _until_left(write: Callable[[], Awaitable[None]], receive: Any, left: str) -> None:
    """Run a writer until it ends or its reader leaves."""

    async def listen(scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != left:
            pass
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(listen, group.cancel_scope)
        await write()
        group.cancel_scope.cancel()
