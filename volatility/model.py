"""Fit the classifier, calibrate it on rows it was not fitted on, and set its threshold."""

from __future__ import annotations

import importlib.metadata
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from volatility import trees
from volatility.baselines import ROW_BASELINES, fit_baselines
from volatility.bundle import FORMAT, INPUT_COLUMNS, Bundle, Provenance, Specification
from volatility.dataset import Dataset
from volatility.events import threshold_for_budget
from volatility.feature_table import LONGEST_WINDOW_SECONDS, MODEL_INPUTS, table_digest
from volatility.labels import spike_threshold
from volatility.metrics import average_precision
from volatility.settings import Settings, Train
from volatility.splits import calibration_split

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PACKAGES = ("numpy", "numba", "scikit-learn", "pyarrow", "pandas", "mlflow", "bentoml", "evidently")
LARGEST = float(np.finfo(np.float64).max)  # JSON has no infinity
EXAMPLES = 8  # rows stored with their scores, for the self-test at loading


class TrainingError(ValueError):
    """Rows that cannot train a model; the text says what is missing."""


def fit_bundle(data: Dataset, settings: Settings) -> Bundle:
    """Train on labelled rows: threshold of the label, trees, calibration, baselines, alerts.

    The rows are split in time: the trees and the baselines are fitted on the first part;
    calibration, decision threshold and the choice of the best baseline use the last
    ``calibration_share`` of the rows, an embargo later.

    Raises
    ------
    TrainingError
        When one of the two parts lacks spikes or calm rows.
    """
    label, options = settings.label, settings.train
    horizon = label.horizon_seconds
    tau = spike_threshold(data.values, label)
    spikes = data.values >= tau
    split = calibration_split(data.time, options.calibration_share, horizon, LONGEST_WINDOW_SECONDS)
    fit, calibration = data.take(split.train), data.take(split.test)
    fit_spikes, calibration_spikes = spikes[split.train], spikes[split.test]
    for part, name in ((fit_spikes, "fitting"), (calibration_spikes, "calibration")):
        if part.all() or not part.any():
            raise TrainingError(
                f"the {len(part)} rows for {name} hold {int(part.sum())} spikes; both kinds are "
                "needed: record or simulate more ticks"
            )

    model = fit_trees(fit.rows[:, INPUT_COLUMNS], fit_spikes, options)
    raw = model.raw(calibration.rows[:, INPUT_COLUMNS])
    slope, intercept = _calibrate(raw, calibration_spikes)
    scores = trees.sigmoid(raw, slope, intercept)

    baselines = fit_baselines(fit, fit_spikes, label)
    by_name = {b.name: b.score(calibration.rows) for b in baselines if b.name in ROW_BASELINES}
    best = max(by_name, key=lambda name: average_precision(calibration_spikes, by_name[name]))
    budget = options.alerts_per_hour

    inputs = data.rows[:, INPUT_COLUMNS]
    missing = np.isnan(inputs)
    examples = data.rows[np.linspace(0, len(data) - 1, EXAMPLES).astype(int)]
    bundle = Bundle(
        Specification(
            format=FORMAT,
            feature_digest=table_digest(),
            inputs=MODEL_INPUTS,
            label_kind=label.kind,
            horizon_seconds=horizon,
            tau=tau,
            slope=slope,
            intercept=intercept,
            threshold=threshold_for_budget(calibration, scores, budget, horizon),
            baselines=tuple(baselines),
            best_baseline=best,
            baseline_threshold=threshold_for_budget(calibration, by_name[best], budget, horizon),
            base_rate=float(spikes.mean()),
            # An input that was never there has an empty range: any value is out of it.
            lowest=tuple(np.where(missing, LARGEST, inputs).min(axis=0).tolist()),
            highest=tuple(np.where(missing, -LARGEST, inputs).max(axis=0).tolist()),
            may_be_missing=tuple(bool(column.any()) for column in missing.T),
            train_start=int(data.time[0]),
            train_stop=int(data.time[-1]),
            train_rows=len(data),
            symbols=data.symbols,
            data_digest=data.digest(),
            parameters=msgspec.to_builtins(
                {"features": settings.features, "label": label, "train": options}
            ),
            example_rows=tuple(
                tuple(None if np.isnan(v) else float(v) for v in row) for row in examples
            ),
            example_scores=(),
            provenance=provenance(),
        ),
        model,
    )
    scored = tuple(bundle.score(examples).tolist())
    return Bundle(msgspec.structs.replace(bundle.specification, example_scores=scored), model)


def fit_trees(inputs: Floats, spikes: Bools, options: Train) -> trees.Trees:
    """Fit the gradient-boosted trees on float64[n, inputs] rows and bool[n] spikes."""
    classifier = HistGradientBoostingClassifier(
        learning_rate=options.learning_rate,
        max_iter=options.iterations,
        max_leaf_nodes=options.max_leaf_nodes,
        min_samples_leaf=options.min_samples_leaf,
        l2_regularization=options.l2_regularization,
        early_stopping=False,  # its random inner split would leak between overlapping windows
        random_state=options.seed,
    )
    return trees.from_classifier(classifier.fit(inputs, spikes))


def _calibrate(raw: Floats, spikes: Bools) -> tuple[float, float]:
    """Fit slope and intercept of Platt's sigmoid; the slope is kept from turning the order round.

    Two parameters, because the calibration rows hold few independent windows (Platt, 1999).
    """
    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(raw[:, None], spikes)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope > 0.0:
        return slope, intercept
    # No skill on the calibration rows: keep the order, and the spread as small as it deserves.
    rate = float(spikes.mean())
    return 1e-3, float(np.log(rate / (1.0 - rate)) - 1e-3 * raw.mean())


def provenance() -> Provenance:
    """Say when, at which commit and with which packages a model is made."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        git_commit=commit,
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )
