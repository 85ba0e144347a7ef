"""Follow the numbers of each product's trades and quotes over all connections.

A venue numbers the trades of a product without a hole. A heartbeat may name the newest one, and so
may the answer to a subscription.

>>> trades = Numbers()
>>> trades.follow("BTC-USD")
>>> ticks = [Tick("BTC-USD", 10**18 + n, 1.0, 1.0, 1.0, trade_id=n) for n in (7, 8, 8, 11)]
>>> [trades.take(tick) for tick in ticks]
[0, 0, -1, 2]
"""

from __future__ import annotations

from volatility.records import Tick
from volatility.streaming.sources.sequence import REPEATED, SequenceTracker

ABSURD = -2
MAX_LOST = 10_000  # at once, while connected; a larger step is not a plausible count


class Numbers:
    """Detect lost and repeated trades, and repeated quotes where the venue numbers them."""

    def __init__(self) -> None:
        self._trackers: dict[str, SequenceTracker] = {}
        self._named: dict[str, tuple[int, int]] = {}  # by the last heartbeat, and when
        self._whole_ns: dict[str, int] = {}
        self._latest_ns: dict[str, int] = {}
        self.connected()

    def connected(self) -> None:
        """Begin a new connection: whatever was missed before it may be any number of trades."""
        self._numbered: set[str] = set()
        self._quotes: dict[str, int] = {}

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._trackers

    def follow(self, symbol: str) -> None:
        """Begin with a product; any number may come first."""
        self._trackers[symbol] = SequenceTracker()

    def take(self, trade: Tick) -> int:
        """Return how many trades were lost before this one, ``REPEATED`` or ``ABSURD``."""
        symbol, number = trade.symbol, trade.trade_id
        if number is None:
            return 0
        tracker, latest_ns = self._trackers[symbol], self._latest_ns.get(symbol)
        expected = tracker.following
        if symbol in self._numbered and expected is not None and number - expected > MAX_LOST:
            return ABSURD
        lost = tracker.take(number)
        if lost == REPEATED:
            if latest_ns is None or trade.time <= latest_ns:
                return REPEATED
            # Not a repetition: a restarted counter would hide every later trade.
            self._trackers[symbol] = SequenceTracker(number + 1)
            lost = 0
        self._numbered.add(symbol)
        self._latest_ns[symbol] = max(trade.time, latest_ns or trade.time)
        if lost == 0:
            self._complete(symbol, trade.time)
        return lost

    def is_repeated(self, quote: Tick) -> bool:
        """Return whether the number of a quote was reached before on this connection."""
        before, number = self._quotes.get(quote.symbol), quote.sequence
        if number is None:
            return False
        if before is not None and number <= before:
            return True
        self._quotes[quote.symbol] = number
        return False

    def name(self, symbol: str, number: int | None, time_ns: int) -> int:
        """Take a heartbeat; return how many trades named by the previous one have not come."""
        named = self._named.get(symbol)
        lost = 0 if named is None else self._trackers[symbol].skip(named[0] + 1)
        if named is not None and lost == 0:
            self._complete(symbol, named[1])
        if number is not None:
            self._named[symbol] = number, time_ns
        return lost

    def reach(self, symbol: str, past: dict[int, int], until_ns: int) -> tuple[int, int | None]:
        """Take the newest trades before a subscription: number to time [ns].

        Returns how many were missed, and, where some may have been missed before ``until_ns``,
        since when [ns].
        """
        tracker, newest = self._trackers[symbol], max(past)
        missed = [past[number] for number in past if number >= (tracker.following or 0)]
        if tracker.following is None:
            tracker.following = newest + 1
            return 0, None
        beyond = min(past) > tracker.following
        lost = tracker.skip(newest + 1)
        if not lost:
            return 0, None
        since_ns = self.lost(symbol, max(past.values()))
        return lost, since_ns if beyond or min(missed) <= until_ns else None

    def lost(self, symbol: str, time_ns: int) -> int:
        """Return since when [ns] trades are missing that were noticed at a time [ns]."""
        start_ns = min(self._whole_ns.get(symbol, time_ns), time_ns)
        self._complete(symbol, time_ns)
        return start_ns

    def _complete(self, symbol: str, time_ns: int) -> None:
        """Note that no trade until then is missing, or is going to be missed again."""
        self._whole_ns[symbol] = max(time_ns, self._whole_ns.get(symbol, time_ns))
