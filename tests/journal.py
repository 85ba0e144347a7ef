"""Compare what the stand-in exchange sent with what arrived."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from volatility.lake.ledger import Gap
from volatility.records.tick import Tick


@dataclass
class Entry:
    """One ticker: of which connection (None: nobody listened), and whether it was sent whole."""

    symbol: str
    time: int
    trade_id: int | None
    content: tuple[float, ...]
    connection: int | None
    sent: bool
    snapshot: bool

    @property
    def key(self) -> tuple[str, int]:
        return self.symbol, self.time if self.trade_id is None else self.trade_id


def check(
    journal: list[Entry], ticks: Iterable[Tick], gaps: Iterable[Gap], ended_by_client: set[int]
) -> Counter[str]:
    """Assert that each ticker sent arrived once, as it was sent, and each withheld is in a gap.

    Two exceptions follow from what a client can know. A snapshot that says what the symbol's
    last tick said is not another tick. And what was under way to a client that has itself ended
    the connection counts as withheld.

    Returns
    -------
    Counter
        How many entries were ``arrived``, ``withheld``, ``under way`` and ``repeated``.
    """
    ticks = list(ticks)
    arrived = Counter(_key(tick) for tick in ticks)
    contents = {_key(tick): _content(tick) for tick in ticks}
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
    known: dict[str, tuple[float, ...]] = {}
    for index, entry in enumerate(journal):
        if entry.key in arrived:
            counts["arrived"] += 1
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


def _key(tick: Tick) -> tuple[str, int]:
    return tick.symbol, tick.time if tick.trade_id is None else tick.trade_id


def _content(tick: Tick) -> tuple[float, ...]:
    sizes = (tick.size,) if tick.trade_id is not None else (tick.bid_size, tick.ask_size)
    return tick.price, tick.bid, tick.ask, *(size for size in sizes if size is not None)
