"""Train walk-forward: one model a fold, scored on the rows after it; the last is the product."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from volatility.baselines import NAMES, baseline_scores
from volatility.bundle import Bundle
from volatility.dataset import Dataset
from volatility.feature_table import LONGEST_WINDOW_SECONDS
from volatility.model import TrainingError, fit_bundle
from volatility.settings import Settings
from volatility.splits import walk_forward

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MODELS = ("ml", *NAMES)
LEAST_ROWS = 3600  # labelled rows: with an hour of them no fold can fit, calibrate and test


@dataclass(frozen=True)
class Predictions:
    """Hold out-of-sample scores: each row was scored by models that had not seen it.

    ``data`` are the rows, ``fold`` int64[n] who scored them, ``tau`` and ``threshold``
    float64[n] the label's and the decision's thresholds of that fold, ``scores`` float64[n]
    by model.
    """

    data: Dataset
    fold: Integers
    tau: Floats
    threshold: Floats
    scores: dict[str, Floats]

    @property
    def spikes(self) -> npt.NDArray[np.bool_]:
        """Tell which rows were followed by a spike: bool[n]."""
        return self.data.values >= self.tau

    def take(self, chosen: Integers) -> Predictions:
        """Keep some rows, by number."""
        return Predictions(
            self.data.take(chosen),
            self.fold[chosen],
            self.tau[chosen],
            self.threshold[chosen],
            {name: score[chosen] for name, score in self.scores.items()},
        )


@dataclass(frozen=True)
class FoldSummary:
    """Hold what a fold was trained on."""

    fold: int
    train_rows: int
    train_stop: int


@dataclass(frozen=True)
class Training:
    """Hold the last fold's bundle and every fold's out-of-sample predictions."""

    bundle: Bundle
    predictions: Predictions
    folds: tuple[FoldSummary, ...]


def score_all(bundle: Bundle, data: Dataset, fold: int = 0) -> Predictions:
    """Score rows with a bundle's model and with its baselines."""
    spec = bundle.specification
    scores = {"ml": bundle.as_variant("ml").score(data.rows)}
    scores |= baseline_scores(data, list(spec.baselines), spec.horizon_seconds)
    return Predictions(
        data=data,
        fold=np.full(len(data), fold, dtype=np.int64),
        tau=np.full(len(data), spec.tau),
        threshold=np.full(len(data), spec.threshold),
        scores=scores,
    )


def train(data: Dataset, settings: Settings, *, progress: bool = True) -> Training:
    """Train and score every walk-forward fold.

    The model of the last fold is the one to register: its test rows are held out from it.

    Raises
    ------
    TrainingError, SplitError
        When there are too few rows, or too few spikes among them.
    """
    if len(data) < LEAST_ROWS:
        raise TrainingError(
            f"{len(data)} labelled rows are too few to train on (at least {LEAST_ROWS}): "
            "record or simulate at least two hours of ticks"
        )
    folds = walk_forward(
        data.time, settings.train.folds, settings.label.horizon_seconds, LONGEST_WINDOW_SECONDS
    )
    parts, summaries, bundles = [], [], []
    bar = tqdm(folds, desc="folds", unit=" fold", disable=None if progress else True)
    for number, fold in enumerate(bar, start=1):
        # One thread: on a busy machine several wait for each other (19 ms for 1 ms of work),
        # and sums in another order would be another model.
        with threadpool_limits(1):
            bundles.append(fit_bundle(data.take(fold.train), settings))
        parts.append(score_all(bundles[-1], data.take(fold.test), number))
        summaries.append(FoldSummary(number, len(fold.train), int(data.time[fold.train[-1]])))
    return Training(bundles[-1], concatenate(parts), tuple(summaries))


def concatenate(parts: list[Predictions]) -> Predictions:
    """Join predictions of rows that follow each other."""
    data = parts[0].data
    return Predictions(
        Dataset(
            data.symbols,
            np.concatenate([p.data.symbol for p in parts]),
            np.concatenate([p.data.time for p in parts]),
            np.concatenate([p.data.rows for p in parts]),
            np.concatenate([p.data.values for p in parts]),
            data.frames,
            np.concatenate([p.data.frame_row for p in parts]),
        ),
        np.concatenate([p.fold for p in parts]),
        np.concatenate([p.tau for p in parts]),
        np.concatenate([p.threshold for p in parts]),
        {name: np.concatenate([p.scores[name] for p in parts]) for name in MODELS},
    )


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Store out-of-sample scores as Parquet, for whoever wants to check the evaluation."""
    data = predictions.data
    names = np.array(data.symbols)
    table = pa.table(
        {
            "symbol": names[data.symbol],
            "time": pa.array(data.time).cast(pa.timestamp("ns", tz="UTC")),
            "fold": predictions.fold,
            "value": data.values,
            "tau": predictions.tau,
            "threshold": predictions.threshold,
            **predictions.scores,
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    pq.write_table(table, temporary, compression="zstd")
    os.replace(temporary, path)


def read_predictions(path: Path, data: Dataset) -> Predictions:
    """Read stored scores back onto the rows of ``data`` that they belong to.

    Raises
    ------
    TrainingError
        When there are none, or the features have changed since.
    """
    if not path.exists():
        raise TrainingError(f"{path} does not exist; run `volatility train`")
    try:
        table = pq.read_table(
            path, columns=["symbol", "time", "fold", "value", "tau", "threshold", *MODELS]
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise TrainingError(f"{path} is damaged ({error}); run `volatility train`") from error
    time = table.column("time").cast(pa.int64()).to_numpy()
    places = {name: place for place, name in enumerate(data.symbols)}
    symbol = np.array([places.get(name, -1) for name in table.column("symbol").to_pylist()])
    known = {key: row for row, key in enumerate(zip(data.symbol, data.time, strict=True))}
    rows = np.array([known.get(key, -1) for key in zip(symbol, time, strict=True)], dtype=np.int64)
    chosen = data.take(np.maximum(rows, 0))
    if (rows < 0).any() or not np.array_equal(chosen.values, table.column("value").to_numpy()):
        raise TrainingError("the features have changed since training; run `volatility train`")
    return Predictions(
        data=chosen,
        fold=table.column("fold").to_numpy(),
        tau=table.column("tau").to_numpy(),
        threshold=table.column("threshold").to_numpy(),
        scores={name: table.column(name).to_numpy() for name in MODELS},
    )
