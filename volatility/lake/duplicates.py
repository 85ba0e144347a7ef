"""Find ticks that were delivered twice, by a venue or by two recorders of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

KEYS = ("symbol", "time", "trade_id", "sequence")


def duplicated(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Mark the rows whose (symbol, time, trade id) occurred in an earlier row.

    Where the trade id is absent, the sequence number takes its place. A row with neither cannot
    be distinguished from another message with the same content, so it is never marked.

    Parameters
    ----------
    table : Table
        With the columns ``symbol, time, trade_id, sequence``.

    Returns
    -------
    bool[rows]
    """
    time = table.column("time").cast(pa.int64()).to_numpy()
    marked = np.zeros(len(time), dtype=bool)
    if np.all(time[1:] > time[:-1]):  # in nearly every recording no two rows share a time
        return marked
    order = np.argsort(time, kind="stable")
    same = time[order[1:]] == time[order[:-1]]
    shared = np.zeros(len(time), dtype=bool)
    shared[order[1:]] |= same
    shared[order[:-1]] |= same
    trade, sequence = table.column("trade_id"), table.column("sequence")
    by_trade = np.asarray(trade.is_valid())
    shared &= by_trade | np.asarray(sequence.is_valid())
    rows = np.flatnonzero(shared)
    identity = np.where(by_trade, _integers(trade), _integers(sequence))[rows]
    symbol = table.column("symbol").combine_chunks().dictionary_encode().indices.to_numpy()
    keys = (identity, by_trade[rows], symbol[rows], time[rows])
    ranked = np.lexsort(keys)  # stable: of equal keys the earliest row comes first
    repeated = np.ones(max(len(rows) - 1, 0), dtype=bool)
    for key in keys:
        repeated &= key[ranked[1:]] == key[ranked[:-1]]
    marked[rows[ranked[1:][repeated]]] = True
    return marked


def _integers(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return np.asarray(column.fill_null(0).to_numpy(), dtype=np.int64)
