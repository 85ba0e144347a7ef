"""Read flat records in JSON: one a line, in arrays, pretty-printed, or inside wrappers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from volatility.records import COINBASE
from volatility.sources.recordings.chunks import Chunk, Resolve, UnknownContentError
from volatility.sources.recordings.delimited import named_by_shape
from volatility.sources.recordings.layout import Layout
from volatility.sources.recordings.layout import resolve as resolve_layout
from volatility.sources.recordings.mapping import Mapping
from volatility.sources.recordings.nested import records
from volatility.sources.recordings.opening import Entry, opened
from volatility.sources.recordings.rows import Rows
from volatility.sources.recordings.values import TooLongError, values

SAMPLE_RECORDS = 1000
UNUSED = "record without a price"

# Coinbase reports the maker's side, and a tick has the taker's.
MAKER_SIDES = {"buy": "sell", "sell": "buy"}

_decoder = msgspec.json.Decoder(float_hook=Decimal)
_Row = dict[str, Any]


def read_objects(
    entry: Entry, resolve: Resolve, mapping: Mapping, chunk_rows: int, *, matches: bool = False
) -> Iterator[Chunk]:
    """Read flat records, or with ``matches`` the trades in messages of Coinbase.

    Raises
    ------
    UnknownContentError
        When there is none.
    RecordingError
    """
    with opened(entry.path) as stream:
        found = _found(stream.file, matches)
        waiting: list[tuple[int, _Row]] = []
        rows: Rows | None = None
        layout: Layout | None = None
        try:
            for item in found:
                waiting.append(item)
                if len(waiting) >= (SAMPLE_RECORDS if rows is None else chunk_rows):
                    if rows is None or layout is None:
                        layout, rows = _prepared(waiting, entry, resolve, mapping, matches)
                        continue
                    yield _chunk(waiting, layout, rows, stream.share())
                    waiting = []
        except TooLongError as error:
            raise UnknownContentError("contains no market data that is understood") from error
        if rows is None or layout is None:
            if not waiting:
                raise UnknownContentError("contains JSON, but no market data that is understood")
            layout, rows = _prepared(waiting, entry, resolve, mapping, matches)
        if waiting:
            yield _chunk(waiting, layout, rows, 1.0)


def _found(stream: Any, matches: bool) -> Iterator[tuple[int, _Row]]:
    for number, text in values(stream):
        if not text:
            continue
        try:
            value = _decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            yield number, {"": text.decode(errors="replace")}
            continue
        for record in records(value):
            if not matches or _is_trade(record):
                yield number, record


def _is_trade(record: _Row) -> bool:
    return "trade_id" in record and record.get("type") != "ticker"


def _prepared(
    waiting: list[tuple[int, _Row]],
    entry: Entry,
    resolve: Resolve,
    mapping: Mapping,
    matches: bool,
) -> tuple[Layout, Rows]:
    if any("1" not in row and "" not in row for _, row in waiting):
        # Beside records with names, lists are something else, such as levels of a book.
        waiting[:] = [(number, row) for number, row in waiting if "1" not in row]
    sample = [row for _, row in waiting if "" not in row]
    names = list(dict.fromkeys(name for row in sample for name in row))
    if not names:
        raise UnknownContentError("contains no market data that is understood")
    if "1" in names and not mapping.columns:
        numbered = [name for name in names if name.isdigit()]
        shaped = named_by_shape([[_text(row.get(n)) for n in numbered] for row in sample[:20]])
        if shaped is None:
            raise UnknownContentError("contains lists in JSON, but of an unknown layout")
        places = dict(zip(numbered, shaped, strict=True))
        for _, row in waiting:
            _rename(row, places)
        names = [places.get(name, name) for name in names]
    batch = _batch(sample, names)
    layout = resolve_layout(names, batch, entry.place, mapping)
    if matches:
        layout = msgspec.structs.replace(
            layout, title="Coinbase trades", venue=COINBASE, sides=MAKER_SIDES
        )
    return layout, Rows(layout, resolve, "JSON")


def _rename(row: _Row, places: dict[str, str]) -> None:
    for number, name in places.items():
        if number in row:
            row[name] = row.pop(number)


def _chunk(waiting: Sequence[tuple[int, _Row]], layout: Layout, rows: Rows, share: float) -> Chunk:
    names = list(dict.fromkeys(layout.columns.values()))
    needed = ("bid", "ask") if layout.kind == "quotes" else ("price",)
    prices = [layout.columns[field] for field in needed]
    if not layout.own:
        used = [(n, row) for n, row in waiting if "" in row or any(p in row for p in prices)]
        rows.ignored[UNUSED] += len(waiting) - len(used)
        rows.ignored += Counter()  # drop a count of zero
        waiting = used
    batch = _batch([row for _, row in waiting], names)
    positions = np.array([number for number, _ in waiting], dtype=np.int64)
    return rows.chunk(batch, share, positions)


def _batch(rows: Sequence[_Row], names: Sequence[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [_column([row.get(name) for row in rows]) for name in names], names=list(names)
    )


def _column(cells: list[Any]) -> pa.Array:
    """Build a column: whole numbers as such, everything else as text, which keeps all digits."""
    kinds = {type(cell) for cell in cells} - {type(None)}
    if kinds == {int}:
        try:
            return pa.array(cells, pa.int64())
        except OverflowError:
            pass
    return pa.array([None if cell is None else _text(cell) for cell in cells], pa.string())


def _text(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return "" if cell is None or isinstance(cell, dict | list) else str(cell)
