"""Keep what scoring knows of a partition: its features, and where a successor would start."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from volatility.features import FeatureEngine, FeatureRow
from volatility.units import SECOND

Key = tuple[str, int, str]  # symbol, step, version


@dataclass
class Partition:
    """Represent one partition's feature state and its progress.

    ``offsets`` lists, by symbol, (second, first offset) of the records that windows still need.
    ``short`` says that the log no longer has some of them, ``moved`` whose older ones are on
    another partition; ``first`` is the first time of each symbol [ns].
    """

    engine: FeatureEngine
    generation: str
    closed: int = -1
    emitted: set[Key] = field(default_factory=set)
    offsets: dict[str, deque[tuple[int, int]]] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)
    short: bool = False
    moved: set[str] = field(default_factory=set)
    first: dict[str, int] = field(default_factory=dict)

    def whole(self, row: FeatureRow, memory_seconds: int) -> bool:
        """Return whether a row's windows are as long as they are in the lake."""
        whole = not self.short and row.symbol not in self.moved
        return whole or row.time - self.first[row.symbol] >= memory_seconds * SECOND

    def remember(self, symbol: str, time_ns: int, offset: int, memory_seconds: int) -> None:
        """Record where a second of a symbol starts; drop seconds older than the memory."""
        second = time_ns // SECOND
        self.first.setdefault(symbol, time_ns)
        known = self.offsets.setdefault(symbol, deque())
        if known and second <= known[-1][0]:
            return
        known.append((second, offset))
        # Keep one second more than the memory: a step's second started before the step.
        while known[0][0] < second - memory_seconds - 1:
            known.popleft()

    def resume(self, memory_seconds: int) -> int:
        """Return the first offset that any symbol's windows still need.

        A symbol that has been silent for longer than the memory needs nothing: its windows are
        empty whether they are replayed or not.
        """
        newest = max(known[-1][0] for known in self.offsets.values())
        return min(
            known[0][1]
            for known in self.offsets.values()
            if known[-1][0] >= newest - memory_seconds - 1
        )
