"""Turn the raw ticks of one request into feature rows, by the kernel that training used."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from service.wire import UNREADABLE, RequestError, bound, explain, shorten
from volatility.baselines import BASELINE
from volatility.feature_table import FEATURE_NAMES, INDEX
from volatility.features import rows_of
from volatility.settings import Features
from volatility.tick import Fields, Heartbeat, Record, TickError, record_of

Floats = npt.NDArray[np.float64]

MAX_TICKS = 200_000
MAX_BYTES = 64 * 1024 * 1024


class _Ticks(msgspec.Struct, forbid_unknown_fields=True):
    ticks: list[Fields]


_decoder = msgspec.json.Decoder(_Ticks)


def decode_ticks(body: bytes) -> list[Record]:
    """Read ``{"ticks": [{...}, ...]}``: ticks and heartbeats of one symbol, in arrival order.

    Raises
    ------
    RequestError
        400 when the body is not JSON; 413 above ``MAX_TICKS``; 422 when a tick is not valid,
        or of another symbol than the first.
    """
    bound(body, "ticks", MAX_TICKS)
    try:
        read = _decoder.decode(body).ticks
    except UNREADABLE as error:
        explain(error, body, "ticks")
    if not read:
        raise RequestError(422, "empty", "ticks is empty: send at least 300 s of ticks")
    records: list[Record] = []
    for place, fields in enumerate(read):
        try:
            record = record_of(fields)
        except TickError as error:
            raise RequestError(422, "invalid_tick", shorten(str(error)), place) from error
        if records and record.symbol != records[0].symbol:
            message = f"several symbols: {records[0].symbol} and {record.symbol}; send one"
            raise RequestError(422, "several_symbols", message, place, "symbol")
        records.append(record)
    return records


def feature_rows(records: list[Record], features: Features, max_rows: int) -> Floats:
    """Build the rows of the steps that the ticks close, from the first warm one on.

    Returns
    -------
    float64[n, len(FEATURE_NAMES)]
        At most the newest ``max_rows``, in time order.

    Raises
    ------
    RequestError
        422 when the ticks close no step, or cover too little time for the trailing baseline.
    """
    rows = np.empty((0, len(FEATURE_NAMES)))
    for _, built in rows_of([_arrays(records)], features):
        rows = np.concatenate([rows, built[-max_rows:]])[-max_rows:]
    if not len(rows):
        raise RequestError(
            422, "too_few_ticks", "too few ticks: they close no step; send at least 300 s of them"
        )
    warm = np.flatnonzero(~np.isnan(rows[:, INDEX[BASELINE]]))
    if not len(warm):
        needed = features.min_baseline_seconds
        raise RequestError(
            422,
            "too_few_ticks",
            f"too few ticks: no row has the {needed} s of history outside gaps that the baseline "
            "needs",
            field=BASELINE,
        )
    return rows[warm[0] :]


def warm_up() -> None:
    """Compile, or read from the cache, what the first request would wait for."""
    for _ in rows_of([_arrays([Heartbeat("A", 0)])], Features()):
        pass


def _arrays(records: list[Record]) -> tuple[npt.NDArray[np.generic], ...]:
    """Lay records out as ``volatility.features.columns`` does.

    Not by way of pyarrow: the first array that it makes of a list imports pandas, 60 MiB.
    """
    quotes = [
        np.array([getattr(record, name, None) for record in records], dtype=np.float64)
        for name in ("bid", "ask", "bid_size", "ask_size")  # None becomes NaN
    ]
    times = np.array([record.time for record in records], dtype=np.int64)
    return times, *quotes, np.array([_identifier(record) for record in records], dtype=np.int64)


def _identifier(record: Record) -> int:
    """Give what tells repeated ticks apart; -1 where there is nothing."""
    if isinstance(record, Heartbeat):
        return -1
    for number in (record.trade_id, record.sequence):
        if number is not None:
            return number
    return -1
