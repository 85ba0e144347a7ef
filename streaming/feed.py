"""Turn the messages of Coinbase's connections into events, and notice what did not come.

The rules, for each protocol:

=================  ==================================  =====================================
what               Advanced Trade                      Exchange
=================  ==================================  =====================================
lost message       ``sequence_num`` of a connection    ``trade_id`` of a product steps by more
                   steps by more than one: a gap of    than one, or its heartbeat names a later
                   every symbol                        trade than came by the next heartbeat
repeated message   ``sequence_num`` came before        ``trade_id`` came before
missed heartbeat   ``heartbeat_counter`` steps by      its time steps by more than 1.5 s
                   more than one in more than 1.5 s
repeated snapshot  price, quotes and sizes equal the   ``trade_id`` came before
                   symbol's last tick
=================  ==================================  =====================================

The counter of Advanced Trade's heartbeats is the whole part of a clock that runs 0.4 ms a second
fast, so it skips one every forty minutes with nothing missed: hence the 1.5 s. Two messages of
the ticker never say the same in the recordings; a snapshot that does is the last one again, with
the time of the subscription. The Exchange may send one ticker for several trades of one match
cascade, though it did for none of 97 recorded steps; such a step is then reported as a loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from streaming.coinbase import Protocol, last_trade_id, sent_ns
from streaming.events import Arrived, Event, Rejected, SourceStatistics
from streaming.sequence import REPEATED, Numbers
from volatility.coinbase import Message, decode
from volatility.ledger import Gap
from volatility.tick import Heartbeat, Record, Tick, TickError

RECONNECT, RESTART = "reconnect", "restart"
LOST_MESSAGES, LOST_TRADES, MISSED_HEARTBEATS = (
    "lost messages",
    "lost trades",
    "missed heartbeats",
)
GAP_REASONS = (RECONNECT, RESTART, LOST_MESSAGES, LOST_TRADES, MISSED_HEARTBEATS)

ERROR_MESSAGE = "the exchange sent an error"
NOT_SUBSCRIBED = "symbol was not subscribed"
ABSURD_SEQUENCE = "sequence number is absurd"

MAX_LOST = 10_000  # of one connection at once; a step beyond is no count of messages
HEARTBEAT_NS = 1_000_000_000
MISSED_AFTER_NS = 1_500_000_000

_KINDS = {"heartbeats", "heartbeat"}


class _Opening(msgspec.Struct):
    """Hold a gap whose end is not known yet."""

    start_ns: int
    reason: str
    detail: dict[str, Any]


class Feed:
    """Read one connection after the other; what must outlast a connection is kept here.

    Parameters
    ----------
    symbols : sequence of str
        That are subscribed.
    protocol : {"advanced-trade", "exchange"}
    statistics : SourceStatistics
        Counts messages, duplicates and losses; what is yielded is counted by the caller.
    known : iterable of Tick or Heartbeat
        The last records of an earlier run. They make the time since then a gap, and let a
        repetition of them be known as one.

    Attributes
    ----------
    fault : tuple of str, optional
        Cause and detail, once the connection is of no more use.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        protocol: Protocol,
        statistics: SourceStatistics,
        known: Iterable[Record] = (),
    ) -> None:
        self.symbols = tuple(dict.fromkeys(symbols))
        self.protocol = protocol
        self.statistics = statistics
        self.fault: tuple[str, str] | None = None
        self._latest_ns: int | None = None  # greatest time of a record
        self._last: dict[str, Tick] = {}
        self._trades = {symbol: Numbers() for symbol in self.symbols}
        self._named: dict[str, int] = {}  # the last trade, by the heartbeat before
        self._open: dict[str, _Opening] = {}
        self._reason = RESTART  # of the gap that the next connection ends
        self._reset(0)
        for record in known:
            if record.symbol in self._trades:
                self._remember(record)
                if isinstance(record, Tick) and record.trade_id is not None:
                    self._trades[record.symbol].take(record.trade_id)

    def connected(self, now_ns: int, cause: str = "") -> None:
        """Begin a new connection, at a local time [ns] that serves where no other is known."""
        self._reset(now_ns)
        if self._latest_ns is not None:
            self._begin_gap(self._reason, {"cause": cause} if cause else {})
        self._reason = RECONNECT

    def _reset(self, now_ns: int) -> None:
        self.fault = None
        self._now_ns = now_ns
        self._numbers = Numbers(0)
        self._beats: dict[str, tuple[int | None, int]] = {}
        self._answered: set[str] = set()
        self._covered: set[str] = set()  # their ticker is known to be subscribed
        self._ticked: set[str] = set()
        self._lost_since_beat = False

    @property
    def subscribed(self) -> bool:
        """Whether every ticker and the heartbeats are known to run on this connection."""
        return bool(self._beats) and self._covered.issuperset(self.symbols)

    def take(self, raw: bytes, received: int) -> list[Event]:
        """Read one message that arrived at a local time [ns]; look at ``fault`` afterwards."""
        self.statistics.messages += 1
        try:
            message = decode(raw, received, [s for s in self.symbols if s in self._covered])
        except TickError as error:
            return [Rejected(str(error), raw)]
        if message.error is not None:
            if not self.subscribed:
                self.fault = "unsubscribed", message.error or "no reason given"
            return [Rejected(ERROR_MESSAGE, raw)]
        if message.sequence is not None:
            lost = self._numbers.take(message.sequence)
            if lost == REPEATED:
                self._repeated(message)
                return []
            if lost > MAX_LOST:
                self.fault = "untrusted", f"sequence number {message.sequence} after {lost} others"
                return [Rejected(ABSURD_SEQUENCE, raw)]
            if lost:
                self._lose(lost, message.sequence)
        self._cover(message)
        events: list[Event] = [*self._end_gaps(message, raw, received)]
        if message.kind in _KINDS:
            events += self._beat(message, raw)
        for record in message.records:
            events += self._record(record, message.snapshot, raw)
        events += [Rejected(entry.reason, entry.raw.encode()) for entry in message.rejected]
        return events

    def _repeated(self, message: Message) -> None:
        self.statistics.duplicates += sum(isinstance(record, Tick) for record in message.records)
        latest = self._latest_ns
        if any(latest is not None and record.time > latest for record in message.records):
            # Not the same message again: numbers that begin anew would hide every later tick.
            self.fault = "untrusted", f"sequence number {message.sequence} on a later message"

    def _lose(self, lost: int, sequence: int) -> None:
        self.statistics.lost_messages += lost
        self._lost_since_beat = True
        self._begin_gap(LOST_MESSAGES, {"lost": lost, "before": sequence})

    def _begin_gap(self, reason: str, detail: dict[str, Any]) -> None:
        start_ns = self._now_ns if self._latest_ns is None else self._latest_ns
        for symbol in self.symbols:
            opened = self._open.get(symbol)
            if opened is None:
                self._open[symbol] = _Opening(start_ns, reason, dict(detail))
            else:
                lost = opened.detail.get("lost", 0) + detail.get("lost", 0)
                opened.detail |= detail | ({"lost": lost} if lost else {})

    def _cover(self, message: Message) -> None:
        """Note whose ticker is subscribed, by the exchange's answer or by a tick."""
        if message.symbols is not None:
            answered = set(message.symbols)
            if not answered >= self._answered:
                missing = ", ".join(sorted(self._answered - answered))
                self.fault = "unsubscribed", f"the exchange ended the subscription of {missing}"
            self._answered = answered
            self._covered |= answered.intersection(self.symbols)
        self._covered |= {r.symbol for r in message.records if isinstance(r, Tick)}

    def _end_gaps(self, message: Message, raw: bytes, received: int) -> list[Gap]:
        """End the gap of each symbol that this message shows to be alive again."""
        if not self._open:
            return []
        alive = self._covered
        if self.protocol == "exchange":
            # The first ticker of a product is the last trade, however long ago that was.
            alive = {
                r.symbol
                for r in message.records
                if isinstance(r, Heartbeat) or r.symbol in self._ticked
            }
        ending = [symbol for symbol in self.symbols if symbol in alive and symbol in self._open]
        if not ending:
            return []
        stop_ns = sent_ns(raw) or received
        gaps = []
        for symbol in ending:
            opened = self._open.pop(symbol)
            start_ns = min(opened.start_ns, stop_ns)
            gaps.append(Gap(symbol, start_ns, stop_ns, opened.reason, opened.detail))
        return gaps

    def _beat(self, message: Message, raw: bytes) -> list[Gap]:
        time_ns = sent_ns(raw)
        if time_ns is None:
            return []
        symbols = [record.symbol for record in message.records]
        beat = symbols[0] if self.protocol == "exchange" and symbols else ""
        before, self._beats[beat] = self._beats.get(beat), (message.heartbeat, time_ns)
        gaps: list[Gap] = []
        lost, self._lost_since_beat = self._lost_since_beat, False
        if before is not None and not lost and time_ns - before[1] >= MISSED_AFTER_NS:
            missed = round((time_ns - before[1]) / HEARTBEAT_NS) - 1
            if message.heartbeat is not None and before[0] is not None:
                missed = message.heartbeat - before[0] - 1
            if missed > 0:
                self.statistics.missed_heartbeats += missed
                detail = {"missed": missed}
                gaps += [Gap(s, before[1], time_ns, MISSED_HEARTBEATS, detail) for s in symbols]
        return gaps

    def _record(self, record: Record, snapshot: bool, raw: bytes) -> list[Event]:
        if record.symbol not in self._trades:
            return [Rejected(NOT_SUBSCRIBED, raw)]
        events: list[Event] = []
        if isinstance(record, Heartbeat):
            if self.protocol == "exchange":
                events += self._named_trade(record, raw)
        else:
            self._ticked.add(record.symbol)
            lost = self._number(record, snapshot)
            if lost == REPEATED:
                self.statistics.duplicates += 1
                return []
            if lost:
                events.append(self._lost_trades(record, lost))
        self._remember(record)
        events.append(Arrived(record))
        return events

    def _number(self, tick: Tick, snapshot: bool) -> int:
        if tick.trade_id is not None:
            return self._trades[tick.symbol].take(tick.trade_id)
        last = self._last.get(tick.symbol)
        return REPEATED if snapshot and last is not None and _content(tick) == _content(last) else 0

    def _named_trade(self, heartbeat: Heartbeat, raw: bytes) -> list[Event]:
        """Give up the trade that the heartbeat before named, if it has still not come."""
        symbol = heartbeat.symbol
        named = self._named.get(symbol)
        lost = 0 if named is None else self._trades[symbol].skip(named + 1)
        last = last_trade_id(raw)
        if last is not None:
            self._named[symbol] = last
        return [self._lost_trades(heartbeat, lost)] if lost else []

    def _lost_trades(self, record: Record, lost: int) -> Gap:
        self.statistics.lost_messages += lost
        last = self._last.get(record.symbol)
        start_ns = min(last.time if last else record.time, record.time)
        return Gap(record.symbol, start_ns, record.time, LOST_TRADES, {"lost": lost})

    def _remember(self, record: Record) -> None:
        self._latest_ns = max(self._latest_ns or record.time, record.time)
        if isinstance(record, Tick):
            last = self._last.get(record.symbol)
            if last is None or record.time >= last.time:
                self._last[record.symbol] = record


def _content(tick: Tick) -> tuple[float | None, ...]:
    return tick.price, tick.bid, tick.ask, tick.bid_size, tick.ask_size
