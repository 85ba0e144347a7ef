"""Cut a Parquet file into requests that a service answers, and write the answers to another."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from service.client import ClientError, Limits, Scores
from volatility.baselines import BASELINE
from volatility.columns import to_records
from volatility.feature_table import FEATURE_NAMES, INDEX
from volatility.features import TICK_COLUMNS, feature_batches
from volatility.kernel_state import SECOND
from volatility.recordings import REQUIRED
from volatility.settings import Features
from volatility.tick import TICK_SCHEMA, Heartbeat, encode

Integers = npt.NDArray[np.int64]

KEPT = ("symbol", "time")  # columns of feature rows that go to the output as they are
GROUP_ROWS = 65_536  # rows at which the output's row groups are written


@dataclass(frozen=True)
class Request:
    """Hold one request, and how to read its answer.

    Parameters
    ----------
    body : bytes
        JSON; empty where there is nothing to ask.
    records : int
        Rows or ticks of the file that are done with it.
    place : callable
        Gives the file's row, counted from 0, for a row of the request.
    table : callable
        Lays an answer out as rows of the output.
    """

    body: bytes
    records: int
    place: Callable[[int], int]
    table: Callable[[Scores], pa.Table]


def open_source(path: Path, limits: Limits, features: Features) -> Rows | Ticks:
    """Open a file of feature rows or of ticks; its columns say which.

    Raises
    ------
    ClientError
        When it is neither, or no Parquet file.
    """
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ClientError(f"{path} is no Parquet file: {error}") from error
    columns = set(file.schema_arrow.names)
    ticks, rows = columns.issuperset(REQUIRED), not columns.isdisjoint(FEATURE_NAMES)
    if ticks == rows:
        kind = "both" if ticks else "neither"
        raise ClientError(
            f"{path} holds {kind} feature rows {'and' if ticks else 'nor'} ticks: rows have "
            f"features as columns (GET /version lists them), ticks have {', '.join(REQUIRED)}"
        )
    return Ticks(path, file, limits, features) if ticks else Rows(path, file, limits)


class Rows:
    """Cut feature rows into requests.

    A feature without a column, null and NaN are missing. Other columns than ``KEPT`` are refused:
    a misspelt feature would be missing too, and nobody would know.
    """

    route: Literal["/predict"] = "/predict"
    unit: Literal["rows"] = "rows"

    def __init__(self, path: Path, file: pq.ParquetFile, limits: Limits) -> None:
        schema = file.schema_arrow
        for field in schema:
            known = field.name in FEATURE_NAMES
            if not known and field.name not in KEPT:
                raise ClientError(f"{path}: column {field.name!r} is no feature: leave it out")
            if known and not _is_number(field.type):
                raise ClientError(f"{path}: column {field.name!r} holds no numbers: {field.type}")
        self.total = file.metadata.num_rows
        self._path, self._file, self._size = path, file, limits.rows
        self._kept = [name for name in KEPT if name in schema.names]
        self._features = [name for name in FEATURE_NAMES if name in schema.names]

    def requests(self) -> Iterator[Request]:
        """Give the requests, in order."""
        start = 0
        for batch in self._file.iter_batches(self._size):
            first = start

            def place(row: int, first: int = first) -> int:
                return first + row

            def table(answer: Scores, batch: pa.RecordBatch = batch) -> pa.Table:
                if len(answer.scores) != len(batch):
                    raise ClientError(
                        f"{len(batch)} rows got {len(answer.scores)} scores: check --url"
                    )
                kept = {name: batch.column(name) for name in self._kept}
                return _answered(kept, answer, np.arange(len(batch)))

            yield Request(self._body(batch, first), len(batch), place, table)
            start += len(batch)

    def _body(self, batch: pa.RecordBatch, first: int) -> bytes:
        rows: list[dict[str, float]] = [{} for _ in range(len(batch))]
        for name in self._features:
            values = batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
            endless = np.flatnonzero(np.isinf(values))
            if len(endless):
                raise ClientError(f"{self._path}: row {first + endless[0]}, {name}: is infinite")
            for place in np.flatnonzero(~np.isnan(values)).tolist():
                rows[place][name] = float(values[place])
        return msgspec.json.encode({"rows": rows})


class Ticks:
    """Cut ticks into requests, symbol by symbol.

    A request asks for as many steps as the service answers, and brings along the ticks of the
    feature memory before them: rows depend on nothing older, so that the scores are those of one
    pass over all ticks, bit for bit. The kernel is run here too, to know which step is answered.
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
        """Give the requests, in order."""
        symbols = self._table.column("symbol").combine_chunks().dictionary_encode()
        codes = symbols.indices.to_numpy()
        for code, symbol in enumerate(symbols.dictionary.to_pylist()):
            mine = np.flatnonzero(codes == code)
            yield from self._of_symbol(symbol, mine, self._table.take(mine))

    def _of_symbol(self, symbol: str, mine: Integers, ticks: pa.Table) -> Iterator[Request]:
        clock = np.maximum.accumulate(ticks.column("time").cast(pa.int64()).to_numpy())
        asked = int(clock[0] - 1) // SECOND  # steps up to this one are done
        last = int(clock[-1] - 1) // SECOND  # the newest step that the ticks close
        bodies: deque[bytes] = deque()
        first = stop = 0  # the ticks of ``bodies``
        while asked < last:
            before, done = first, stop
            first, stop, until = self._span(clock, asked, last, symbol)
            for _ in range(first - before):
                bodies.popleft()
            bodies.extend(encode(record) for record in to_records(ticks.slice(done, stop - done)))
            # It closes the newest step that is asked for, as the next tick would, and no other.
            closing = Heartbeat(symbol, until * SECOND + 1)
            steps, kept = self._steps(ticks.slice(first, stop - first), closing, asked)
            body = b'{"ticks":[' + b",".join([*bodies, encode(closing)]) + b"]}"

            def place(row: int, first: int = first) -> int:
                return int(mine[min(first + row, len(mine) - 1)])

            def table(answer: Scores, steps: Integers = steps, kept: Integers = kept) -> pa.Table:
                if len(answer.scores) != len(steps):
                    raise ClientError(
                        f"{symbol}: the service made {len(answer.scores)} rows of ticks that make "
                        f"{len(steps)} here: params.yaml is not the service's"
                    )
                time = pa.array(steps[kept]).cast(TICK_SCHEMA.field("time").type)
                key = {"symbol": pa.array([symbol] * len(kept)), "time": time}
                return _answered(key, answer, kept)

            yield Request(body if len(kept) else b"", stop - done, place, table)
            asked = until

    def _steps(self, ticks: pa.Table, closing: Heartbeat, asked: int) -> tuple[Integers, Integers]:
        """Give the steps that are answered, and the places of those that are new and warm."""
        end = pa.Table.from_pylist(
            [{"symbol": closing.symbol, "time": closing.time}], schema=TICK_SCHEMA
        )
        batches = pa.concat_tables([ticks, end]).select(list(TICK_COLUMNS)).to_batches()
        built = [
            (time.copy(), ~np.isnan(rows[:, INDEX[BASELINE]]))
            for time, rows in feature_batches(batches, self._features)
        ]
        empty = (np.empty(0, np.int64), np.empty(0, np.bool_))
        steps, warm = (
            np.concatenate(parts)[-self._limits.rows :] for parts in zip(empty, *built, strict=True)
        )
        start = int(np.argmax(warm)) if warm.any() else len(warm)
        steps, warm = steps[start:], warm[start:]
        return steps, np.flatnonzero(warm & (steps > asked * SECOND))

    def _span(self, clock: Integers, asked: int, last: int, symbol: str) -> tuple[int, int, int]:
        """Find the ticks [first, stop) that the steps after ``asked`` need, and the last step."""
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
    """Write tables to a file that appears as a whole, and only at the end of a block that held."""

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
                        "there is nothing to score: no row, or no step with the history that its "
                        "baseline needs (300 s)"
                    )
        finally:
            if self._writer is not None:
                self._writer.close()
                if kind is None:
                    os.replace(self._temporary, self._path)
                self._temporary.unlink(missing_ok=True)

    def write(self, table: pa.Table) -> None:
        """Add rows."""
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


def _answered(key: dict[str, pa.Array], answer: Scores, kept: npt.NDArray[np.int64]) -> pa.Table:
    """Lay out some rows of an answer behind the columns that say what they are scores of."""
    rows = len(kept)
    return pa.table(
        {
            **key,
            "score": np.array(answer.scores)[kept],
            "spike": np.array(answer.spike)[kept],
            "out_of_distribution": np.array(answer.out_of_distribution)[kept],
            "threshold": np.full(rows, answer.threshold),
            "model_name": pa.array([answer.model_name] * rows),
            "model_version": pa.array([answer.model_version] * rows),
            "model_variant": pa.array([answer.model_variant] * rows),
        }
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind))


def _as_ticks(path: Path, file: pq.ParquetFile) -> pa.Table:
    """Read the tick columns as ``TICK_SCHEMA``; those that are not there are null."""
    there = [field for field in TICK_SCHEMA if field.name in file.schema_arrow.names]
    table = file.read(columns=[field.name for field in there])
    columns = []
    for field in TICK_SCHEMA:
        if field not in there:
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
