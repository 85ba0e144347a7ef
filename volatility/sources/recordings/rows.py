"""Convert batches of a resolved layout to chunks of lake rows, vectorised."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from volatility.records import (
    LAKE_SCHEMA,
    MAX_CLOCK_SKEW_NS,
    REASONS,
    SYMBOL_RULE,
    TickError,
    reasons,
)
from volatility.sources.messages import BAD_SYMBOL
from volatility.sources.recordings import columns as convert
from volatility.sources.recordings.chunks import Chunk, RecordingError, Rejected, Resolve
from volatility.sources.recordings.layout import Layout
from volatility.sources.recordings.times import Times
from volatility.units import SECOND, Integers

OPTIONAL = {
    "received": "times near the tick's",
    "bid_size": "sizes",
    "ask_size": "sizes",
    "size": "sizes",
    "sequence": "whole numbers",
    "trade_id": "whole numbers",
}
CANDLE_SECONDS = 1


class Rows:
    """Convert the batches of one file.

    Parameters
    ----------
    layout : Layout
    resolve : callable
        Returns the symbol under which the lake keeps a venue's name.
    form : str
        What the file is, such as ``Parquet``; the first thing that is said.
    """

    def __init__(self, layout: Layout, resolve: Resolve, form: str) -> None:
        self._layout = layout
        self._resolve = resolve
        self._form = form
        self._times = {
            field: Times(layout.columns[field], layout.units.get(field, ""))
            for field in ("time", "received")
            if field in layout.columns
        }
        self._offset = 0
        self._runs: dict[str, int] = {}
        self._symbols: dict[tuple[str, str], str] = {}
        self._unfit: Counter[str] = Counter()
        self._unnamed: dict[str, None] = {}
        self.ignored: Counter[str] = Counter()

    def chunk(
        self, batch: pa.RecordBatch, share: float, positions: Integers | None = None
    ) -> Chunk:
        """Convert a batch; ``positions`` are its rows' places in the file, by default counted."""
        rows = batch.num_rows
        table, named = self._table(batch)
        broken = self._broken(table)
        if not self._layout.own:
            empty = np.asarray(table.column("price").is_null())
            broken = np.where((broken == 0) & empty & (self._layout.kind == "quotes"), 3, broken)
        bad = np.flatnonzero(~named | (broken != 0))
        places = (
            np.arange(self._offset, self._offset + rows) + 1 if positions is None else positions
        )
        rejected = [
            Rejected(int(places[i]), REASONS[broken[i]] if named[i] else BAD_SYMBOL, raw)
            for i, raw in zip(bad, _raw(batch, bad, self._layout), strict=True)
        ]
        run = self._run(batch)
        if len(bad):
            keep = np.ones(rows, dtype=bool)
            keep[bad] = False
            table, run = table.filter(pa.array(keep)), run[keep]
        self._offset += rows
        return Chunk(
            table,
            run,
            list(self._runs),
            rejected,
            share,
            self.ignored,
            self._layout.kind,
            self._said(),
            f"{self._layout.symbol}@{self._layout.venue}" if self._layout.symbol else "",
        )

    def _table(self, batch: pa.RecordBatch) -> tuple[pa.Table, npt.NDArray[np.bool_]]:
        rows, layout = batch.num_rows, self._layout
        symbol, named = self._symbol(batch)
        time = self._time(batch)
        found: dict[str, pa.Array] = {"symbol": symbol, "time": pa.array(time)}
        quotes = layout.kind == "quotes"
        for field in ("bid", "ask") if quotes else ("price",):
            found[field] = self._price(batch, field)
        if quotes and "price" in layout.columns:
            found["price"] = self._price(batch, "price")
        elif quotes:
            middle = 0.5 * (_floats(found["bid"]) + _floats(found["ask"]))
            found["price"] = pa.array(middle, from_pandas=True)
        for field in ("bid_size", "ask_size", "size"):
            if field in layout.columns:
                found[field] = self._size(batch, field)
        for field in ("sequence", "trade_id"):
            if field in layout.columns:
                column = batch.column(layout.columns[field])
                found[field] = convert.integers(column)
                lost = convert.valid(column) & ~np.asarray(found[field].is_valid())
                self._unfit[field] += int(np.count_nonzero(lost))
        if "side" in layout.columns:
            found["side"] = convert.sides(batch.column(layout.columns["side"]), layout.sides)
        elif "maker" in layout.columns:
            found["side"] = convert.makers(batch.column(layout.columns["maker"]))
        if "received" in layout.columns and layout.columns["received"] != layout.columns["time"]:
            found["received"] = self._received(batch, time)
        found["partition"] = pa.array(np.zeros(rows, np.int32))
        found["offset"] = pa.array(np.arange(self._offset, self._offset + rows))
        arrays = [
            found[field.name].cast(field.type)
            if field.name in found
            else pa.nulls(rows, field.type)
            for field in LAKE_SCHEMA
        ]
        return pa.Table.from_arrays(arrays, schema=LAKE_SCHEMA), named

    def _broken(self, table: pa.Table) -> npt.NDArray[np.int8]:
        if self._layout.kind == "quotes":
            return reasons(table)
        price = table.column("price")
        priced = pc.fill_null(price, np.nan)  # a trade without a price is not a heartbeat
        for name in ("price", "bid", "ask"):
            table = table.set_column(table.schema.get_field_index(name), name, priced)
        return reasons(table)

    def _price(self, batch: pa.RecordBatch, field: str) -> pa.Array:
        column = batch.column(self._layout.columns[field])
        if pa.types.is_float64(column.type):
            return column
        values = convert.numbers(column, self._layout.scale)
        return pa.array(values, mask=~convert.valid(column))

    def _size(self, batch: pa.RecordBatch, field: str) -> pa.Array:
        column = batch.column(self._layout.columns[field])
        values = convert.numbers(column)
        plain = pa.types.is_float64(column.type) and not column.null_count
        if plain and len(values) and values.min() >= 0 and values.max() < np.inf:
            return column
        with np.errstate(invalid="ignore"):
            fits = np.isfinite(values) & (values >= 0)
        self._unfit[field] += int(
            np.count_nonzero(convert.valid(column) & ~np.isnan(values) & ~fits)
        )
        self._unfit[field] += int(
            np.count_nonzero(
                convert.valid(column) & np.isnan(values) & convert.is_text(convert.plain(column))
            )
        )
        return pa.array(values, mask=~fits)

    def _time(self, batch: pa.RecordBatch) -> Integers:
        column = batch.column(self._layout.columns["time"])
        if "date" in self._layout.columns:
            date = convert.texts(batch.column(self._layout.columns["date"]))
            day = pc.utf8_slice_codeunits(date, 0, len("2026-04-04"))
            column = pc.binary_join_element_wise(day, convert.texts(column), " ")
        time = self._times["time"].read(column)
        if self._layout.candle:
            time = self._closed(batch, time)
        return time

    def _closed(self, batch: pa.RecordBatch, time: Integers) -> Integers:
        """Return when each candle ended; only candles of a second are of use here."""
        name = next((n for n in ("open_time", "opentime") if n in batch.schema.names), None)
        opened = Times(name).read(batch.column(name)) if name else time
        order = np.sort(np.unique(opened[opened > 0]))
        step = int(np.diff(order).min()) if len(order) > 1 else SECOND
        if step > CANDLE_SECONDS * SECOND:
            raise RecordingError(
                f"contains candles of {step / SECOND:g} s; forecasts of the next minute need "
                "ticks, or candles of 1 s"
            )
        return time if name else np.where(time > 0, time + SECOND, 0)

    def _received(self, batch: pa.RecordBatch, time: Integers) -> pa.Array:
        column = batch.column(self._layout.columns["received"])
        try:
            values = self._times["received"].read(column)
        except RecordingError:
            values = np.zeros(batch.num_rows, dtype=np.int64)
        fits = (values > 0) & (time - values <= MAX_CLOCK_SKEW_NS)
        self._unfit["received"] += int(np.count_nonzero(convert.valid(column) & ~fits))
        return pa.array(values, mask=~fits)

    def _symbol(self, batch: pa.RecordBatch) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
        rows, layout = batch.num_rows, self._layout
        names = venues = None
        if "symbol" in layout.columns and not layout.symbol:
            names = _encoded(batch.column(layout.columns["symbol"]))
        if "venue" in layout.columns:
            venues = _encoded(batch.column(layout.columns["venue"]))
        if names is None and venues is None:
            symbol = self._known(layout.symbol, layout.venue)
            return pa.array([symbol or ""]).take(pa.array(np.zeros(rows, np.int32))), np.full(
                rows, symbol is not None
            )
        name_codes, name_texts = names or (np.zeros(rows, np.int64), [layout.symbol])
        venue_codes, venue_texts = venues or (np.zeros(rows, np.int64), [layout.venue])
        both = name_codes * len(venue_texts) + venue_codes
        if len(both) and not np.any(both != both[0]):
            pairs, codes = both[:1], np.zeros(rows, np.int64)
        else:
            pairs, codes = np.unique(both, return_inverse=True)
        found = [
            self._known(name_texts[pair // len(venue_texts)], venue_texts[pair % len(venue_texts)])
            for pair in pairs.tolist()
        ]
        named = np.array([symbol is not None for symbol in found], dtype=bool)[codes]
        return pa.array([symbol or "" for symbol in found]).take(pa.array(codes)), named

    def _known(self, name: str, venue: str) -> str | None:
        if (name, venue) not in self._symbols:
            try:
                self._symbols[name, venue] = self._resolve(name, venue)
            except TickError:
                self._unnamed[name] = None
                self._symbols[name, venue] = ""
        return self._symbols[name, venue] or None

    def _run(self, batch: pa.RecordBatch) -> npt.NDArray[np.int32]:
        """Number the runs; another clock starts another run, because times are not comparable."""
        kinds = [
            pc.fill_null(convert.texts(batch.column(self._layout.columns[field])), "")
            for field in ("recording", "time_kind")
            if field in self._layout.columns
        ]
        if not kinds:
            self._runs.setdefault("", 0)
            return np.zeros(batch.num_rows, dtype=np.int32)
        encoded = pc.binary_join_element_wise(*kinds, " ").dictionary_encode()
        codes = [self._runs.setdefault(n, len(self._runs)) for n in encoded.dictionary.to_pylist()]
        return np.asarray(np.array(codes, dtype=np.int32)[encoded.indices.to_numpy()])

    def _said(self) -> tuple[str, ...]:
        forms = ", ".join(
            f"{times.name} in {times.form}" for times in self._times.values() if times.form
        )
        lines = [f"{self._form}, {self._layout.described()}" + (f"; {forms}" if forms else "")]
        if self._layout.kind == "quotes" and "price" not in self._layout.columns:
            lines.append("no price of a trade: the midprice takes its place")
        lines += [
            f"{count} values of {field} are not {OPTIONAL[field]} and are left out"
            for field, count in sorted(self._unfit.items())
            if count
        ]
        if self._unnamed:
            quoted = ", ".join(repr(name) for name in list(self._unnamed)[:3])
            lines.append(f"symbol {quoted} is not understood: {SYMBOL_RULE}")
        return tuple(lines)


def _floats(column: pa.Array) -> npt.NDArray[np.float64]:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _encoded(column: pa.Array) -> tuple[Integers, list[str]]:
    encoded = column
    if not pa.types.is_dictionary(column.type) or column.null_count or not _plain_text(column):
        encoded = pc.fill_null(convert.texts(column), "").dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _plain_text(column: pa.DictionaryArray) -> bool:
    return pa.types.is_string(column.dictionary.type) and not column.dictionary.null_count


def _raw(batch: pa.RecordBatch, rows: Integers, layout: Layout) -> list[str]:
    """Format rows as JSON, times as the file's integers, since any may be out of range."""
    if not len(rows):
        return []
    wanted = list(dict.fromkeys(layout.columns.values()))
    taken = batch.select(wanted).take(pa.array(rows))
    columns = {
        name: column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        for name, column in zip(wanted, taken.columns, strict=True)
    }
    return [json.dumps(row, default=_shown) for row in pa.table(columns).to_pylist()]


def _shown(value: object) -> object:
    return (
        value.hex()
        if isinstance(value, bytes)
        else str(value)
        if isinstance(value, Decimal)
        else repr(value)
    )
