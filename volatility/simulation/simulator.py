"""Simulate a market that a model can learn from, and a placebo market that it cannot.

``simulate`` draws volatility from three regimes and a fast clustering component; activity
(arrivals, spread) leads it by some seconds, so spikes are announced, imperfectly. ``noise`` has
the same columns and nothing to learn. Both are deterministic functions of their arguments and
keep one hour in memory, however long the market is.

>>> first = next(simulate("BTC-USD", 1_775_337_223_000_000_000, hours=0.1, seed=7))
>>> first.schema == TICK_SCHEMA
True
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from volatility.records import SYMBOL, TICK_SCHEMA
from volatility.simulation.market import (
    MAX_TICKS_PER_SECOND,
    ROW,
    Kernel,
    Rows,
    draw_market,
    draw_noise,
    initial_state,
)
from volatility.units import SECOND

CHUNK_SECONDS = 3600  # bounds the memory; does not affect the stream

START_PRICES = {"BTC-USD": 68_000.0, "ETH-USD": 2_000.0}

GAP_EVERY_SECONDS, GAP_SECONDS = 3600.0, (20.0, 600.0)
LATE_SHARE, LATE_SECONDS = 0.005, (0.2, 4.0)
DUPLICATE_SHARE, DUPLICATE_SECONDS = 0.005, (0.001, 1.0)


def simulate(
    symbol: str,
    start_ns: int,
    hours: float,
    seed: int,
    *,
    gaps: bool = False,
    late: bool = False,
    duplicates: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Yield the ticks and heartbeats of a simulated market in arrival order.

    Parameters
    ----------
    symbol : str
        Such as ``BTC-USD``; different symbols are independent markets.
    start_ns : int
        Time of the start, nanoseconds since the epoch; another start is another market.
    hours : float
        Length; ``math.inf`` never ends. A longer market begins with the shorter one (except for
        the last seconds, where ``late`` and ``duplicates`` delay messages).
    seed : int
        Not negative.
    gaps : bool
        Lose the connection, on average once an hour, for 20 to 600 s.
    late : bool
        Make 0.5 % of the ticks arrive 0.2 to 4 s late, out of order.
    duplicates : bool
        Make 0.5 % of the ticks arrive a second time within a second.

    Yields
    ------
    pyarrow.RecordBatch
        In ``TICK_SCHEMA``. A heartbeat, one per second, has neither price nor quotes. The three
        faults change what arrives, never the underlying market.

    Raises
    ------
    ValueError
        When an argument is invalid.

    References
    ----------
    Hamilton (1989) for switching regimes; Hawkes (1971) for self-exciting arrivals.
    """
    return _stream(draw_market, "market", symbol, start_ns, hours, seed, gaps, late, duplicates)


def noise(symbol: str, start_ns: int, hours: float, seed: int) -> Iterator[pa.RecordBatch]:
    """Yield a placebo market, whose past contains no information about its future.

    The midprice is a Gaussian random walk whose one-second returns are independent and have
    constant variance (0.4 basis points per square root of a second), independent of the arrivals:
    each second draws a Poisson number of ticks, at least one, and splits its return among
    them. Spreads, sizes and sides are independent draws, too.

    Parameters
    ----------
    symbol, start_ns, hours, seed
        As in ``simulate``.

    Yields
    ------
    pyarrow.RecordBatch
        In ``TICK_SCHEMA``.

    Raises
    ------
    ValueError
        When an argument is invalid.
    """
    return _stream(draw_noise, "noise", symbol, start_ns, hours, seed, False, False, False)


def start_price(symbol: str) -> float:
    """Return the price [quote currency] at which a symbol's market starts."""
    share = int.from_bytes(_digest(symbol)[:4], "big") / 2**32
    # The lower bound keeps 0.01 smaller than a typical move.
    return START_PRICES.get(symbol, round(1_000.0 * math.pow(50.0, share), 2))


def _stream(
    kernel: Kernel,
    market: str,
    symbol: str,
    start_ns: int,
    hours: float,
    seed: int,
    gaps: bool,
    late: bool,
    duplicates: bool,
) -> Iterator[pa.RecordBatch]:
    """Check the arguments immediately, not at the first batch, and start the market."""
    if not SYMBOL.fullmatch(symbol):
        raise ValueError(f"symbol {symbol[:40]!r} is not 1 to 32 of A-Z 0-9 . _ @ -")
    if not hours > 0:
        raise ValueError(f"hours must be above 0, not {hours}")
    if seed < 0 or start_ns < 0:
        raise ValueError(f"seed {seed} and start {start_ns} must not be negative")
    digest = int.from_bytes(_digest(f"{market} {symbol}")[:8], "big")
    children = np.random.SeedSequence([seed, start_ns, digest]).spawn(4)
    random, *fault_randoms = (np.random.Generator(np.random.PCG64(child)) for child in children)
    seconds = math.inf if math.isinf(hours) else max(1, round(hours * 3600))
    chunks = _run(kernel, symbol, start_ns, seconds, random)
    if gaps or late or duplicates:
        chunks = _faults(chunks, start_ns, gaps, late, duplicates, fault_randoms)
    return (_batch(symbol, rows) for _, rows in chunks if len(rows))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _run(
    kernel: Kernel, symbol: str, start_ns: int, seconds: float, random: np.random.Generator
) -> Iterator[tuple[int, Rows]]:
    """Yield the end [ns] and the rows of each chunk; the state carries over between chunks."""
    state = initial_state(start_price(symbol), random)
    heartbeat_ns = int(random.integers(SECOND))  # the phase of a connection's heartbeats is random
    done = 0
    while done < seconds:
        count = int(min(CHUNK_SECONDS, seconds - done))
        rows = np.empty(count * (MAX_TICKS_PER_SECOND + 1), ROW)
        used = kernel(random, state, rows, start_ns + done * SECOND, count, heartbeat_ns)
        done += count
        yield start_ns + done * SECOND, rows[:used]


def _faults(
    chunks: Iterator[tuple[int, Rows]],
    start_ns: int,
    gaps: bool,
    late: bool,
    duplicates: bool,
    randoms: list[np.random.Generator],
) -> Iterator[tuple[int, Rows]]:
    """Delay, repeat and lose messages; defer those that arrive after the end of the chunk.

    Each fault has its own generator, drawn row by row, so that neither chunk boundaries nor the
    other faults affect it.
    """
    late_random, duplicate_random, gap_random = randoms
    outages = _outages(start_ns, gap_random)
    begin, end = next(outages)
    held = np.empty(0, ROW)
    for chunk_end, chunk in chunks:
        rows, copies = chunk, chunk[:0]
        if late:
            rows = rows.copy()
            chosen, delay = _pick(rows, late_random, LATE_SHARE, LATE_SECONDS)
            rows["received"][chosen] += delay
        if duplicates:
            chosen, delay = _pick(rows, duplicate_random, DUPLICATE_SHARE, DUPLICATE_SECONDS)
            copies = rows[chosen]
            copies["received"] += delay
        rows = np.concatenate([held, rows, copies])
        rows = rows[np.lexsort((rows["sequence"], rows["received"]))]
        ready = int(np.searchsorted(rows["received"], chunk_end))
        held, rows = rows[ready:], rows[:ready]
        while gaps and begin < chunk_end:
            rows = rows[(rows["received"] < begin) | (rows["received"] >= end)]
            if end >= chunk_end:
                break
            begin, end = next(outages)
        yield chunk_end, rows
    if gaps:
        held = held[(held["received"] < begin) | (held["received"] >= end)]
    yield chunk_end, held


def _pick(
    rows: Rows, random: np.random.Generator, share: float, seconds: tuple[float, float]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Choose a share of the ticks and a delay [ns] for each."""
    draws = random.random((len(rows), 2))
    chosen = np.flatnonzero((draws[:, 0] < share) & (rows["trade_id"] > 0))
    low, high = seconds
    return chosen, ((low + (high - low) * draws[chosen, 1]) * SECOND).astype(np.int64)


def _outages(start_ns: int, random: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yield begin and end [ns] of one lost connection after another, endlessly."""
    low, high = GAP_SECONDS
    while True:
        begin = start_ns + int(GAP_EVERY_SECONDS * SECOND * random.standard_exponential())
        start_ns = begin + int(low * (high / low) ** random.random() * SECOND)
        yield begin, start_ns


def _batch(symbol: str, rows: Rows) -> pa.RecordBatch:
    """Convert rows to the columns of ``TICK_SCHEMA``."""
    heartbeat = rows["trade_id"] == 0
    constant = pa.array(np.zeros(len(rows), np.int8))
    columns = {
        "symbol": pa.array([symbol]).take(constant),
        "side": pa.array(["sell", "buy"]).take(pa.array(rows["buy"], mask=heartbeat)),
        "sequence": pa.array(rows["sequence"], mask=heartbeat),
        "trade_id": pa.array(rows["trade_id"], mask=heartbeat),
    }
    for name in ("time", "received"):
        columns[name] = pa.array(rows[name]).cast(TICK_SCHEMA.field(name).type)
    for name in ("price", "bid", "ask", "bid_size", "ask_size", "size"):
        columns[name] = pa.array(rows[name], mask=heartbeat)
    return pa.RecordBatch.from_arrays([columns[f.name] for f in TICK_SCHEMA], schema=TICK_SCHEMA)
