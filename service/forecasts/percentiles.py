"""Rank a forecast among those of its last day, in bounded memory: one a minute is kept."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

from volatility.units import DAY_NS, SECOND

EVERY_NS = 60 * SECOND
LEAST = 60  # forecasts, an hour of them


class _Day:
    def __init__(self) -> None:
        self.times: deque[tuple[int, float]] = deque()
        self.ranked: list[float] = []

    def add(self, time_ns: int, value: float) -> None:
        if self.times and time_ns <= self.times[-1][0]:
            return
        self.times.append((time_ns, value))
        insort(self.ranked, value)
        while self.times[0][0] <= time_ns - DAY_NS:
            _, old = self.times.popleft()
            del self.ranked[bisect_left(self.ranked, old)]


class Percentiles:
    """Keep a day of forecasts of each symbol and horizon."""

    def __init__(self) -> None:
        self._days: dict[tuple[str, str], _Day] = {}

    def add(self, symbol: str, horizon: str, time_ns: int, value: float) -> None:
        """Keep a forecast if its step is that of a minute."""
        if time_ns % EVERY_NS == 0:
            self._days.setdefault((symbol, horizon), _Day()).add(time_ns, value)

    def put_before(self, symbol: str, horizon: str, earlier: list[tuple[int, float]]) -> None:
        """Insert forecasts of the past, in the order of their steps, that were read later."""
        known = self._days.pop((symbol, horizon), _Day())
        day = self._days[symbol, horizon] = _Day()
        first = known.times[0][0] if known.times else earlier[-1][0] + 1 if earlier else 0
        for time_ns, value in (*(e for e in earlier if e[0] < first), *known.times):
            day.add(time_ns, value)

    def rank(self, symbol: str, horizon: str, value: float) -> float | None:
        """Return the share of the last day's forecasts that are lower [per cent]."""
        day = self._days.get((symbol, horizon))
        if day is None or len(day.ranked) < LEAST:
            return None
        return 100.0 * bisect_left(day.ranked, value) / len(day.ranked)
