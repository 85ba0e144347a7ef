"""Stand in for Binance and Kraken: their messages as documented, over the faults of ``Exchange``.

Both send quotes and trades apart and number the trades alone. So a quote that their server leaves
out cannot be noticed, unless a trade is left out with it: ``skip`` withholds one of each symbol.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.exchange import Exchange, Session
from tests.journal import Entry
from tests.tickers import Contents, stamp, synthetic
from volatility.streaming.sources.binance import BINANCE
from volatility.streaming.sources.kraken import KRAKEN
from volatility.streaming.sources.venue import Venue

MILLISECOND = 1_000_000


class Apart(Exchange):
    """Send quotes and trades apart; the messages' form is the subclass's."""

    apart = True
    precision_ns = 1

    def __init__(self, contents: Contents, venue: Venue, **options: Any) -> None:
        self._quotes: dict[str, dict[str, Any]] = {}
        self._update = 400_900_217
        self._quoted: dict[int, set[str]] = {}  # symbols whose quote a session has had
        self._past: dict[str, deque[dict[str, Any]]] = {}
        self._prices: dict[str, str] = {}  # of the last trades
        super().__init__(contents, **options)
        self.venue = venue

    def _next(self, symbol: str) -> dict[str, Any]:
        self.now += self.random.randint(1_000, 50_000)
        time = self.now // self.precision_ns * self.precision_ns
        if symbol in self._quotes and self.random.random() < 0.4:
            return self._next_trade(symbol, time)
        self._update += self.random.randint(1, 9)
        entry = {**next(self._contents[symbol]), "symbol": symbol, "time": time}
        entry["update"] = self._update
        entry["price"] = self._prices.get(symbol, entry["price"])
        self._quotes[symbol] = entry
        return entry

    def _next_trade(self, symbol: str, time: int) -> dict[str, Any]:
        self._trade_ids[symbol] += 1
        entry = {
            "symbol": symbol,
            "time": time,
            "trade_id": self._trade_ids[symbol],
            "price": self._quotes[symbol][self.random.choice(["best_bid", "best_ask"])],
            "size": f"{self.random.random():.8f}",
            "side": self.random.choice(["buy", "sell"]),
        }
        self._past.setdefault(symbol, deque(maxlen=50)).append(entry)
        self._prices[symbol] = entry["price"]
        return entry

    async def skip(self, count: int = 1) -> None:  # type: ignore[override]
        """Withhold some messages at once, and a trade of each symbol after them."""
        entries = [self._next(self.random.choice(self.symbols)) for _ in range(count)]
        for symbol in {entry["symbol"] for entry in entries}:
            self.now += 1_000 + self.precision_ns
            time = self.now // self.precision_ns * self.precision_ns
            entries.append(self._next_trade(symbol, time))
        for session in self.live():
            for entry in entries:
                self._note(entry, session.number, sent=False, snapshot=False)

    async def _ticker(
        self,
        session: Session,
        entry: dict[str, Any],
        *,
        snapshot: bool,
        spoil: Callable[..., Any] | None = None,
    ) -> bytes | None:
        message = await self._send(session, self._message(entry, snapshot), spoil)
        quoted = self._quoted.setdefault(session.number, set())
        if message is not None and "trade_id" not in entry:
            quoted.add(entry["symbol"])
        useful = message is not None and entry["symbol"] in quoted
        self._note(entry, session.number, sent=useful, snapshot=snapshot)
        return message

    def _note(
        self, entry: dict[str, Any], connection: int | None, *, sent: bool, snapshot: bool
    ) -> None:
        symbol = entry["symbol"]
        if not sent and not any(known.symbol == symbol for known in self.journal):
            return  # before the first quote of all nothing is anybody's loss
        trade_id = entry.get("trade_id")
        quote = ("best_bid", "best_ask", "best_bid_quantity", "best_ask_quantity")
        names = quote if trade_id is None else ("price", "size")
        content = tuple(float(entry[name]) for name in names)
        time, number = entry["time"], self._number(entry)
        noted = Entry(symbol, time, trade_id, content, connection, sent, snapshot, number)
        self.journal.append(noted)

    def _number(self, entry: dict[str, Any]) -> int | None:
        raise NotImplementedError

    def _message(self, entry: dict[str, Any], snapshot: bool) -> dict[str, Any]:
        raise NotImplementedError


class Binance(Apart):
    """Stand in for the combined spot streams; times are milliseconds, and quotes have none."""

    precision_ns = MILLISECOND

    def __init__(self, contents: Contents | None = None, **options: Any) -> None:
        super().__init__(contents or renamed("BTC-USDT", "ETH-USDT"), BINANCE, **options)
        self._streams: dict[int, list[str]] = {}

    def _number(self, entry: dict[str, Any]) -> int | None:
        return entry.get("update")

    def _message(self, entry: dict[str, Any], _snapshot: bool) -> dict[str, Any]:
        name = entry["symbol"].replace("-", "")
        if "trade_id" not in entry:
            data = {"u": entry["update"], "s": name, "b": entry["best_bid"], "a": entry["best_ask"]}
            data |= {"B": entry["best_bid_quantity"], "A": entry["best_ask_quantity"]}
            return {"stream": f"{name.lower()}@bookTicker", "data": data}
        time = entry["time"] // MILLISECOND
        data = {"e": "trade", "E": time, "s": name, "t": entry["trade_id"], "T": time, "M": True}
        data |= {"p": entry["price"], "q": entry["size"], "m": entry["side"] == "sell"}
        return {"stream": f"{name.lower()}@trade", "data": data}

    async def _beat(self, session: Session) -> None:
        for stream in self._streams.get(session.number, []):
            if not stream.endswith("@ticker"):
                continue
            name = stream.partition("@")[0].upper()
            symbol = next((s for s in self.symbols if s.replace("-", "") == name), None)
            if symbol is None or symbol in self.unlisted:
                continue
            quote, last = self._quotes[symbol], self._trade_ids[symbol]
            data = {"e": "24hrTicker", "E": self.now // MILLISECOND, "s": name, "L": last}
            data |= {"c": quote["price"], "b": quote["best_bid"], "a": quote["best_ask"]}
            data |= {"B": quote["best_bid_quantity"], "A": quote["best_ask_quantity"]}
            sent = await self._send(session, {"stream": stream, "data": data | {"F": 0}})
            if sent is not None:
                self._quoted.setdefault(session.number, set()).add(symbol)

    async def _subscribe(self, session: Session, request: dict[str, Any]) -> None:
        if session.ended:
            return
        if self.refused_subscriptions:
            self.refused_subscriptions -= 1
            error = {"code": 2, "msg": "Invalid request: too many parameters"}
            await self._write(session, json.dumps({"error": error, "id": request["id"]}).encode())
            return
        assert request["method"] == "SUBSCRIBE"
        self._streams.setdefault(session.number, []).extend(request["params"])
        await self._send(session, {"result": None, "id": request["id"]})
        session.heartbeats = True
        for symbol in self.symbols:
            wanted = f"{symbol.replace('-', '').lower()}@bookTicker" in request["params"]
            if wanted and symbol not in self.unlisted and symbol not in session.symbols:
                session.symbols.append(symbol)

    async def shut_down(self) -> None:
        """Announce the end of the connections."""
        for session in self.live():
            event = {"e": "serverShutdown", "E": self.now // MILLISECOND}
            await self._send(session, {"stream": "", "data": event})


class Kraken(Apart):
    """Stand in for WebSocket v2; ``stamped`` tickers have a time."""

    def __init__(
        self, contents: Contents | None = None, stamped: bool = True, **options: Any
    ) -> None:
        self.stamped = stamped
        super().__init__(contents or renamed("BTC-USD", "ETH-USD"), KRAKEN, **options)

    def _number(self, _entry: dict[str, Any]) -> int | None:
        return None

    def _message(self, entry: dict[str, Any], snapshot: bool) -> dict[str, Any]:
        kind = "snapshot" if snapshot else "update"
        return (
            {"channel": "trade", "type": kind, "data": [self._trade(entry)]}
            if ("trade_id" in entry)
            else {"channel": "ticker", "type": kind, "data": [self._quote(entry)]}
        )

    def _quote(self, entry: dict[str, Any]) -> dict[str, Any]:
        data = {"symbol": entry["symbol"].replace("-", "/"), "last": float(entry["price"])}
        data |= {"bid": float(entry["best_bid"]), "ask": float(entry["best_ask"])}
        data |= {"bid_qty": float(entry["best_bid_quantity"]), "volume": 2401.16, "vwap": 67000.1}
        data |= {"ask_qty": float(entry["best_ask_quantity"]), "change": -1.0, "change_pct": -0.1}
        return data | ({"timestamp": stamp(entry["time"])} if self.stamped else {})

    def _trade(self, entry: dict[str, Any]) -> dict[str, Any]:
        data = {"symbol": entry["symbol"].replace("-", "/"), "side": entry["side"]}
        data |= {"price": float(entry["price"]), "qty": float(entry["size"]), "ord_type": "limit"}
        return data | {"trade_id": entry["trade_id"], "timestamp": stamp(entry["time"])}

    async def _beat(self, session: Session) -> None:
        await self._send(session, {"channel": "heartbeat"})

    async def beat(self) -> None:
        """Send a heartbeat."""
        for session in self.live():
            await self._beat(session)

    async def set_system(self, system: str) -> None:
        """State whether the market is open."""
        for session in self.live():
            await self._status(session, system)

    async def _status(self, session: Session, system: str) -> None:
        data = {"api_version": "v2", "connection_id": 13834774380200032777, "system": system}
        message = {"channel": "status", "type": "update", "data": [data | {"version": "2.0.0"}]}
        await self._send(session, message)

    async def _subscribe(self, session: Session, request: dict[str, Any]) -> None:
        if session.ended:
            return
        params = request["params"]
        if not session.heartbeats:
            await self._status(session, "online")
        session.heartbeats = True
        times = {"time_in": stamp(self.now), "time_out": stamp(self.now + 1_000)}
        if self.refused_subscriptions:
            self.refused_subscriptions -= 1
            error = {"error": "EService:Unavailable", "method": "subscribe", "success": False}
            await self._write(session, json.dumps(error | times).encode())
            return
        for name in params["symbol"]:
            symbol = name.replace("/", "-")
            if symbol not in self.symbols or symbol in self.unlisted:
                error = {"error": f"Currency pair not supported {name}", "symbol": name}
                error |= {"method": "subscribe", "success": False}
                await self._write(session, json.dumps(error | times).encode())
                continue
            result = {"channel": params["channel"], "snapshot": True, "symbol": name}
            answer = {"method": "subscribe", "result": result, "success": True} | times
            await self._send(session, answer)
            if params["channel"] == "trade":
                past = [self._trade(entry) for entry in self._past.get(symbol, ())]
                await self._send(session, {"channel": "trade", "type": "snapshot", "data": past})
                continue
            if symbol not in session.symbols:
                session.symbols.append(symbol)
            self.now += self.random.randint(1_000, 50_000)
            quote = {**self._quotes[symbol], "time": self.now}
            await self._ticker(session, quote, snapshot=True)


def renamed(*symbols: str) -> Contents:
    """Return the synthetic contents under other names."""
    return dict(zip(symbols, synthetic().values(), strict=True))


VENUES = {"binance": Binance, "kraken": Kraken}
