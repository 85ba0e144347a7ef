"""Turn the messages of a venue's connections into events, and detect what is missing.

The rules, which ``Venue`` chooses from:

=================  ==================================  =====================================
what               shown by                            venues
=================  ==================================  =====================================
lost message       ``sequence_num`` of a connection    Advanced Trade
                   steps by more than one
                   any message that cannot be read     Binance, Kraken
lost trade         ``trade_id`` of a product steps by  all but Advanced Trade
                   more than one; a heartbeat names a
                   trade that has not come by the next
repeated message   one of them was seen before         all
repeated quote     a snapshot equals the last tick     Advanced Trade
                   any quote equals the last tick      Kraken
                   its number is not greater           Binance
missed heartbeat   ``heartbeat_counter`` steps by      Advanced Trade
                   more than one in more than 1.5 s
                   the time steps by more than 1.5 s   Exchange
=================  ==================================  =====================================

The counter of Advanced Trade's heartbeats is the integer part of a clock that runs 0.4 ms per
second fast, so it skips one every forty minutes although nothing was missed: hence the 1.5 s. No
two recorded ticker messages have the same content. The Exchange feed may send one ticker for
several trades, although it did so in none of 97 recorded steps; a step is reported as a loss.

Binance and Kraken do not number their quotes: one that is left out cannot be noticed. Any message
of theirs shows that silent symbols are being served, and moves their clocks once a second.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from volatility.lake import Gap
from volatility.records import FUTURE, Heartbeat, Record, Tick, TickError, validate
from volatility.sources import Message
from volatility.streaming.sources.events import Arrived, Event, Rejected, SourceStatistics
from volatility.streaming.sources.products import Products
from volatility.streaming.sources.sequence import REPEATED, SequenceTracker
from volatility.streaming.sources.trades import ABSURD, MAX_LOST, Numbers
from volatility.streaming.sources.venue import Venue

logger = logging.getLogger(__name__)

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

HEARTBEAT_NS = 1_000_000_000
MISSED_AFTER_NS = 1_500_000_000
_KINDS = {"heartbeats", "heartbeat"}


class _Opening(msgspec.Struct):
    """Represent a gap whose end is not known yet."""

    start_ns: int
    reason: str
    detail: dict[str, Any]


class Feed:
    """Read one connection after another, and keep the state that must outlast a connection.

    Parameters
    ----------
    symbols : sequence of str
        Symbols to subscribe; see ``Products`` for the names under which they arrive.
    venue : Venue
    statistics : SourceStatistics
        Counts messages, duplicates and losses; the caller counts what is yielded.
    known : iterable of Tick or Heartbeat
        The last records of an earlier run, whose repetitions are recognised.

    Attributes
    ----------
    fault : tuple of str, optional
        Cause and detail, once the connection is no longer usable.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        venue: Venue,
        statistics: SourceStatistics,
        known: Iterable[Record] = (),
    ) -> None:
        self.products = Products(symbols, venue.one_book, venue.refuses_one, venue.example)
        self.venue = venue
        self._decoder = venue.decoder(symbols)
        self.statistics = statistics
        statistics.missing = self.products.missing
        self.fault: tuple[str, str] | None = None
        self._latest_ns: int | None = None  # greatest time that the exchange has stated
        self._last: dict[str, Tick] = {}
        self._numbers = Numbers()
        self._open: dict[str, _Opening] = {}
        self._reason = RESTART  # reason of the gap that the next connection ends
        self._known: dict[str, list[Record]] = {}
        self._reset(0)
        for record in known:
            self._known.setdefault(record.symbol, []).append(record)
        self._follow_names()

    def connected(self, now_ns: int, cause: str = "") -> None:
        """Begin a new connection, at a local time [ns] used when no other is known."""
        self._reset(now_ns)
        self._decoder.connected()
        self._numbers.connected()
        self.products.connected()
        if self._latest_ns is not None:
            self._begin_gap(self._reason, {"cause": cause} if cause else {})
        self._reason = RECONNECT

    def _reset(self, now_ns: int) -> None:
        self.fault = None
        self._now_ns = now_ns
        self._sequence = SequenceTracker(0)
        self._beats: dict[str, tuple[int | None, int]] = {}
        self._heard = False
        self._moved_ns: int | None = None
        self._settled = False
        self._ticked: set[str] = set()
        self._lost_since_beat = False
        self._clock_blamed = False

    @property
    def subscribed(self) -> bool:
        """Return whether the heartbeats and every ticker but those given up are subscribed."""
        return self._alive and bool(self.products.covered) and self.products.complete

    @property
    def _alive(self) -> bool:
        """Return whether what moves the clocks arrives."""
        return self._heard if self.venue.heartbeats == "traffic" else bool(self._beats)

    def settle(self) -> bool:
        """Do without the products that are not subscribed by now; False if nothing is."""
        self._settled = True
        self.products.settle(self._last)
        return self._alive

    def take(self, raw: bytes, received: int) -> list[Event]:
        """Read one message that arrived at a local time [ns]; check ``fault`` afterwards."""
        self.statistics.messages += 1
        try:
            # A name that never had a tick may turn out to be an alias.
            beating = [name for name in self.products.covered if name in self._last]
            message = self._decoder.decode(raw, received, beating)
        except TickError as error:
            if self.venue.heartbeats == "traffic":  # no number will tell what it was
                self.statistics.lost_messages += 1
                self._begin_gap(LOST_MESSAGES, {"lost": 1})
            return [Rejected(str(error), raw)]
        if message.error is not None:
            if not self.subscribed and not self._settled:
                detail = self.products.refuse(message.error or "no reason given")
                self.fault = ("unsubscribed", detail) if detail is not None else None
            return [Rejected(ERROR_MESSAGE, raw)]
        self._heard = True
        if message.ending is not None:
            self.fault = "closed", message.ending
        if message.sequence is not None:
            lost = self._sequence.take(message.sequence)
            if lost == REPEATED:
                self._repeated(message)
                return []
            if lost > MAX_LOST:
                self.fault = (
                    "untrusted",
                    f"sequence number {message.sequence} would mean {lost} lost messages",
                )
                return [Rejected(ABSURD_SEQUENCE, raw)]
            if lost:
                self._lose(lost, message.sequence)
        self._cover(message)
        events: list[Event] = [
            *self._reached(message, received),
            *self._end_gaps(message, received),
        ]
        if message.kind in _KINDS and self.venue.heartbeats != "traffic":
            events += self._beat(message)
        for record in message.records:
            events += self._record(record, message, raw)
        if self.venue.heartbeats == "traffic":
            events += self._move_clocks(message, received)
        events += [Rejected(entry.reason, entry.raw.encode()) for entry in message.rejected]
        if any(entry.reason == FUTURE for entry in message.rejected):
            self._blame_clock(message, received)
        return events

    def _blame_clock(self, message: Message, received: int) -> None:
        """Say once per connection why every message of a venue seems to come from the future."""
        if message.sent_ns is None or self._clock_blamed:
            return
        self._clock_blamed = True
        logger.error(
            "messages are rejected: the exchange's clock is %.0f s ahead of this computer's; "
            "set this computer's clock (docs/runbook.md#ticksrejected)",
            (message.sent_ns - received) / 1e9,
        )

    def _repeated(self, message: Message) -> None:
        self.statistics.duplicates += sum(isinstance(record, Tick) for record in message.records)
        latest = self._latest_ns
        if any(latest is not None and record.time > latest for record in message.records):
            # Not a repetition: a restarted counter would hide every later tick.
            self.fault = "untrusted", f"sequence number {message.sequence} was used again"

    def _lose(self, lost: int, sequence: int) -> None:
        self.statistics.lost_messages += lost
        self._lost_since_beat = True
        self._begin_gap(LOST_MESSAGES, {"lost": lost, "before": sequence})

    def _begin_gap(self, reason: str, detail: dict[str, Any]) -> None:
        start_ns = self._now_ns if self._latest_ns is None else self._latest_ns
        for symbol in self.products.names:
            opened = self._open.get(symbol)
            if opened is None:
                self._open[symbol] = _Opening(start_ns, reason, dict(detail))
            else:
                lost = opened.detail.get("lost", 0) + detail.get("lost", 0)
                opened.detail |= detail | ({"lost": lost} if lost else {})

    def _cover(self, message: Message) -> None:
        """Record whose ticker is subscribed, from the exchange's response or from a tick."""
        names = self.products.names
        if message.symbols is not None:
            detail = self.products.answer(message.symbols)
            if detail is not None:
                self.fault = "unsubscribed", detail
        for record in message.records:
            if isinstance(record, Tick):
                self.products.ticked(record.symbol)
            else:
                self.products.accept(record.symbol)
        if self.products.names != names:
            self._follow_names()

    def _follow_names(self) -> None:
        """Start to track new names, from what an earlier run knew of them."""
        names = self.products.names
        for name in names:
            if name in self._numbers:
                continue
            self._numbers.follow(name)
            known = self._known.pop(name, [])
            if known and self._latest_ns is None and self._now_ns:
                # The connection did not know yet that this was its product.
                last_ns = max(record.time for record in known)
                self._open[name] = _Opening(last_ns, RESTART, {})
            for record in known:
                self._remember(record)
                if isinstance(record, Tick):
                    self._numbers.take(record)
        for symbol in set(self._open).difference(names):
            # Its gap is that of the name under which it arrives.
            opened = self._open.pop(symbol)
            self._open.setdefault(self.products.name_of(symbol), opened)

    def _end_gaps(self, message: Message, received: int) -> list[Gap]:
        """End the gap of each symbol that this message shows to be live again."""
        if not self._open:
            return []
        alive = set(self.products.covered)
        if self.venue.heartbeats == "traffic":
            alive = {record.symbol for record in message.records}
        elif self.venue.heartbeats == "product":
            # The first ticker of a product repeats the last trade, however old it is.
            alive = {
                r.symbol
                for r in message.records
                if isinstance(r, Heartbeat) or r.symbol in self._ticked
            }
        ending = [s for s in self.products.names if s in alive and s in self._open]
        if not ending:
            return []
        stop_ns = message.sent_ns or received
        gaps = []
        for symbol in ending:
            opened = self._open.pop(symbol)
            start_ns = min(opened.start_ns, stop_ns)
            gaps.append(Gap(symbol, start_ns, stop_ns, opened.reason, opened.detail))
        return gaps

    def _beat(self, message: Message) -> list[Gap]:
        time_ns = message.sent_ns
        if time_ns is None:
            return []
        symbols = [record.symbol for record in message.records]
        beat = symbols[0] if self.venue.heartbeats == "product" and symbols else ""
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

    def _record(self, record: Record, message: Message, raw: bytes) -> list[Event]:
        if record.symbol not in self.products.names:
            return [Rejected(NOT_SUBSCRIBED, raw)]
        events: list[Event] = []
        if isinstance(record, Heartbeat):
            lost = self._numbers.name(record.symbol, message.last_trade_id, record.time)
            if lost:
                events.append(self._lost_trades(record.symbol, record.time, lost))
        else:
            self._ticked.add(record.symbol)
            lost = self._number(record, message.snapshot)
            if lost == REPEATED:
                self.statistics.duplicates += 1
                return []
            if lost == ABSURD:
                self.fault = "untrusted", f"trade {record.trade_id} skips too many to be true"
                return [Rejected(ABSURD_SEQUENCE, raw)]
            if lost:
                events.append(self._lost_trades(record.symbol, record.time, lost))
        self._remember(record, estimated=message.estimated)
        events.append(Arrived(record))
        return events

    def _number(self, tick: Tick, snapshot: bool) -> int:
        """Return how many trades were lost before this tick, ``REPEATED`` or ``ABSURD``."""
        if tick.trade_id is not None:
            return self._numbers.take(tick)
        rule = self.venue.repeated_quotes
        if rule == "number":
            return REPEATED if self._numbers.is_repeated(tick) else 0
        last = self._last.get(tick.symbol)
        if last is None or not (snapshot or rule == "content"):
            return 0
        return REPEATED if _content(tick) == _content(last) else 0

    def _reached(self, message: Message, received: int) -> list[Gap]:
        """Take the trades before a subscription: those missed belong to the gap that it ends."""
        gaps = []
        for symbol in filter(self._numbers.__contains__, message.past):
            opened = self._open.get(symbol)
            until_ns = opened.start_ns if opened else received
            lost, since_ns = self._numbers.reach(symbol, message.past[symbol], until_ns)
            self.statistics.lost_messages += lost
            if since_ns is not None and opened:  # while the last connection seemed to be whole
                opened.start_ns = min(opened.start_ns, since_ns)
            elif since_ns is not None:
                gaps.append(Gap(symbol, since_ns, received, LOST_TRADES, {"lost": lost}))
        return gaps

    def _lost_trades(self, symbol: str, time_ns: int, lost: int) -> Gap:
        self.statistics.lost_messages += lost
        start_ns = self._numbers.lost(symbol, time_ns)
        return Gap(symbol, start_ns, time_ns, LOST_TRADES, {"lost": lost})

    def _move_clocks(self, message: Message, received: int) -> list[Event]:
        """Once a second, move the clocks of the symbols that have been silent since."""
        now_ns = message.sent_ns
        if now_ns is None or now_ns - (self._moved_ns or 0) < HEARTBEAT_NS:
            return []
        served = (name for name in self.products.names if name in self._ticked)
        silent = [name for name in served if now_ns - self._last[name].time >= HEARTBEAT_NS]
        try:
            moved = [validate(Heartbeat(name, now_ns, received)) for name in silent]
        except TickError:  # an absurd time; the message itself was rejected
            return []
        self._moved_ns = now_ns
        return [Arrived(heartbeat) for heartbeat in moved]

    def _remember(self, record: Record, estimated: bool = False) -> None:
        # What was sent after a record of estimated time may have an earlier time than that.
        if not estimated:
            self._latest_ns = max(self._latest_ns or record.time, record.time)
        elif self._latest_ns is None:
            self._latest_ns = min(self._now_ns, record.time)
        if isinstance(record, Tick):
            last = self._last.get(record.symbol)
            if last is None or record.time >= last.time or self.venue.heartbeats == "traffic":
                self._last[record.symbol] = record


def _content(tick: Tick) -> tuple[float | None, ...]:
    return tick.price, tick.bid, tick.ask, tick.bid_size, tick.ask_size
