"""Split a Parquet file into requests to a service, and write the responses to another file."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from volatility.client import Answer, ClientError, Limits
from volatility.features import FEATURE_NAMES
from volatility.records import TICK_SCHEMA, Heartbeat, encode, to_records
from volatility.settings import Features
from volatility.sources import REQUIRED
from volatility.units import SECOND, Integers

KEPT = ("symbol", "time")  # columns of feature rows that are copied to the output
GROUP_ROWS = 65_536  # rows per row group of the output


@dataclass(frozen=True)
class Request:
    """Represent one request and how to read its response.

    Parameters
    ----------
    body : bytes
        JSON.
    records : int
        Number of rows or ticks of the file that this request completes.
    place : callable
        Maps a row of the request to the row of the file, counted from 0.
    table : callable
        Converts a response to rows of the output; returns None if other responses come first.
    """

    body: bytes
    records: int
    place: Callable[[int], int]
    table: Callable[[Answer], pa.Table | None]


def open_source(path: Path, limits: Limits, features: Features) -> Rows | Ticks:
    """Open a file of feature rows or of ticks, which its columns distinguish.

    Raises
    ------
    ClientError
        If it is neither, or not a Parquet file.
    """
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ClientError(f"{path} is not a Parquet file: {error}") from error
    columns = set(file.schema_arrow.names)
    ticks, rows = columns.issuperset(REQUIRED), not columns.isdisjoint(FEATURE_NAMES)
    if ticks == rows:
        kind = "both" if ticks else "neither"
        raise ClientError(
            f"{path} contains {kind} feature rows {'and' if ticks else 'nor'} ticks: rows need "
            f"feature columns (see GET /version), ticks need {', '.join(REQUIRED)}"
        )
    return Ticks(path, file, limits, features) if ticks else Rows(path, file, limits)


class Rows:
    """Split feature rows into requests.

    A feature without a column is missing, as are null and NaN. Unknown columns other than ``KEPT``
    are refused: a misspelt feature would otherwise be silently treated as missing.
    """

    route: Literal["/predict"] = "/predict"
    unit: Literal["rows"] = "rows"

    def __init__(self, path: Path, file: pq.ParquetFile, limits: Limits) -> None:
        schema = file.schema_arrow
        for field in schema:
            known = field.name in FEATURE_NAMES
            if not known and field.name not in KEPT:
                raise ClientError(f"{path}: column {field.name!r} is not a feature: remove it")
            if known and not _is_number(field.type):
                raise ClientError(f"{path}: column {field.name!r} is not numeric: {field.type}")
        self.total = file.metadata.num_rows
        self._path, self._file, self._size = path, file, limits.rows
        self._kept = [name for name in KEPT if name in schema.names]
        self._features = [name for name in FEATURE_NAMES if name in schema.names]

    def requests(self) -> Iterator[Request]:
        """Yield the requests in order; each has rows of one symbol."""
        start = 0
        for batch in self._file.iter_batches(self._size):
            parts = self._by_symbol(batch)
            answers: list[tuple[Integers, pa.Table]] = []
            for symbol, mine in parts:

                def place(row: int, first: int = start, mine: Integers = mine) -> int:
                    return first + int(mine[row])

                def table(
                    answer: Answer,
                    batch: pa.RecordBatch = batch,
                    mine: Integers = mine,
                    answers: list[tuple[Integers, pa.Table]] = answers,
                    count: int = len(parts),
                ) -> pa.Table | None:
                    if len(answer.scores) != len(mine):
                        raise ClientError(
                            f"{len(mine)} rows got {len(answer.scores)} scores: check --url"
                        )
                    key = {name: batch.column(name).take(pa.array(mine)) for name in self._kept}
                    answers.append((mine, _answered(key, answer, np.arange(len(mine)))))
                    if len(answers) < count:
                        return None
                    order = np.argsort(np.concatenate([places for places, _ in answers]))
                    return pa.concat_tables([part for _, part in answers]).take(order)

                body = self._body(batch.take(pa.array(mine)), symbol, start, mine)
                yield Request(body, len(mine), place, table)
            start += len(batch)

    def _by_symbol(self, batch: pa.RecordBatch) -> list[tuple[str | None, Integers]]:
        """Return the row indices of each symbol; the symbol None collects rows without one."""
        if "symbol" not in self._kept:
            return [(None, np.arange(len(batch)))]
        symbols = np.array(batch.column("symbol").cast(pa.string()).to_pylist(), dtype=object)
        return [
            (symbol, np.flatnonzero(symbols == symbol))
            for symbol in dict.fromkeys(symbols.tolist())
        ]

    def _body(
        self, batch: pa.RecordBatch, symbol: str | None, first: int, places: Integers
    ) -> bytes:
        rows: list[dict[str, float]] = [{} for _ in range(len(batch))]
        for name in self._features:
            values = batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
            infinite = np.flatnonzero(np.isinf(values))
            if len(infinite):
                row = first + places[infinite[0]]
                raise ClientError(f"{self._path}: row {row}, {name}: is infinite")
            for place in np.flatnonzero(~np.isnan(values)).tolist():
                rows[place][name] = float(values[place])
        request: dict[str, Any] = {"rows": rows}
        if symbol is not None:
            request["symbol"] = symbol
        return msgspec.json.encode(request)


class Ticks:
    """Split ticks into requests, symbol by symbol.

    A request covers as many steps as the service returns at once, preceded by the ticks of the
    feature memory. Rows depend on nothing older, so the scores are bit-identical to those of one
    pass over all ticks. The response names its steps; those of earlier requests are dropped.
    """

    route: Literal["/predict/ticks"] = "/predict/ticks"
    unit: Literal["ticks"] = "ticks"

    def __init__(
        self, path: Path, file: pq.ParquetFile, limits: Limits, features: Features
    ) -> None:
        self.total = file.metadata.num_rows
        self._path, self._limits, self._features = path, limits, features
        self._table = _as_ticks(path, file)

    def requests(self) -> Iterator[Request]:
        """Yield the requests in order."""
        symbols = self._table.column("symbol").combine_chunks().dictionary_encode()
        codes = symbols.indices.to_numpy()
        for code, symbol in enumerate(symbols.dictionary.to_pylist()):
            mine = np.flatnonzero(codes == code)
            yield from self._of_symbol(symbol, mine, self._table.take(mine))

    def _of_symbol(self, symbol: str, mine: Integers, ticks: pa.Table) -> Iterator[Request]:
        clock = np.maximum.accumulate(ticks.column("time").cast(pa.int64()).to_numpy())
        asked = int(clock[0] - 1) // SECOND  # steps up to this one have been requested
        last = int(clock[-1] - 1) // SECOND  # newest step that the ticks close
        bodies: deque[bytes] = deque()
        first = stop = 0  # range of ticks in ``bodies``
        while asked < last:
            before, done = first, stop
            first, stop, until = self._span(clock, asked, last, symbol)
            for _ in range(first - before):
                bodies.popleft()
            bodies.extend(encode(record) for record in to_records(ticks.slice(done, stop - done)))
            # Close the newest requested step, as the next tick would, and no later one.
            closing = Heartbeat(symbol, until * SECOND + 1)
            body = b'{"ticks":[' + b",".join([*bodies, encode(closing)]) + b"]}"

            def place(row: int, first: int = first) -> int:
                return int(mine[min(first + row, len(mine) - 1)])

            def table(answer: Answer, asked: int = asked) -> pa.Table:
                found = answer.steps or []
                if len(found) != len(answer.scores):
                    raise ClientError(
                        f"{len(found)} steps got {len(answer.scores)} scores: check --url"
                    )
                steps = np.array(found, dtype=np.int64)
                kept = np.flatnonzero(steps > asked * SECOND)
                time = pa.array(steps[kept]).cast(TICK_SCHEMA.field("time").type)
                key = {"symbol": pa.array([symbol] * len(kept), pa.string()), "time": time}
                return _answered(key, answer, kept)

            yield Request(body, stop - done, place, table)
            asked = until

    def _span(self, clock: Integers, asked: int, last: int, symbol: str) -> tuple[int, int, int]:
        """Find the ticks [first, stop) needed for the steps after ``asked``, and the last step."""
        memory = self._features.memory_seconds + 1
        first = int(np.searchsorted(clock, (asked - memory) * SECOND))
        until = min(asked + self._limits.rows, last)
        while True:
            stop = int(np.searchsorted(clock, until * SECOND, side="right"))
            if stop - first < self._limits.ticks:
                return first, stop, until
            if until == asked + 1:
                raise ClientError(
                    f"{self._path}: {symbol} has more than {self._limits.ticks - 1} ticks in "
                    f"{memory} s: too many for one request"
                )
            until = asked + max(1, (until - asked) // 2)


class Writer:
    """Write tables to a file that is created atomically when the block ends without an error."""

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
                if self._writer is None:
                    raise ClientError(
                        "nothing to score: there are no rows, or no step has the 300 s of history "
                        "that its baseline needs"
                    )
        finally:
            if self._writer is not None:
                self._writer.close()
                if kind is None:
                    os.replace(self._temporary, self._path)
                self._temporary.unlink(missing_ok=True)

    def write(self, table: pa.Table | None) -> None:
        """Add rows."""
        if table is None:
            return
        self._pending.append(table)
        self._pending_rows += len(table)
        self.rows += len(table)
        if self._pending_rows >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._pending_rows:
            return
        table = pa.concat_tables(self._pending)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._temporary, table.schema, compression="zstd")
        self._writer.write_table(table)
        self._pending, self._pending_rows = [], 0


def _answered(key: dict[str, pa.Array], answer: Answer, kept: npt.NDArray[np.int64]) -> pa.Table:
    """Return the selected rows of a response as a table, preceded by the key columns."""
    rows = len(kept)
    names = answer.forecasts[0].keys() if answer.forecasts else ()
    forecasts = {
        f"{field}_{name}": np.array([getattr(row[name], field) for row in answer.forecasts])[kept]
        for field in ("volatility_bps", "spike_level_bps")
        for name in names
    }
    return pa.table(
        {
            **key,
            **forecasts,
            "score": np.array(answer.scores)[kept],
            "spike": np.array(answer.spike)[kept],
            "out_of_distribution": np.array(answer.out_of_distribution)[kept],
            "threshold": np.full(rows, answer.threshold),
            "model_name": pa.array([answer.model_name] * rows, pa.string()),
            "model_version": pa.array([answer.model_version] * rows, pa.string()),
            "model_variant": pa.array([answer.model_variant] * rows, pa.string()),
        }
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind))


def _as_ticks(path: Path, file: pq.ParquetFile) -> pa.Table:
    """Read the tick columns as ``TICK_SCHEMA``; absent columns become null."""
    present = [field for field in TICK_SCHEMA if field.name in file.schema_arrow.names]
    table = file.read(columns=[field.name for field in present])
    columns = []
    for field in TICK_SCHEMA:
        if field not in present:
            columns.append(pa.nulls(len(table), field.type))
            continue
        column = table.column(field.name)
        try:
            columns.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ClientError(f"{path}: column {field.name!r}: {error}") from error
        if not field.nullable and column.null_count:
            place = int(np.flatnonzero(np.asarray(column.is_null()))[0])
            raise ClientError(f"{path}: row {place}, {field.name}: is missing")
    return pa.table(columns, schema=TICK_SCHEMA)
