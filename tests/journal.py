"""Compare what the stand-in exchange sent with what arrived."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from volatility.lake.ledger import Gap
from volatility.records.tick import Tick

Key = tuple[str, str, int]


@dataclass
class Entry:
    """One ticker: of which connection (None: nobody listened), and whether it was sent whole."""

    symbol: str
    time: int
    trade_id: int | None
    content: tuple[float | None, ...]
    connection: int | None
    sent: bool
    snapshot: bool
    sequence: int | None = None

    @property
    def key(self) -> Key:
        if self.sequence is not None:
            return self.symbol, "quote", self.sequence
        return self.symbol, "", self.time if self.trade_id is None else self.trade_id


def check(
    journal: list[Entry],
    ticks: Iterable[Tick],
    gaps: Iterable[Gap],
    ended_by_client: set[int],
    apart: bool = False,
) -> Counter[str]:
    """Assert that each ticker sent arrived once, as it was sent, and each withheld is in a gap.

    Two exceptions follow from what a client can know. A snapshot that says what the symbol's
    last tick said is not another tick. And what was under way to a client that has itself ended
    the connection counts as withheld. Where quotes and trades are sent ``apart``, each is compared
    in what its own message says.

    Returns
    -------
    Counter
        How many entries were ``arrived``, ``withheld``, ``under way`` and ``repeated``.
    """
    ticks = list(ticks)
    arrived = Counter(key_of(tick, apart) for tick in ticks)
    contents = {key_of(tick, apart): _content(tick, apart) for tick in ticks}
    last = {e.connection: i for i, e in enumerate(journal) if e.sent and e.key in arrived}
    spans = defaultdict(list)
    for gap in gaps:
        spans[gap.symbol].append((gap.start_ns, gap.stop_ns))
    told = {entry.key: entry for entry in journal if entry.sent}
    wrong = [f"{key} arrived {count} times" for key, count in arrived.items() if count > 1]
    wrong += [f"{key} was never sent" for key in arrived if key not in told]
    wrong += [
        f"{key} says {contents[key]}, not {entry.content}"
        for key, entry in told.items()
        if key in contents and contents[key] != entry.content
    ]
    counts: Counter[str] = Counter()
    known: dict[str, tuple[float | None, ...]] = {}
    for index, entry in enumerate(journal):
        if entry.key in arrived:
            counts["arrived"] += 1
            if not apart or entry.trade_id is None:
                known[entry.symbol] = entry.content
        elif entry.sent and entry.snapshot and known.get(entry.symbol) == entry.content:
            counts["repeated"] += 1
        else:
            under_way = entry.connection in ended_by_client and index > last.get(
                entry.connection, -1
            )
            counts["under way" if entry.sent else "withheld"] += 1
            if entry.sent and not under_way:
                wrong.append(f"lost: {entry}")
            elif not any(start <= entry.time <= stop for start, stop in spans[entry.symbol]):
                wrong.append(f"in no gap: {entry}")
    assert not wrong, "\n".join([f"{len(wrong)} wrong", *wrong[:10]])
    return counts


def key_of(tick: Tick, apart: bool = False) -> Key:
    """Return what identifies a tick in the journal."""
    if apart and tick.sequence is not None:
        return tick.symbol, "quote", tick.sequence
    return tick.symbol, "", tick.time if tick.trade_id is None else tick.trade_id


def _content(tick: Tick, apart: bool) -> tuple[float | None, ...]:
    if apart:
        quote = (tick.bid, tick.ask, tick.bid_size, tick.ask_size)
        return quote if tick.trade_id is None else (tick.price, tick.size)
    sizes = (tick.size,) if tick.trade_id is not None else (tick.bid_size, tick.ask_size)
    return tick.price, tick.bid, tick.ask, *(size for size in sizes if size is not None)
