"""Store feature rows in Parquet: one file per symbol and UTC day, in time order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from volatility.features.table import FEATURE_NAMES, INDEX
from volatility.units import DAY_NS, SECOND, parse_iso

FILE = "features.parquet"
FEATURE_SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("ns", tz="UTC"), nullable=False),
        *(pa.field(name, pa.float64()) for name in FEATURE_NAMES),
    ]
)


class FeaturesError(ValueError):
    """Features cannot be built or read; the message says why and what to do."""


class DayWriter:
    """Write rows in time order to one file per UTC day."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._day = -1
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> DayWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, time: npt.NDArray[np.int64], rows: npt.NDArray[np.float64]) -> None:
        """Write int64[n] steps [ns] and float64[n, features] rows, later than all previous ones."""
        if not len(time):
            return
        days = time // DAY_NS
        edges = [0, *(np.flatnonzero(np.diff(days)) + 1), len(time)]
        for first, last in pairwise(edges):
            if days[first] != self._day:
                self._open(int(days[first]))
            assert self._writer is not None
            self._writer.write_batch(to_batch(time[first:last], rows[first:last]))

    def _open(self, day: int) -> None:
        self.__exit__()
        path = self._folder / date_folder(day * DAY_NS) / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        self._day = day
        # Market data hardly repeats as doubles: a dictionary costs time and saves nothing.
        self._writer = pq.ParquetWriter(
            path, FEATURE_SCHEMA, compression="lz4", use_dictionary=False, write_statistics=["time"]
        )


def to_batch(time: npt.NDArray[np.int64], rows: npt.NDArray[np.float64]) -> pa.RecordBatch:
    """Build a ``FEATURE_SCHEMA`` batch from int64[n] steps [ns] and float64[n, features] rows."""
    values = np.ascontiguousarray(rows.T)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(time).cast(FEATURE_SCHEMA.field("time").type),
            *(pa.array(column) for column in values),
        ],
        schema=FEATURE_SCHEMA,
    )


@dataclass(frozen=True)
class FeatureFrame:
    """Represent the feature rows of one symbol: int64[n] steps [ns] and float64[n, features]."""

    symbol: str
    time: npt.NDArray[np.int64]
    rows: npt.NDArray[np.float64]

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """Return a view of one feature."""
        return self.rows[:, INDEX[name]]


def read_features(folder: Path, start_ns: int | None = None) -> list[FeatureFrame]:
    """Read a folder of features, one frame per symbol; if given, only rows from ``start_ns`` on.

    Raises
    ------
    FeaturesError
        When there are none, or they were built with a different feature table.
    """
    frames = []
    for path, files in _symbols(folder):
        tables = [
            _read(file)
            for file in files
            if start_ns is None or date_folder(start_ns) <= file.parent.name
        ]
        if any(table.schema.names != FEATURE_SCHEMA.names for table in tables):
            raise FeaturesError(
                f"{path} was built with a different feature table; run `volatility features`"
            )
        time, rows = _arrays(pa.concat_tables(tables or [FEATURE_SCHEMA.empty_table()]))
        first = 0 if start_ns is None else int(np.searchsorted(time, start_ns))
        if start_ns is None or first < len(time):
            symbol = path.name.removeprefix("symbol=")
            frames.append(FeatureFrame(symbol, time[first:], rows[first:]))
    if not frames:
        raise FeaturesError(f"{folder} contains no features; run `volatility features`")
    return frames


def day_frames(
    folder: Path,
) -> tuple[dict[str, Callable[[int], Iterator[FeatureFrame]]], int]:
    """Return, by symbol, a reader of its days one by one from a time [ns] on; and the newest step.

    Raises
    ------
    FeaturesError
        As ``read_features``.
    """
    newest = newest_step(folder)

    def reader(files: list[Path]) -> Callable[[int], Iterator[FeatureFrame]]:
        def frames(start_ns: int) -> Iterator[FeatureFrame]:
            symbol = files[0].parent.parent.name.removeprefix("symbol=")
            for file in files:
                if date_folder(max(start_ns, 0)) <= file.parent.name:
                    table = _read(file)
                    if table.schema.names != FEATURE_SCHEMA.names:
                        raise FeaturesError(
                            f"{file.parent} was built with a different feature table; "
                            "run `volatility features`"
                        )
                    time, rows = _arrays(table)
                    first = int(np.searchsorted(time, start_ns))
                    yield FeatureFrame(symbol, time[first:], rows[first:])

        return frames

    found = {path.name.removeprefix("symbol="): files for path, files in _symbols(folder) if files}
    return {symbol: reader(files) for symbol, files in found.items()}, newest


def newest_step(folder: Path) -> int:
    """Return the newest step in a folder of features, nanoseconds since the epoch.

    Raises
    ------
    FeaturesError
        As ``read_features``.
    """
    newest = [_read(files[-1], ["time"]) for _, files in _symbols(folder) if files]
    if not newest:
        raise FeaturesError(f"{folder} contains no features; run `volatility features`")
    return max(int(table.column("time")[-1].value) for table in newest)


def window_start(folder: Path, days: float) -> int:
    """Return the time [ns] from which on the newest days of a folder lie.

    Days without any row do not count, so a pause of the recorder does not shorten the window.

    Raises
    ------
    FeaturesError
        As ``read_features``.
    """
    start_ns = newest_step(folder) - int(days * DAY_NS)
    first = date_folder(start_ns)
    dates = sorted({file.parent.name for _, files in _symbols(folder) for file in files})
    older = [date for date in dates if date < first]
    missing = int(days) - (len(dates) - len(older) - 1)
    if missing <= 0 or not older:
        return start_ns
    return parse_iso(older[-missing:][0].removeprefix("date="))


def read_rows(file: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Read one file: int64[n] steps [ns] and float64[n, features] rows.

    Raises
    ------
    FeaturesError
        When the file is damaged.
    """
    return _arrays(_read(file))


def date_folder(time_ns: int) -> str:
    """Return the name of the folder for a time's UTC date."""
    date = datetime.fromtimestamp(time_ns // SECOND, UTC).date()
    return f"date={date.isoformat()}"


def holds_rows(folder: Path) -> bool:
    """Return whether a folder has feature rows of any symbol."""
    return any(files for _, files in _symbols(folder))


def _symbols(folder: Path) -> list[tuple[Path, list[Path]]]:
    paths = sorted(folder.glob("symbol=*"))
    return [(path, sorted(path.glob(f"date=*/{FILE}"))) for path in paths]


def _read(file: Path, names: list[str] | None = None) -> pa.Table:
    try:
        return pq.ParquetFile(file).read(names)
    except (pa.ArrowInvalid, OSError) as error:
        raise FeaturesError(f"{file}: {error}; rebuild it with `volatility features`") from error


def _arrays(table: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    rows = np.column_stack([table.column(name).to_numpy() for name in FEATURE_NAMES])
    return table.column("time").cast(pa.int64()).to_numpy(), rows
