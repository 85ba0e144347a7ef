"""Fill the lake with past trades of Coinbase's public REST interface.

Trades carry no quotes, so they are no ticks: they go to ``<lake>/trades``, a lake of their own
schema that nothing which reads ticks can see (``docs/adr/0006-backfill-without-quotes.md``).

A product numbers its trades upwards by one. Asked for what is older than ``after=n + 1000``, the
newest first, one page therefore holds every trade from n on: so the range is walked upwards, and
the number of a trade is its offset in the lake. A topic ``coinbase.<symbol>.<number>`` is held
from that number through its last offset; what is held is never asked for again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from streaming.trades import PAGE_TRADES, BackfillError, Trade, Trades
from volatility.coinbase import parse_time
from volatility.lake import Lake
from volatility.parts import parse_name
from volatility.tick import EARLIEST_NS, HIGHEST_PRICE, LATEST_NS, LOWEST_PRICE, TickError

PART_PAGES = 50  # 6 s of work, which is what a kill may cost

TRADE_SCHEMA = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("ns", tz="UTC"), nullable=False),
        pa.field("price", pa.float64(), nullable=False),
        pa.field("size", pa.float64(), nullable=False),
        pa.field("side", pa.string(), nullable=False),
        pa.field("trade_id", pa.int64(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
    ]
)

_TAKER = {"buy": "sell", "sell": "buy"}  # Coinbase tells the maker's side, a tick the taker's

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backfilled:
    """Say what a backfill did: trades written, and those that broke a rule and were left out."""

    written: int
    rejected: int


def backfill(
    trades: Trades, lake: Path, since_ns: int, until_ns: int, *, progress: bool = True
) -> Backfilled:
    """Write the trades of ``since_ns <= time < until_ns`` that the lake lacks.

    Parameters
    ----------
    trades : Trades
        Where to ask.
    lake : Path
        The trades go to its folder ``trades``.
    since_ns, until_ns : int
        Nanoseconds since the epoch. The bounds are found in the order of the trades' numbers,
        in which times may step back by milliseconds.
    progress : bool
        Show a bar, if this is a terminal.

    Raises
    ------
    BackfillError
        When the range is empty, or Coinbase does not give the trades. What was written stays.
    LakeError
        When the lake cannot be written.
    """
    if since_ns >= until_ns:
        raise BackfillError("--since is not before --until")
    start, stop = first_since(trades, since_ns), first_since(trades, until_ns)
    target = Lake(lake / "trades", TRADE_SCHEMA)
    holes = missing(_held(target, trades.symbol), start, stop)
    total = sum(upper - lower for _, lower, upper in holes)
    written = rejected = 0
    with tqdm(total=total, unit=" trades", disable=None if progress else True) as bar:
        for begin, lower, upper in holes:
            topic = f"{_prefix(trades.symbol)}{begin}"
            for first, last, page in _pages(trades, lower, upper):
                table = to_table(page, trades.symbol)
                with target.stage(topic, 0, through=last - 1) as stage:
                    stage.append(table)
                written += table.num_rows
                rejected += len(page) - table.num_rows
                bar.update(last - first)
    return Backfilled(written, rejected)


def parse_bound(option: str, text: str) -> int:
    """Read a date or time in ISO 8601, UTC where it names no zone, as nanoseconds.

    >>> parse_bound("--since", "2026-04-04T00:00")
    1775260800000000000
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BackfillError(f"{option} {text!r}: write it as 2026-04-04T00:00") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1_000


def first_since(trades: Trades, time_ns: int) -> int:
    """Find, by bisection, the number of the first trade at or after a time.

    One past the newest where there is none: about 30 requests.
    """
    newest = trades.older(limit=1)
    if not newest:
        raise BackfillError(f"{trades.symbol} has no trades")
    low, high = 0, newest[-1].trade_id + 1
    if parse_time(newest[-1].time) < time_ns:
        return high
    while low < high:  # every trade below `low` is earlier, that at `high` is not
        middle = (low + high) // 2
        found = trades.older(after=middle + 1, limit=1)
        if found and parse_time(found[-1].time) >= time_ns:
            high = found[-1].trade_id
        else:
            low = middle + 1
    return high


def missing(held: Sequence[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int, int]]:
    """Say which numbers of ``start <= number < stop`` are not held, and who is to hold them.

    Parameters
    ----------
    held : sequence of (int, int)
        First number and one past the last of each topic.

    Returns
    -------
    list of (int, int, int)
        Number in the topic's name, first number to ask for and one past the last.

    >>> missing([(10, 20), (30, 40)], 5, 50)
    [(5, 5, 10), (10, 20, 30), (30, 40, 50)]
    """
    holes = []
    begin = reached = start
    for first, end in sorted(held):
        if end < reached or first >= stop:
            continue
        if first > reached:
            holes.append((begin, reached, first))
        if end >= reached:
            begin, reached = first, end
    if reached < stop:
        holes.append((begin, reached, stop))
    return holes


def to_table(trades: Sequence[Trade], symbol: str) -> pa.Table:
    """Lay trades out as a table of ``TRADE_SCHEMA``; those that break a rule are left out."""
    rows = []
    for trade in trades:
        try:
            row = parse_time(trade.time), float(trade.price), float(trade.size)
        except (TickError, ValueError) as error:
            _log.warning("%s trade %d is left out: %s", symbol, trade.trade_id, error)
            continue
        if (
            EARLIEST_NS <= row[0] <= LATEST_NS
            and LOWEST_PRICE <= row[1] <= HIGHEST_PRICE
            and 0.0 <= row[2] < np.inf
            and trade.side in _TAKER
        ):
            rows.append((*row, _TAKER[trade.side], trade.trade_id))
        else:
            _log.warning("%s trade %d is left out: %s", symbol, trade.trade_id, trade)
    times, prices, sizes, sides, numbers = zip(*rows, strict=True) if rows else ((),) * 5
    columns = [
        [symbol] * len(rows), pa.array(times, pa.int64()), prices, sizes, sides, numbers,
        [0] * len(rows), numbers,
    ]  # fmt: skip
    arrays = [
        pa.array(column, None if isinstance(column, pa.Array) else field.type).cast(field.type)
        for column, field in zip(columns, TRADE_SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=TRADE_SCHEMA)


def _pages(trades: Trades, start: int, stop: int) -> Iterator[tuple[int, int, list[Trade]]]:
    """Yield (first number, one past the last, all trades in between), some pages at a time."""
    for first in range(start, stop, PART_PAGES * PAGE_TRADES):
        last = min(first + PART_PAGES * PAGE_TRADES, stop)
        gathered: list[Trade] = []
        for low in range(first, last, PAGE_TRADES):
            gathered += _between(trades, low, min(low + PAGE_TRADES, last))
        yield first, last, gathered


def _between(trades: Trades, start: int, stop: int) -> list[Trade]:
    """Give the trades of ``start <= number < stop``, however few come at a time."""
    found: dict[int, Trade] = {}
    after = stop
    while page := trades.older(after=after, limit=PAGE_TRADES):
        found |= {t.trade_id: t for t in page if start <= t.trade_id < after}
        if page[0].trade_id >= after:
            raise BackfillError(f"{trades.url} does not heed the cursor `after`; check --url")
        if page[0].trade_id <= start:
            break
        after = page[0].trade_id
    return [found[number] for number in sorted(found)]


def _held(lake: Lake, symbol: str) -> list[tuple[int, int]]:
    """List first number and one past the last of the topics that hold trades of a symbol."""
    prefix = _prefix(symbol)
    names = map(parse_name, lake.root.glob(f"symbol={symbol}/date=*/part-{prefix}*"))
    begins = sorted({int(name[0].removeprefix(prefix)) for name in names if name})
    ends = [lake.last_offset(f"{prefix}{begin}", 0) + 1 for begin in begins]
    # A topic whose first batch a crash cut short holds nothing yet.
    return [(begin, max(begin, end)) for begin, end in zip(begins, ends, strict=True)]


def _prefix(symbol: str) -> str:
    return f"coinbase.{symbol}."
