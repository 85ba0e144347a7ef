"""Read tables of text: any delimiter, quoted or not, with a header or of a known shape."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
from pyarrow import csv as pacsv

from volatility.sources.recordings.chunks import Chunk, RecordingError, Resolve, UnknownContentError
from volatility.sources.recordings.layout import resolve as resolve_layout
from volatility.sources.recordings.mapping import Mapping
from volatility.sources.recordings.names import KNOWN, NAMES, TRADE_NAMES, Known, Shape
from volatility.sources.recordings.opening import Entry, head, opened
from volatility.sources.recordings.places import key
from volatility.sources.recordings.rows import Rows
from volatility.sources.recordings.times import instant

BLOCK_BYTES = 8 << 20
SAMPLE_LINES = 200
DELIMITERS = ",;\t|"

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_KNOWN_NAMES = frozenset(
    name for table in (NAMES, TRADE_NAMES) for names in table.values() for name in names
)


class Dialect(msgspec.Struct, frozen=True):
    """Represent how a table is written.

    Parameters
    ----------
    delimiter, encoding : str
    skip : int
        Lines before the first row, header included.
    names : tuple of str
        Columns; numbers from 1 where there is neither a header nor a known shape.
    header : bool
    """

    delimiter: str
    encoding: str
    skip: int
    names: tuple[str, ...]
    header: bool


def read_delimited(
    entry: Entry, resolve: Resolve, mapping: Mapping, chunk_rows: int
) -> Iterator[Chunk]:
    """Read a table of text, block by block.

    Raises
    ------
    UnknownContentError
        When it is not a table.
    RecordingError
    """
    start = head(entry.path)
    dialect, sample = _dialect(start, mapping)
    rows: Rows | None = None
    torn: list[str] = []

    def keep(row: pacsv.InvalidRow) -> str:
        torn.append(row.text if row.text is not None else "")
        return "skip"

    with opened(entry.path) as stream:
        layout = resolve_layout(dialect.names, sample, entry.place, mapping)
        wanted = list(dict.fromkeys([*layout.columns.values(), *_candle(layout.candle, dialect)]))
        try:
            reader = pacsv.open_csv(
                stream.file,
                pacsv.ReadOptions(
                    use_threads=True,
                    block_size=BLOCK_BYTES,
                    skip_rows=dialect.skip,
                    column_names=list(dialect.names),
                    encoding=dialect.encoding,
                ),
                pacsv.ParseOptions(delimiter=dialect.delimiter, invalid_row_handler=keep),
                pacsv.ConvertOptions(
                    include_columns=wanted,
                    column_types=dict.fromkeys(wanted, pa.string()),
                    strings_can_be_null=True,
                    null_values=["", "null", "NULL", "None", "NaN", "nan"],
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                raise RecordingError("has a header and no row") from error
            raise
        rows = Rows(layout, resolve, _form(dialect))
        for batch in reader:
            for first in range(0, batch.num_rows, chunk_rows):
                if torn:
                    rows.ignored["row with another number of columns"] += len(torn)
                    torn.clear()
                yield rows.chunk(batch.slice(first, chunk_rows), stream.share())


def _candle(candle: bool, dialect: Dialect) -> list[str]:
    return [name for name in dialect.names if candle and key(name) == "opentime"]


def _form(dialect: Dialect) -> str:
    name = {"\t": "tab", "|": "bar", ";": "semicolon", ",": "comma"}[dialect.delimiter]
    return f"text delimited by {name}" + ("" if dialect.header else " without a header")


def _dialect(start: bytes, mapping: Mapping) -> tuple[Dialect, pa.RecordBatch]:
    """Find delimiter, header and columns of a table, from its first bytes."""
    encoding, text = _decoded(start)
    lines = text.split("\n")[:SAMPLE_LINES]
    if len(text) >= len(start) // 2 and len(lines) > 1 and len(start) > 4096:
        lines.pop()  # the last one may be cut
    lines = [line.rstrip("\r") for line in lines]
    found = [_cells(lines, delimiter) for delimiter in DELIMITERS]
    width, place = max((_width(rows), -i) for i, rows in enumerate(found))
    if width < 2:
        raise UnknownContentError(
            "contains no market data that is understood: neither Parquet or Arrow, nor Coinbase "
            "messages or other JSON, nor a table of text"
        )
    rows, delimiter = found[-place], DELIMITERS[-place]
    first = next(i for i, row in enumerate(rows) if len(row) == width and not _comment(row))
    body = [row for row in rows[first:] if len(row) == width]
    header = not any(_NUMBER.fullmatch(cell.strip()) for cell in body[0]) and (
        len(body) == 1
        or any(key(c.strip("# ").partition("/")[0]) in _KNOWN_NAMES for c in body[0])
        or any(_NUMBER.fullmatch(cell.strip()) for row in body[1:] for cell in row)
    )
    if header:
        names = _unique([cell.strip().strip("#\ufeff ") for cell in body[0]])
        skip, body = first + 1, body[1:]
    else:
        names, skip = _shaped(body, mapping), first
    if not body:
        raise RecordingError("has a header and no row")
    columns = [pa.array([row[i].strip() or None for row in body]) for i in range(width)]
    columns = [column.cast(pa.string()) for column in columns]
    sample = pa.RecordBatch.from_arrays(columns, names=list(names))
    return Dialect(delimiter, encoding, skip, tuple(names), header), sample


def _comment(row: list[str]) -> bool:
    return row[0].lstrip().startswith("#") and len(row) == 1


def _decoded(start: bytes) -> tuple[str, str]:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf16", start.decode("utf-16", errors="replace")
    if b"\0" in start[:4096]:
        raise UnknownContentError(
            "contains no market data that is understood: neither Parquet or Arrow, nor text"
        )
    try:
        return "utf8", start.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start > len(start) - 4:
            return "utf8", start[: error.start].decode("utf-8-sig")
    return "gb18030", start.decode("gb18030", errors="replace")


def _cells(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        return [row or [""] for row in csv.reader(lines, delimiter=delimiter)]
    except csv.Error:
        return []


def _width(rows: list[list[str]]) -> int:
    """Return the number of columns that most lines have; 1 if there is no such number."""
    counts = Counter(len(row) for row in rows if row != [""])
    if not counts:
        return 1
    width, most = counts.most_common(1)[0]
    return (
        width
        if most * 2 > sum(counts.values()) or (width > 2 and most * 3 >= sum(counts.values()))
        else 1
    )


def _unique(names: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def _shaped(body: list[list[str]], mapping: Mapping) -> list[str]:
    """Name the columns of a table without a header: by a known shape, else by their numbers."""
    numbered = [str(i + 1) for i in range(len(body[0]))]
    if set(mapping.columns.values()) & set(numbered):
        return numbered
    fitting = [known for known in KNOWN if _has_shape(known, body)]
    if not fitting:
        raise UnknownContentError(
            f"is a table of {len(numbered)} columns without a header, and not of a known layout; "
            "name its columns by their numbers: --map time=1,bid=2,ask=3,symbol=BTC-USD"
        )
    if len(body[0]) == 3 and all(0.5 < float(b) / max(float(a), 1e-12) < 2 for _, a, b in body):
        raise RecordingError(
            "has three columns without a header, which may be bid and ask or price and volume; "
            "say which: --map time=1,bid=2,ask=3 or time=1,price=2,size=3"
        )
    return list(fitting[0].columns[: len(numbered)])


def _has_shape(known: Known, body: list[list[str]]) -> bool:
    width = len(body[0])
    if not known.shapes or not len(known.columns) - known.optional <= width <= len(known.columns):
        return False
    return all(
        all(_is(shape, cell.strip()) for shape, cell in zip(known.shapes, row, strict=False))
        for row in body[:20]
    )


def _is(shape: Shape, cell: str) -> bool:
    if shape == "time":
        return instant(cell) is not None
    if shape == "integer":
        return bool(re.fullmatch(r"-?\d+", cell))
    if shape == "number":
        return bool(_NUMBER.fullmatch(cell))
    if shape == "bool":
        return cell.lower() in {"true", "false", "0", "1"}
    return not cell or shape == "text" or cell.lower() in {"b", "s", "buy", "sell"}


def named_by_shape(rows: list[list[str]]) -> list[str] | None:
    """Return the names of the columns of rows without any, such as Kraken's; None if unknown."""
    fitting = [known for known in KNOWN if _has_shape(known, rows)]
    return list(fitting[0].columns[: len(rows[0])]) if fitting else None


def is_text(path: Path) -> bool:
    """Return whether a file may be text."""
    start = head(path, 4096)
    return start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" not in start
