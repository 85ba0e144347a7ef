"""Collect every model's predictions of rows that it had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from volatility import memory
from volatility.dataset import Dataset, walk_forward
from volatility.evaluation.scores import crps, pit_bounds
from volatility.features import LONGEST_WINDOW_SECONDS
from volatility.files import replacing
from volatility.models import (
    LEVEL_QUANTILES,
    LEVELS,
    QUANTILES,
    Bundle,
    Prior,
    TrainingError,
    fit_bundle,
)
from volatility.settings import Settings
from volatility.units import SECOND, Floats, Integers

LEAST_ROWS = 240  # an hour: with fewer, no fold can fit, validate and test
STORED_ROWS = 16_384  # rows converted to a table at a time
BASELINE = "baseline"  # the best simple forecast, chosen on each fold's training rows


@dataclass(frozen=True)
class Said:
    """Represent one model's predictions of n rows and their losses.

    ``volatility_bps``, ``score`` and ``crps_bps`` are float64[n, H]: forecast, probability of a
    spike, and loss of the whole distribution at each horizon. At the first horizon,
    ``quantiles_bps`` is float64[n, 5], ``exceedance`` float64[n, L] the probability of each
    quantile level, ``pit`` float64[n, 2] the levels between which the outcome lies, and
    ``threshold`` float64[n] the alert threshold of the score.
    """

    volatility_bps: Floats
    score: Floats
    crps_bps: Floats
    quantiles_bps: Floats
    exceedance: Floats
    pit: Floats
    threshold: Floats

    def take(self, chosen: Integers) -> Said:
        """Return a subset of rows, by index."""
        return Said(*(getattr(self, field.name)[chosen] for field in fields(self)))


@dataclass(frozen=True)
class Predictions:
    """Represent out-of-sample predictions: each row is predicted by models that had not seen it.

    ``data`` are the rows, ``fold`` int64[n] the fold whose models predicted them,
    ``spike_level_bps`` float64[n, H] and ``quantile_level_bps`` float64[n, L] the levels of that
    fold, and ``said`` each model's predictions. ``simple`` names the simple forecast chosen in each
    fold, in order.
    """

    data: Dataset
    fold: Integers
    spike_level_bps: Floats
    quantile_level_bps: Floats
    said: dict[str, Said]
    simple: tuple[str, ...]

    @property
    def realised_bps(self) -> Floats:
        """Forward volatility in basis points over each horizon: float64[n, H]."""
        return realised_bps(self.data)

    def take(self, chosen: Integers) -> Predictions:
        """Return some rows, by number."""
        return replace(
            self,
            data=self.data.take(chosen),
            fold=self.fold[chosen],
            spike_level_bps=self.spike_level_bps[chosen],
            quantile_level_bps=self.quantile_level_bps[chosen],
            said={name: said.take(chosen) for name, said in self.said.items()},
        )


@dataclass(frozen=True)
class FoldSummary:
    """Represent a fold's training data and the simple forecast chosen on it."""

    fold: int
    train_rows: int
    train_stop: int
    best_simple: str


@dataclass(frozen=True)
class WalkForward:
    """Represent the predictions of all folds, and summaries of the folds."""

    predictions: Predictions
    folds: tuple[FoldSummary, ...]


def realised_bps(data: Dataset) -> Floats:
    """Return forward volatility in basis points over each horizon: float64[n, H]."""
    result: Floats = np.sqrt(data.variance * np.array(data.horizons)) * 1e4
    return result


def walk_forward_predictions(
    data: Dataset, settings: Settings, prior: Prior, *, progress: bool = True
) -> WalkForward:
    """Fit a bundle before each fold, and predict the fold with all its models.

    Raises
    ------
    TrainingError, SplitError
        If there are too few rows.
    """
    require_rows(data)
    folds = walk_forward(data.time, settings.train.folds, data.horizons[-1], LONGEST_WINDOW_SECONDS)
    parts, summaries = [], []
    bar = tqdm(folds, desc="folds", unit=" fold", disable=None if progress else True)
    for number, fold in enumerate(bar, start=1):
        bundle = fit_bundle(data.take(fold.train), settings, prior)
        parts.append(predict(bundle, data.take(fold.test), number))
        summaries.append(
            FoldSummary(
                number,
                len(fold.train),
                int(data.time[fold.train[-1]]),
                bundle.specification.best_simple,
            )
        )
        memory.trim()  # a fit takes more than what it leaves
    tested = data.take(np.concatenate([fold.test for fold in folds]))
    return WalkForward(concatenate(tested, parts), tuple(summaries))


def require_rows(data: Dataset) -> None:
    """Check that there are enough rows to evaluate a recipe.

    Raises
    ------
    TrainingError
        If there are not.
    """
    if len(data) < LEAST_ROWS:
        raise TrainingError(
            f"{len(data)} labelled rows are too few to train on (at least {LEAST_ROWS}): "
            "record or simulate at least two hours of ticks"
        )


def predict(bundle: Bundle, data: Dataset, fold: int = 0) -> Predictions:
    """Predict the rows with every model of a bundle, and with its best simple one as baseline."""
    spec = bundle.specification
    place = bundle.places(data.symbols)[data.symbol]
    levels = np.array(spec.spike_levels_bps)[place]
    quantile_levels = np.array(spec.quantile_levels_bps)[place]
    real = realised_bps(data)
    said = {name: _said(bundle, name, data, place, quantile_levels, real) for name in spec.models}
    if spec.best_simple:
        threshold = np.full(len(data), spec.thresholds[BASELINE])
        said[BASELINE] = replace(said[spec.best_simple], threshold=threshold)
    return Predictions(
        data, np.full(len(data), fold, dtype=np.int64), levels, quantile_levels, said,
        (spec.best_simple,),
    )  # fmt: skip


def _said(
    bundle: Bundle, name: str, data: Dataset, place: Integers, levels: Floats, real: Floats
) -> Said:
    forecaster, bps = bundle.forecasters[name], bundle.bps
    made = forecaster.forecast(data.rows, place, bundle.spike_levels, bps)
    loss = np.empty_like(real)
    levels_at = np.empty((len(data), 2))
    for h in range(len(data.horizons)):
        quantiles = forecaster.distribution(data.rows, place, h) * bps[h]
        loss[:, h] = crps(quantiles, LEVELS, real[:, h])
        if h == 0:
            levels_at = pit_bounds(quantiles, LEVELS, real[:, h])
    exceedance = np.column_stack(
        [
            forecaster.exceedance(data.rows, place, 0, levels[:, k] / bps[0])
            for k in range(len(LEVEL_QUANTILES))
        ]
    )
    # A forecast that never serves has no threshold.
    threshold = bundle.specification.thresholds.get(name, np.nan)
    return Said(
        made.volatility_bps, made.exceedance, loss, made.quantiles_bps[:, 0], exceedance,
        levels_at, np.full(len(data), threshold),
    )  # fmt: skip


def concatenate(data: Dataset, parts: Sequence[Predictions]) -> Predictions:
    """Concatenate predictions of consecutive rows of ``data``, and empty the parts.

    The models' predictions are removed from the parts as they are joined: for a month of two
    symbols, both copies together would take a gigabyte.
    """

    def joined(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    said = {}
    for name in list(parts[0].said):
        taken = [part.said.pop(name) for part in parts]
        said[name] = Said(
            *(np.concatenate([getattr(one, field.name) for one in taken]) for field in fields(Said))
        )
    return Predictions(
        data, joined("fold"), joined("spike_level_bps"), joined("quantile_level_bps"), said,
        tuple(name for part in parts for name in part.simple),
    )  # fmt: skip


def unseen(bundle: Bundle, time: Integers) -> Integers:
    """Return the indices of rows whose windows do not overlap the bundle's training rows."""
    spec = bundle.specification
    margin = (spec.horizons[-1] + LONGEST_WINDOW_SECONDS) * SECOND
    return np.flatnonzero((time < spec.train_start - margin) | (time > spec.train_stop + margin))


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write predictions to Parquet, so that the evaluation can be verified."""
    first = _table(predictions.take(np.arange(0)))
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, first.schema, compression="zstd") as writer,
    ):
        for start in range(0, len(predictions.data), STORED_ROWS):
            stop = min(start + STORED_ROWS, len(predictions.data))
            writer.write_table(_table(predictions.take(np.arange(start, stop))))


def _table(predictions: Predictions) -> pa.Table:
    data = predictions.data
    columns: dict[str, Any] = {
        "symbol": np.array(data.symbols)[data.symbol],
        "time": pa.array(data.time).cast(pa.timestamp("ns", tz="UTC")),
        "fold": predictions.fold,
    }
    for h, horizon in enumerate(data.horizons):
        columns[f"realised_bps_{horizon}s"] = predictions.realised_bps[:, h]
        columns[f"spike_level_bps_{horizon}s"] = predictions.spike_level_bps[:, h]
    for k, level in enumerate(LEVEL_QUANTILES):
        columns[f"level_bps_{level:g}"] = predictions.quantile_level_bps[:, k]
    for name, said in predictions.said.items():
        for h, horizon in enumerate(data.horizons):
            columns[f"{name}.volatility_bps_{horizon}s"] = said.volatility_bps[:, h]
            columns[f"{name}.score_{horizon}s"] = said.score[:, h]
            columns[f"{name}.crps_bps_{horizon}s"] = said.crps_bps[:, h]
        for k, level in enumerate(QUANTILES):
            columns[f"{name}.quantile_bps_{level:g}"] = said.quantiles_bps[:, k]
        for k, level in enumerate(LEVEL_QUANTILES):
            columns[f"{name}.exceedance_{level:g}"] = said.exceedance[:, k]
        columns[f"{name}.pit_low"], columns[f"{name}.pit_high"] = said.pit.T
        columns[f"{name}.threshold"] = said.threshold
    return pa.table(columns)


def read_predictions(path: Path, data: Dataset, simple: Sequence[str]) -> Predictions:
    """Read stored predictions and match them with the rows of ``data``.

    Raises
    ------
    TrainingError
        If there are none, or the features have changed since.
    """
    if not path.exists():
        raise TrainingError(f"{path} does not exist; run `volatility train`")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise TrainingError(f"{path} is damaged ({error}); run `volatility train`") from error
    changed = TrainingError("the features have changed since training; run `volatility train`")
    time = table.column("time").cast(pa.int64()).to_numpy()
    places = {name: place for place, name in enumerate(data.symbols)}
    symbol = np.array([places.get(name, -1) for name in table.column("symbol").to_pylist()])
    # Rows are sorted by time, then symbol, so the pair encoded as one number locates each row.
    width = len(data.symbols) + 1
    wanted, there = _key(time, symbol, width), _key(data.time, data.symbol, width)
    row = np.minimum(np.searchsorted(there, wanted), len(there) - 1)
    if not len(there) or (there[row] != wanted).any():
        raise changed

    def matrix(names: list[str]) -> Floats:
        try:
            return np.column_stack([table.column(name).to_numpy() for name in names])
        except KeyError as error:
            raise changed from error

    chosen = data.take(row)
    horizons = [f"{horizon}s" for horizon in data.horizons]
    stored = matrix([f"realised_bps_{h}" for h in horizons])
    known = ~np.isnan(stored)
    if not np.array_equal(stored[known], realised_bps(chosen)[known]):
        raise changed
    # Outcomes that became known later were not evaluated.
    chosen = replace(chosen, variance=np.where(known, chosen.variance, np.nan))
    end = ".pit_low"
    models = [name.removesuffix(end) for name in table.column_names if name.endswith(end)]
    said = {
        name: Said(
            matrix([f"{name}.volatility_bps_{h}" for h in horizons]),
            matrix([f"{name}.score_{h}" for h in horizons]),
            matrix([f"{name}.crps_bps_{h}" for h in horizons]),
            matrix([f"{name}.quantile_bps_{level:g}" for level in QUANTILES]),
            matrix([f"{name}.exceedance_{level:g}" for level in LEVEL_QUANTILES]),
            matrix([f"{name}.pit_low", f"{name}.pit_high"]),
            matrix([f"{name}.threshold"])[:, 0],
        )
        for name in models
    }
    return Predictions(
        chosen, table.column("fold").to_numpy(),
        matrix([f"spike_level_bps_{h}" for h in horizons]),
        matrix([f"level_bps_{level:g}" for level in LEVEL_QUANTILES]),
        said, tuple(simple),
    )  # fmt: skip


def _key(time: Integers, symbol: Integers, width: int) -> Integers:
    result: Integers = time // SECOND * width + symbol
    return result
