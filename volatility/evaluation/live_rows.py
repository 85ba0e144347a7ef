"""Align captured predictions with the feature rows of their steps and with outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from volatility.dataset import Dataset
from volatility.features import FeatureFrame
from volatility.lake import Lake
from volatility.models import Bundle
from volatility.records import PREDICTION_SCHEMA, volatility_of
from volatility.units import SECOND, Bools, Floats, Integers

STORED = ("time", "score", "model_version", "model_variant", "forecasts")


@dataclass(frozen=True)
class Live:
    """Represent a model that scores the stream: its role, version and bundle.

    ``name`` is ``champion``, ``challenger``, ``baseline`` or ``prior``.
    """

    name: str
    version: str
    bundle: Bundle


def captured_schema(horizons: Sequence[int]) -> pa.Schema:
    """Return the schema of ``read_captured``, with one volatility column per horizon [s]."""
    return pa.schema(
        [
            *(PREDICTION_SCHEMA.field(name) for name in STORED[:-1]),
            *(pa.field(f"volatility_bps_{horizon}s", pa.float64()) for horizon in horizons),
        ]
    )


def read_captured(
    folder: Path, frames: Sequence[FeatureFrame], start_ns: int, horizons: Sequence[int]
) -> dict[str, pa.Table]:
    """Read the predictions for the frames' symbols from a time on, batch by batch.

    A prediction without a forecast for a horizon has NaN there.
    """
    lake = Lake(folder, PREDICTION_SCHEMA)
    held = set(lake.symbols())
    schema = captured_schema(horizons)

    def batches(symbol: str) -> list[pa.RecordBatch]:
        found = []
        for batch in lake.scan(symbol, STORED, start_ns):
            volatility = volatility_of(batch.column("forecasts"), horizons)
            columns = [batch.column(name) for name in STORED[:-1]]
            columns += [pa.array(column) for column in volatility.T]
            found.append(pa.RecordBatch.from_arrays(columns, schema=schema))
        return found

    return {
        frame.symbol: pa.Table.from_batches(
            batches(frame.symbol) if frame.symbol in held else [], schema
        )
        for frame in frames
    }


def window_start(newest_ns: int, hours: float) -> int:
    """Return the first step of the measured hours, which end at the newest feature row."""
    return newest_ns - int(hours * 3600) * SECOND + SECOND


@dataclass(frozen=True)
class Streamed:
    """Represent a model's live predictions aligned with the feature rows; NaN if there is none.

    ``scores`` has float64[rows] and ``volatility_bps`` float64[rows, H] for each frame. ``newest``
    is the last predicted step [ns, 0 if none]. ``pending`` counts the predictions on the grid of
    training rows that are newer than the rows, ``unmatched`` those for steps without a row, and
    ``without_forecast`` those that predate the recording of forecasts.
    """

    scores: list[Floats]
    volatility_bps: list[Floats]
    newest: int
    pending: int
    unmatched: int
    without_forecast: int


def streamed(
    frames: Sequence[FeatureFrame],
    predictions: Mapping[str, pa.Table],
    model: Live,
    horizons: Sequence[int],
    stride_seconds: int,
) -> Streamed:
    """Align a model's live forecasts with the rows of their steps."""
    scores, volatilities = [], []
    newest = pending = unmatched = without = 0
    for frame in frames:
        table = predictions[frame.symbol]
        table = table.filter(_of(table, model))
        time = table.column("time").cast(pa.int64()).to_numpy()
        score = table.column("score").to_numpy()
        volatility = np.column_stack(
            [table.column(f"volatility_bps_{horizon}s").to_numpy() for horizon in horizons]
        )
        spoken = ~np.isnan(volatility[:, 0])
        without += int(np.sum(~spoken))
        time, score, volatility = time[spoken], score[spoken], volatility[spoken]
        place = np.minimum(np.searchsorted(frame.time, time), len(frame.time) - 1)
        there = frame.time[place] == time
        column = np.full(len(frame.time), np.nan)
        columns = np.full((len(frame.time), len(horizons)), np.nan)
        column[place[there]], columns[place[there]] = score[there], volatility[there]
        scores.append(column)
        volatilities.append(columns)
        newer = time > frame.time[-1]
        pending += int(np.sum(newer & on_grid(time, stride_seconds)))
        unmatched += int(np.sum(~there & ~newer))
        newest = max(newest, int(time.max(initial=0)))
    return Streamed(scores, volatilities, newest, pending, unmatched, without)


def gather(data: Dataset, frames: Sequence[FeatureFrame], columns: Sequence[Floats]) -> Floats:
    """Select the values of a dataset's rows from one column, or matrix, per frame."""
    result = np.full((len(data), *columns[0].shape[1:]), np.nan)
    places = {frame.symbol: number for number, frame in enumerate(frames)}
    for number, symbol in enumerate(data.symbols):
        mine = data.symbol == number
        frame = places[symbol]
        row = np.searchsorted(frames[frame].time, data.time[mine])
        result[mine] = columns[frame][row]
    return result


def on_grid(time: Integers, stride_seconds: int) -> Bools:
    """Return which steps [ns] lie on the grid of training rows."""
    result: Bools = time // SECOND % stride_seconds == 0
    return result


@dataclass(frozen=True)
class Parity:
    """Count live forecasts, and those that differ in any bit from those of the rebuilt rows."""

    rows: int
    differ: int
    without_a_row: int


def parity(
    frames: Sequence[FeatureFrame],
    models: Sequence[Live],
    said: Mapping[str, Streamed],
    horizons: Sequence[int],
) -> Parity:
    """Compare every live forecast with the forecast for its rebuilt feature row."""
    rows = differ = 0
    for model in models:
        mine = said[model.name]
        own = model.bundle.specification.horizons
        shared = [(here, own.index(h)) for here, h in enumerate(horizons) if h in own]
        for frame, scores, volatility in zip(frames, mine.scores, mine.volatility_bps, strict=True):
            made = np.flatnonzero(~np.isnan(scores))
            place = np.repeat(model.bundle.places([frame.symbol]), len(made))
            rebuilt = model.bundle.forecast(frame.rows[made], place)
            wrong = rebuilt.exceedance[:, 0] != scores[made]
            for here, there in shared:
                wrong |= rebuilt.volatility_bps[:, there] != volatility[made, here]
            rows += len(made)
            differ += int(np.sum(wrong))
    return Parity(rows, differ, sum(one.unmatched for one in said.values()))


def others(predictions: Mapping[str, pa.Table], models: Sequence[Live]) -> dict[str, int]:
    """Count the predictions of versions, or of their variants, that are no longer live."""
    counts: Counter[str] = Counter()
    live = {(model.version, model.bundle.variant) for model in models}
    for table in predictions.values():
        pairs = ["model_version", "model_variant"]
        for found in table.group_by(pairs).aggregate([([], "count_all")]).to_pylist():
            version, variant = found["model_version"], found["model_variant"]
            if (version, variant) not in live:
                counts[f"version {version} as {variant}"] += found["count_all"]
    return dict(sorted(counts.items()))


def _of(table: pa.Table, model: Live) -> pa.ChunkedArray:
    """Return a mask of the predictions made by a model."""
    version = pc.equal(table.column("model_version"), model.version)
    return pc.and_(version, pc.equal(table.column("model_variant"), model.bundle.variant))
