"""Build feature rows from the raw ticks of one request, with the kernel used in training."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from service.wire import UNREADABLE, RequestError, bound, doc, explain, shorten
from volatility.features import FEATURE_NAMES, WARM, is_warm, rows_of
from volatility.records import Fields, Heartbeat, Record, TickError, identifier, record_of
from volatility.settings import Features
from volatility.units import SECOND, Floats, Integers

LATEST = 2**63  # above every time

MAX_TICKS = 200_000
# No row depends on more than half an hour; without this bound, ticks that lie years apart would
# keep the kernel busy for half a minute.
MAX_SPAN_SECONDS = 7_200
MAX_BYTES = 64 * 1024 * 1024


class Tick(Fields):
    """Represent a tick or a heartbeat of a request."""


class Ticks(msgspec.Struct, forbid_unknown_fields=True):
    """Represent the body of a request for ticks of one symbol."""

    ticks: Annotated[
        list[Tick],
        doc(
            "Ticks and heartbeats of one symbol, in arrival order.", minItems=1, maxItems=MAX_TICKS
        ),
    ]


_decoder = msgspec.json.Decoder(Ticks)


def decode_ticks(body: bytes) -> list[Record]:
    """Read ``{"ticks": [{...}, ...]}``: ticks and heartbeats of one symbol, in arrival order.

    Raises
    ------
    RequestError
        400 if the body is not JSON; 413 above ``MAX_TICKS``; 422 if a tick is invalid, has a
        different symbol from the first, or lies more than ``MAX_SPAN_SECONDS`` from another.
    """
    bound(body, "ticks", MAX_TICKS)
    try:
        read = _decoder.decode(body).ticks
    except UNREADABLE as error:
        explain(error, body, "ticks", _decoder)
    if not read:
        raise RequestError(422, "empty", "ticks is empty: send at least 300 s of ticks")
    records: list[Record] = []
    first, last = LATEST, 0
    for place, fields in enumerate(read):
        try:
            record = record_of(fields)
        except TickError as error:
            raise RequestError(422, "invalid_tick", shorten(str(error)), place) from error
        if records and record.symbol != records[0].symbol:
            message = f"several symbols: {records[0].symbol} and {record.symbol}; send one"
            raise RequestError(422, "several_symbols", message, place, "symbol")
        records.append(record)
        first, last = min(first, record.time), max(last, record.time)
        if last - first > MAX_SPAN_SECONDS * SECOND:
            span = f"{(last - first) / SECOND:,.0f} s"
            message = f"the ticks span {span}: send at most the last {MAX_SPAN_SECONDS:,} s of them"
            raise RequestError(422, "too_long", message, place, "time")
    return records


def feature_rows(
    records: list[Record], features: Features, max_rows: int
) -> tuple[Integers, Floats]:
    """Build the rows of the warm steps among the newest steps that the ticks close.

    Parameters
    ----------
    records : list of Record
        Of one symbol, in order of arrival.
    features : Features
        Feature settings of the model's bundle.
    max_rows : int
        Maximum number of newest steps to consider.

    Returns
    -------
    steps : int64[n]
        Nanoseconds since the epoch, ascending.
    rows : float64[n, len(FEATURE_NAMES)]

    Raises
    ------
    RequestError
        422 if the ticks close no step, or cover too little time for any step to be warm.
    """
    steps, rows = np.empty(0, np.int64), np.empty((0, len(FEATURE_NAMES)))
    for time, built in rows_of([_arrays(records)], features):
        steps = np.concatenate([steps, time[-max_rows:]])[-max_rows:]
        rows = np.concatenate([rows, built[-max_rows:]])[-max_rows:]
    if not len(rows):
        raise RequestError(
            422, "too_few_ticks", "too few ticks: they close no step; send at least 300 s of them"
        )
    warm = is_warm(rows)
    if not warm.any():
        needed = features.min_baseline_seconds
        raise RequestError(
            422,
            "too_few_ticks",
            f"too few ticks: no row has the {needed} s of history outside gaps that the baseline "
            "needs",
            field=FEATURE_NAMES[WARM],
        )
    return steps[warm], rows[warm]


def rows(body: list[bytes], features: Features, max_rows: int) -> tuple[str, Integers, Floats]:
    """Return the symbol of a request's ticks, and what ``feature_rows`` builds of them."""
    records = decode_ticks(b"".join(body))
    return records[0].symbol, *feature_rows(records, features, max_rows)


def warm_up() -> None:
    """Compile, or load from the cache, the code that the first request needs."""
    for _ in rows_of([_arrays([Heartbeat("A", 0)])], Features()):
        pass


def _arrays(records: list[Record]) -> tuple[npt.NDArray[np.generic], ...]:
    """Convert records to arrays as ``volatility.features.engine.columns`` does.

    This avoids pyarrow, which imports pandas (60 MiB) when it first builds an array from a list.
    """
    quotes = [
        np.array([getattr(record, name, None) for record in records], dtype=np.float64)
        for name in ("bid", "ask", "bid_size", "ask_size")  # None becomes NaN
    ]
    times = np.array([record.time for record in records], dtype=np.int64)
    identifiers = [-1 if isinstance(one, Heartbeat) else identifier(one) for one in records]
    return times, *quotes, np.array(identifiers, dtype=np.int64)
