"""Stand in for Coinbase: a WebSocket server of both protocols that fails on command.

It tells a market in the recorded messages' own words, a quarter of a second each few milliseconds,
and keeps a journal of every ticker: sent, or withheld. All happens in one task, as on the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Any, Self

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.journal import Entry
from tests.tickers import Contents, nanoseconds, stamp
from volatility.streaming.sources.coinbase import PROTOCOLS
from volatility.units import SECOND

START_NS = 1_704_067_200_000_000_000  # before any clock that a test may run by


@dataclass
class Session:
    """One connection of a client."""

    number: int
    socket: ServerConnection
    symbols: list[str] = field(default_factory=list)
    answer: list[str] = field(default_factory=list)  # aliases that were asked for
    heartbeats: bool = False
    sequence: int = 0
    withhold: int = 0  # messages to come that are numbered and not sent
    silent: bool = False
    ended: bool = False
    ended_by_client: bool = False


class Exchange:
    """Serve on a free port of the loopback.

    Parameters
    ----------
    contents : dict of str to list of dict
        From ``recorded`` or ``synthetic``; told in turn, over and over.
    protocol : {"advanced-trade", "exchange"}
    tick_seconds, step_ns : float, int
        Real time and the exchange's time between two tickers.
    """

    apart = False  # whether quotes and trades are messages of their own

    def __init__(
        self,
        contents: Contents,
        protocol: str = "advanced-trade",
        tick_seconds: float = 0.002,
        step_ns: int = SECOND // 4,
        seed: int = 0,
    ) -> None:
        self.protocol, self.venue = protocol, PROTOCOLS[protocol]
        self.tick_seconds, self.step_ns = tick_seconds, step_ns
        self.symbols = sorted(contents)
        self.random = random.Random(seed)
        self.now = START_NS
        self.journal: list[Entry] = []
        self.sessions: list[Session] = []
        self.refusals = 0
        self.refused = 0
        self.refused_subscriptions = 0
        self.refuses_strangers = ""  # a subscription with an unknown product: "named", "unnamed"
        self.unlisted: set[str] = set()
        self.aliases: dict[str, str] = {}  # asked as -> told as
        self.answers_as_asked = False
        self.counter = 41_691
        self.paused = False
        self._beaten = self.now // SECOND
        self._contents = {symbol: cycle(entries) for symbol, entries in contents.items()}
        self._last: dict[str, dict[str, Any]] = {}
        self._trade_ids = dict.fromkeys(self.symbols, 1_000)
        self._due: deque[tuple[Callable[[], Any], asyncio.Future[None]]] = deque()
        for symbol in self.symbols:
            self._next(symbol)

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._handle,
            "127.0.0.1",
            0,
            process_request=self._admit,
            ping_interval=None,
            close_timeout=1,
        )
        self._market = asyncio.ensure_future(self._run())
        port = next(iter(self._server.sockets)).getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()  # its handlers wait for the market to run their commands
        self._market.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._market

    def clock(self) -> int:
        """Return the exchange's time [ns]."""
        return self.now

    async def do(self, command: Callable[[], Any]) -> None:
        """Have the market's task run a command, one of the methods below, between two messages."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._due.append((command, done))
        await done

    async def drop(self) -> None:
        """Close the connections in good form."""
        for session in self.live():
            session.ended = True
            await session.socket.close(1001, "maintenance")

    def fall_silent(self, deaf: bool = False) -> None:
        """Send nothing more, and keep the connections open; do not even read if deaf."""
        for session in self.live():
            session.silent = True
            if deaf:
                session.socket.transport.pause_reading()

    def skip(self, count: int = 1) -> None:
        """Withhold the next messages, heartbeats too; their numbers are used up."""
        for session in self.live():
            session.withhold += count

    async def repeat(self) -> None:
        """Send a ticker twice."""
        for session in self.live():
            message = await self._tick(session, self.random.choice(session.symbols))
            if message is not None:
                await self._write(session, message)

    async def garbage(self, text: bytes) -> None:
        """Send what is no message."""
        for session in self.live():
            await self._write(session, text)

    async def damage(self) -> None:
        """Send the first half of a ticker's text as a whole message."""
        for session in self.live():
            await self._tick(session, self.random.choice(session.symbols), spoil=self._half_text)

    async def half_frame(self, reset: bool = False) -> None:
        """Break the TCP connection off amid a ticker's frame, by FIN or by RST."""
        for session in self.live():
            spoil = self._half_frame_reset if reset else self._half_frame
            await self._tick(session, self.random.choice(session.symbols), spoil=spoil)

    async def error(self, close: bool) -> None:
        """Send an error message, and close the connection or not."""
        for session in self.live():
            message = {"type": "error", "message": "rate limit exceeded"}
            await self._write(session, json.dumps(message).encode())
            if close:
                session.ended = True
                await session.socket.close(1011)

    async def refuse(self, count: int) -> None:
        """Drop the connections and answer the next attempts by HTTP 429."""
        self.refusals += count
        await self.drop()

    def pause(self) -> None:
        """Stop the market; commands still work."""
        self.paused = True

    @property
    def ended_by_client(self) -> set[int]:
        """Numbers of the connections that the client has ended."""
        return {session.number for session in self.sessions if session.ended_by_client}

    def live(self) -> list[Session]:
        """List the connections that are subscribed and being told the market."""
        return [s for s in self.sessions if s.symbols and not s.ended and not s.silent]

    def _admit(self, connection: ServerConnection, _request: Any) -> Any:
        if self.refusals:
            self.refusals -= 1
            self.refused += 1
            return connection.respond(429, "too many connections\n")
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        session = Session(len(self.sessions), connection)
        self.sessions.append(session)
        try:
            async with asyncio.timeout(5):  # as the exchange does
                first = await connection.recv()
            await self.do(partial(self._subscribe, session, json.loads(first)))
            async for request in connection:
                await self.do(partial(self._subscribe, session, json.loads(request)))
        except (ConnectionClosed, TimeoutError):
            pass
        session.ended_by_client |= not session.ended
        session.ended = True

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.tick_seconds)
            while self._due:
                command, done = self._due.popleft()
                result = command()
                if asyncio.iscoroutine(result):
                    await result
                done.set_result(None)
            if self.paused:
                continue
            self.now += self.random.randint(self.step_ns // 2, self.step_ns * 3 // 2)
            while self._beaten < self.now // SECOND:
                self._beaten += 1
                self.counter += 1
                for session in self.sessions:
                    if session.heartbeats and not session.ended:
                        await self._beat(session)
            await self._publish(self.random.choice(self.symbols))

    def _next(self, symbol: str) -> dict[str, Any]:
        """Open a product for trading."""
        self.now += self.random.randint(1_000, 50_000)  # no two messages share a time
        self._trade_ids[symbol] += 1
        entry = dict(next(self._contents[symbol]), product_id=symbol)
        if self.protocol == "exchange":
            sequence = 7 * self._trade_ids[symbol]  # the book's: it steps by any number
            entry |= {"trade_id": self._trade_ids[symbol], "sequence": sequence}
            entry["time"] = stamp(self.now)
        self._last[symbol] = entry
        return entry

    async def _publish(self, symbol: str) -> None:
        entry = self._next(symbol)
        listening = [s for s in self.sessions if symbol in s.symbols and not s.ended]
        for session in listening:
            await self._ticker(session, entry, snapshot=False)
        if not listening and self.journal:  # before the first client nothing is anybody's loss
            self._note(entry, None, sent=False, snapshot=False)

    async def _tick(
        self, session: Session, symbol: str, spoil: Callable[..., Any] | None = None
    ) -> bytes | None:
        return await self._ticker(session, self._next(symbol), snapshot=False, spoil=spoil)

    async def _ticker(
        self,
        session: Session,
        entry: dict[str, Any],
        *,
        snapshot: bool,
        spoil: Callable[..., Any] | None = None,
    ) -> bytes | None:
        """Send a ticker and note what became of it; returns the message if it was sent."""
        if snapshot:
            self.now += self.random.randint(1_000, 50_000)
        body = entry
        if self.protocol != "exchange":
            kind = "snapshot" if snapshot else "update"
            body = {
                "channel": "ticker",
                "timestamp": stamp(self.now),
                "sequence_num": 0,
                "events": [{"type": kind, "tickers": [entry]}],
            }
        message = await self._send(session, body, spoil)
        self._note(entry, session.number, sent=message is not None, snapshot=snapshot)
        return message

    def _note(
        self, entry: dict[str, Any], connection: int | None, *, sent: bool, snapshot: bool
    ) -> None:
        quote = tuple(float(entry[name]) for name in ("price", "best_bid", "best_ask"))
        sizes = ("best_bid_quantity", "best_ask_quantity", "last_size")
        content = (*quote, *(float(entry[name]) for name in sizes if name in entry))
        time, trade_id = self.now, None
        if self.protocol == "exchange":
            time, trade_id = nanoseconds(entry["time"]), entry["trade_id"]
        symbol = entry["product_id"]
        self.journal.append(Entry(symbol, time, trade_id, content, connection, sent, snapshot))

    async def _beat(self, session: Session) -> None:
        if self.protocol == "exchange":
            for symbol in session.symbols:
                last = self._last[symbol]
                fields = {"product_id": symbol, "time": stamp(self.now)}
                ids = {"last_trade_id": last["trade_id"], "sequence": last["sequence"]}
                await self._send(session, {"type": "heartbeat", **ids, **fields})
            return
        uptime = self.counter + 0.26
        text = (
            stamp(self.now - 2_000_000)
            .replace("T", " ")
            .replace("Z", f" +0000 UTC m=+{uptime:.9f}")
        )
        event = {"current_time": text, "heartbeat_counter": self.counter}
        await self._send(session, self._advanced("heartbeats", event, self.now))

    async def _subscribe(self, session: Session, request: dict[str, Any]) -> None:
        if session.ended:
            return
        if self.refused_subscriptions:
            self.refused_subscriptions -= 1
            await self._write(session, b'{"type":"error","message":"Failed to subscribe"}')
            return
        asked = list(request.get("product_ids", []))
        named = [self.aliases.get(symbol, symbol) for symbol in asked]
        listed = [symbol for symbol in self.symbols if symbol not in self.unlisted]
        strangers = [symbol for symbol in named if symbol not in listed]
        if strangers and self.refuses_strangers:
            reason = f"{strangers[0]} is not a valid product"
            named_reason = {"reason": reason} if self.refuses_strangers == "named" else {}
            error = {"type": "error", "message": "Failed to subscribe", **named_reason}
            await self._write(session, json.dumps(error).encode())
            return
        products = list(dict.fromkeys(symbol for symbol in named if symbol in listed))
        if self.protocol == "exchange":
            names = request["channels"]
            together = list(dict.fromkeys([*session.symbols, *products]))
            channels = [{"name": name, "product_ids": together} for name in names]
            await self._send(session, {"type": "subscriptions", "channels": channels})
            session.heartbeats = "heartbeat" in names
        elif request["channel"] == "heartbeats":
            session.heartbeats = True
        if products:
            session.symbols += [s for s in products if s not in session.symbols]
            for symbol in products:
                await self._ticker(session, self._last[symbol], snapshot=True)
        if self.protocol != "exchange":
            session.answer += [symbol for symbol in asked if symbol in self.aliases]
            told = session.symbols
            if self.answers_as_asked:
                told = list(dict.fromkeys([*session.symbols, *session.answer]))
            answer: dict[str, list[str]] = {"ticker": told}
            if session.heartbeats:
                answer["heartbeats"] = ["heartbeats"]
            event = {"subscriptions": answer}
            await self._send(session, self._advanced("subscriptions", event, self.now))

    def _advanced(self, channel: str, event: dict[str, Any], time: int) -> dict[str, Any]:
        return {"channel": channel, "timestamp": stamp(time), "sequence_num": 0, "events": [event]}

    async def _send(
        self, session: Session, body: dict[str, Any], spoil: Callable[..., Any] | None = None
    ) -> bytes | None:
        """Number and write a message; None when it is not sent whole."""
        if "sequence_num" in body:
            body["sequence_num"] = session.sequence
            session.sequence += 1
        message = json.dumps(body).encode()
        if session.silent or session.ended:
            return None
        if session.withhold:
            session.withhold -= 1
            return None
        if spoil is not None:
            await spoil(session, message)
            return None
        return message if await self._write(session, message) else None

    async def _write(self, session: Session, message: bytes) -> bool:
        try:
            await session.socket.send(message, text=True)
        except ConnectionClosed:
            session.ended_by_client |= not session.ended
            session.ended = True
            return False
        return True

    async def _half_text(self, session: Session, message: bytes) -> None:
        await self._write(session, message[: len(message) // 2])

    async def _half_frame_reset(self, session: Session, message: bytes) -> None:
        await self._half_frame(session, message, reset=True)

    async def _half_frame(self, session: Session, message: bytes, reset: bool = False) -> None:
        transport = session.socket.transport
        transport.write(
            b"\x81\x7e" + struct.pack("!H", len(message)) + message[: len(message) // 2]
        )
        assert not transport.get_write_buffer_size(), "what is not on the wire would be lost"
        session.ended = True
        if reset:
            handle = transport.get_extra_info("socket")
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
