"""Decide what each column of a recording is: by its name, its content, and what the user says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from volatility.records import Named, TickError, normalise
from volatility.sources.recordings.chunks import REQUIRED, Kind, MessagesInsideError, RecordingError
from volatility.sources.recordings.columns import is_text, plain, texts
from volatility.sources.recordings.mapping import Mapping
from volatility.sources.recordings.names import CANDLE, KNOWN, NAMES, SIDES, TRADE_NAMES, Known
from volatility.sources.recordings.places import key, symbol_in
from volatility.sources.recordings.times import instant

SAMPLE_ROWS = 100


class Layout(msgspec.Struct, frozen=True):
    """Represent what the columns of a recording are.

    Parameters
    ----------
    title : str
        Name of a known export; empty for others.
    kind : {"quotes", "trades"}
    columns : dict of str to str
        Column by field; ``date`` is one that ``time`` continues.
    units : dict of str to str
        Units that the user gave.
    symbol, venue : str
        Where no column has them.
    origin : str
        Where ``symbol`` comes from, for messages.
    sides : dict of str to str
    scale : float
        As in ``Known``.
    own : bool
        Whether these are the columns of this service, where a row without prices is a heartbeat.
    candle : bool
        Whether rows are candles, which must be of one second.
    """

    title: str
    kind: Kind
    columns: dict[str, str]
    units: dict[str, str]
    symbol: str = ""
    venue: str = ""
    origin: str = ""
    sides: dict[str, str] = {}
    scale: float = 1.0
    own: bool = False
    candle: bool = False

    def described(self) -> str:
        """Say it in one line."""
        fields = ", ".join(f"{field}={column}" for field, column in self.columns.items())
        constant = f", symbol {self.symbol} from {self.origin}" if self.symbol else ""
        return f"{self.title or 'columns'}: {self.kind}, {fields}{constant}"


def resolve(
    names: Sequence[str],
    sample: pa.RecordBatch,
    place: Path,
    mapping: Mapping,
    inside: Named | None = None,
) -> Layout:
    """Decide the layout of a table.

    Parameters
    ----------
    names : sequence of str
    sample : RecordBatch
        The first rows.
    place : Path
        Where the file is; used for what no column has.
    mapping : Mapping
        What the user says; it goes first.
    inside : Named, optional
        Symbol and venue that the file's metadata state.

    Raises
    ------
    RecordingError
        When a required column cannot be found; the message names it.
    """
    known = next((one for one in KNOWN if _fits(one, names)), None)
    columns, constants = _given(names, mapping)
    finder = _Finder(names, sample, known, columns)
    for field in NAMES:
        finder.find(field, NAMES[field])
    candle = set(CANDLE) <= {key(name) for name in names}
    if candle and "price" not in columns:
        finder.find("price", ("close",))
    if not mapping.columns and not {"bid", "ask"} <= columns.keys() and _wraps(sample):
        raise MessagesInsideError("has a column of JSON without a message that is understood")
    kind = _kind(names, columns)
    if kind == "trades":
        for field, more in TRADE_NAMES.items():
            finder.find(field, more)
    if "time" not in columns and "received" in columns:
        columns["time"] = columns["received"]
    if "time" not in columns:
        raise _lacking("time", names)
    _join_date(names, sample, columns)
    named, origin = _constant(constants, columns, place, inside, names)
    venue = constants.get("venue") or named.venue or _venue(known, names)
    if {"price", "bid"} <= columns.keys() and columns["price"] == columns["bid"]:
        del columns["price"]
    return Layout(
        known.title if known else "",
        kind,
        columns,
        mapping.units,
        named.symbol,
        venue,
        origin,
        {**SIDES, **known.sides} if known else SIDES,
        known.scale if known else 1.0,
        own=all(columns.get(field) == field for field in REQUIRED),
        candle=candle,
    )


def _wraps(sample: pa.RecordBatch) -> bool:
    """Return whether a column contains JSON objects as text."""
    for column in map(plain, sample.columns):
        if is_text(column):
            values = [value for value in column.to_pylist() if value]
            if values and all(value.lstrip().startswith("{") for value in values):
                return True
    return False


def _fits(known: Known, names: Sequence[str]) -> bool:
    needed = known.columns[: len(known.columns) - known.optional]
    if known.shapes and set(needed) <= {"time", "price", "volume"}:
        return list(names) == list(needed)
    return set(needed) <= set(names)


def _venue(known: Known | None, names: Sequence[str]) -> str:
    if known is None:
        return ""
    short = known.optional and known.columns[-1] not in names
    return known.short_venue if short and known.short_venue else known.venue


def _given(names: Sequence[str], mapping: Mapping) -> tuple[dict[str, str], dict[str, str]]:
    columns, constants = {}, {}
    for field, column in mapping.columns.items():
        if column in names:
            columns[field] = column
        elif field in {"symbol", "venue"}:
            constants[field] = column
        else:
            raise RecordingError(f"has no column {column}; it has {_listed(names)}")
    return columns, constants


class _Finder:
    """Find columns by name, each used once; of several names that fit, the content decides."""

    def __init__(
        self,
        names: Sequence[str],
        sample: pa.RecordBatch,
        known: Known | None,
        columns: dict[str, str],
    ) -> None:
        self._by_key: dict[str, str] = {}
        for name in names:
            self._by_key.setdefault(key(name.partition("/")[0]) or name, name)
        self._sample = sample
        self._fields = known.fields if known else {}
        self._names = names
        self._columns = columns

    def find(self, field: str, candidates: Sequence[str]) -> None:
        if field in self._columns:
            return
        if field in self._fields:
            column = self._fields[field]
            if column in self._names:
                self._columns[field] = column
            return
        taken = set(self._columns.values()) | set(self._fields.values())
        found = [self._by_key[name] for name in candidates if name in self._by_key]
        found = [name for name in found if name not in taken]
        if not found:
            return
        if field in {"symbol", "time"}:
            test = _names_something if field == "symbol" else _is_time
            fitting = [name for name in found if any(map(test, self._values(name)))]
            if field == "symbol" and not fitting and all(map(_numeric, self._values(found[0]))):
                return
            found = fitting or found
        self._columns[field] = found[0]

    def _values(self, name: str) -> list[object]:
        column = plain(self._sample.column(name).slice(0, SAMPLE_ROWS))
        if pa.types.is_temporal(column.type):
            return [0] if column.null_count == len(column) else ["2026-01-01T00:00:00Z"]
        return [value for value in column.to_pylist() if value is not None]


def _names_something(value: object) -> bool:
    try:
        return not _numeric(value) and bool(normalise(str(value)))
    except TickError:
        return False


def _numeric(value: object) -> bool:
    return not isinstance(value, str) or value.strip().replace(".", "", 1).isdigit()


def _is_time(value: object) -> bool:
    return instant(value) is not None or (isinstance(value, str) and _time_of_day(value))


def _time_of_day(text: str) -> bool:
    return len(text) >= 5 and text[2:3] == ":" and text[:2].isdigit()


def _kind(names: Sequence[str], columns: dict[str, str]) -> Kind:
    if "bid" in columns and "ask" in columns:
        return "quotes"
    if "bid" in columns or "ask" in columns:
        raise _lacking("ask" if "bid" in columns else "bid", names)
    if "price" in columns:
        return "trades"
    if {"symbol", "time"} <= columns.keys():
        raise _lacking("bid and ask, or price", names)
    raise RecordingError(
        f"contains no market data that is understood: it has {_listed(names)}; name the columns by "
        "--map time=COLUMN,bid=COLUMN,ask=COLUMN"
    )


def _lacking(field: str, names: Sequence[str]) -> RecordingError:
    index = any(name.startswith("__index_level_") for name in names)
    remedy = (
        "write the frame after reset_index() with names for its columns"
        if index
        else f"name it by --map {field.split(maxsplit=1)[0]}=COLUMN"
    )
    return RecordingError(f"has no column of {field}; it has {_listed(names)}; {remedy}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _join_date(names: Sequence[str], sample: pa.RecordBatch, columns: dict[str, str]) -> None:
    """Find the column of dates that a column with times of day continues."""
    values = texts(sample.column(columns["time"]).slice(0, SAMPLE_ROWS)).drop_null().to_pylist()
    if values and all(map(_time_of_day, values)):
        dates = [name for name in names if key(name) in {"date", "day", "tradedate"}]
        if not dates:
            raise RecordingError(
                f"has times of day without a date in column {columns['time']}; add a column date"
            )
        columns["date"] = dates[0]


def _constant(
    constants: dict[str, str],
    columns: dict[str, str],
    place: Path,
    inside: Named | None,
    names: Sequence[str],
) -> tuple[Named, str]:
    """Return symbol and venue for a table without a column of symbols, and where they are from."""
    if "symbol" in constants:
        try:
            return normalise(constants["symbol"]), "--map"
        except TickError as error:
            raise RecordingError(str(error)) from error
    if "symbol" in columns:
        return Named("", ""), ""
    if inside is not None:
        return inside, "the file's metadata"
    found = symbol_in(place)
    if found is None:
        raise RecordingError(
            f"has no column of symbols and its path names none; it has {_listed(names)}; add --map "
            "symbol=BTC-USD, or symbol=COLUMN"
        )
    return found, "the path"
