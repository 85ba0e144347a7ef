"""Keep feature rows in Parquet: one file a symbol and UTC day, in time order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from volatility.feature_table import FEATURE_NAMES, INDEX
from volatility.kernel_state import SECOND

FILE = "features.parquet"
DAY_NS = 86_400 * SECOND
FEATURE_SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("ns", tz="UTC"), nullable=False),
        *(pa.field(name, pa.float64()) for name in FEATURE_NAMES),
    ]
)


class FeaturesError(ValueError):
    """Features that cannot be built or read; the text says why and what to do."""


class DayWriter:
    """Write rows in time order to one file a UTC day."""

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
        """Write int64[n] steps [ns] and float64[n, features] rows, later than all before."""
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
        # Doubles from a market hardly repeat: a dictionary costs time and saves nothing.
        self._writer = pq.ParquetWriter(
            path, FEATURE_SCHEMA, compression="lz4", use_dictionary=False, write_statistics=["time"]
        )


def to_batch(time: npt.NDArray[np.int64], rows: npt.NDArray[np.float64]) -> pa.RecordBatch:
    """Make a batch of ``FEATURE_SCHEMA``: int64[n] steps [ns], float64[n, features] rows."""
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
    """Hold the feature rows of one symbol: int64[n] steps [ns] and float64[n, features]."""

    symbol: str
    time: npt.NDArray[np.int64]
    rows: npt.NDArray[np.float64]

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """View one feature."""
        return self.rows[:, INDEX[name]]


def read_features(folder: Path, start_ns: int | None = None) -> list[FeatureFrame]:
    """Read a folder of features, one frame a symbol; only rows from ``start_ns`` on, if given.

    Raises
    ------
    FeaturesError
        When there are none, or they were built with another feature table.
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
                f"{path} was built with another feature table; run `volatility features`"
            )
        time, rows = _arrays(pa.concat_tables(tables or [FEATURE_SCHEMA.empty_table()]))
        first = 0 if start_ns is None else int(np.searchsorted(time, start_ns))
        if start_ns is None or first < len(time):
            symbol = path.name.removeprefix("symbol=")
            frames.append(FeatureFrame(symbol, time[first:], rows[first:]))
    if not frames:
        raise FeaturesError(f"{folder} holds no features; run `volatility features`")
    return frames


def newest_step(folder: Path) -> int:
    """Tell the newest step of a folder of features, nanoseconds since the epoch.

    Raises
    ------
    FeaturesError
        As ``read_features``.
    """
    newest = [_read(files[-1], ["time"]) for _, files in _symbols(folder) if files]
    if not newest:
        raise FeaturesError(f"{folder} holds no features; run `volatility features`")
    return max(int(table.column("time")[-1].value) for table in newest)


def read_rows(file: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Read one file: int64[n] steps [ns] and float64[n, features] rows.

    Raises
    ------
    FeaturesError
        When it is damaged.
    """
    return _arrays(_read(file))


def date_folder(time_ns: int) -> str:
    """Name the folder of a time's UTC date."""
    date = datetime.fromtimestamp(time_ns // SECOND, UTC).date()
    return f"date={date.isoformat()}"


def _symbols(folder: Path) -> list[tuple[Path, list[Path]]]:
    paths = sorted(folder.glob("symbol=*"))
    return [(path, sorted(path.glob(f"date=*/{FILE}"))) for path in paths]


def _read(file: Path, names: list[str] | None = None) -> pa.Table:
    try:
        return pq.ParquetFile(file).read(names)
    except (pa.ArrowInvalid, OSError) as error:
        raise FeaturesError(
            f"{file}: {error}; build it again with `volatility features`"
        ) from error


def _arrays(table: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    rows = np.column_stack([table.column(name).to_numpy() for name in FEATURE_NAMES])
    return table.column("time").cast(pa.int64()).to_numpy(), rows
