"""Evaluate out-of-sample predictions: one leaderboard on the same rows for every model."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_curve

from volatility.baselines import NAMES
from volatility.bundle import INPUT_COLUMNS, Bundle
from volatility.dataset import Dataset, runs
from volatility.events import alert_metrics, threshold_for_budget
from volatility.feature_table import LONGEST_WINDOW_SECONDS, MODEL_INPUTS
from volatility.kernel_state import SECOND
from volatility.metrics import (
    Bootstrap,
    average_precision,
    blocks,
    bootstrap,
    reliability,
    scorecard,
)
from volatility.settings import Settings
from volatility.splits import DAY_NS
from volatility.training import MODELS, FoldSummary, Predictions, score_all

Json = dict[str, Any]
CURVE_POINTS = 200
IMPORTANCE_ROWS = 10_000
IMPORTANCE_REPEATS = 3


class EvaluationError(ValueError):
    """Rows that cannot be evaluated; the text says why."""


def evaluate(
    predictions: Predictions,
    settings: Settings,
    bundle: Bundle,
    *,
    source: str,
    folds: tuple[FoldSummary, ...] = (),
) -> Json:
    """Measure every model on the same rows.

    Parameters
    ----------
    predictions : Predictions
        Out-of-sample scores of every model.
    bundle : Bundle
        The model whose importances and provenance are told; it scored the last fold.
    source : str
        ``walk-forward`` or ``model``.

    Returns
    -------
    dict
        What ``evaluation.json`` holds, without ``placebo`` and ``held_out``; no NaN in it.
    """
    data, spikes = predictions.data, predictions.spikes
    if not spikes.any() or spikes.all():
        raise EvaluationError(
            f"{int(spikes.sum())} of {len(data)} rows are spikes: precision and recall need both "
            "kinds; evaluate on more ticks"
        )
    options, horizon = settings.evaluate, bundle.specification.horizon_seconds
    drawn = resample(predictions, settings, horizon)
    models = {
        name: _model(predictions, name, drawn, settings, horizon) for name in predictions.scores
    }
    last = np.flatnonzero(predictions.fold == predictions.fold.max())
    result: Json = clean(
        {
            "source": source,
            "rows": len(data),
            "effective_windows": effective_windows(data, horizon),
            "base_rate": float(spikes.mean()),
            "symbols": list(data.symbols),
            "start": iso(data.time.min()),
            "stop": iso(data.time.max()),
            "horizon_seconds": horizon,
            "label_kind": bundle.specification.label_kind,
            "block_seconds": options.block_seconds,
            "resamples": options.resamples,
            "models": models,
            "ml_vs_best_baseline": against_baselines(drawn),
            "per_day": _per_day(predictions),
            "folds": _folds(predictions, folds),
            "reliability": {
                name: dict(
                    zip(("score", "share", "rows"), _lists(reliability(spikes, s)), strict=True)
                )
                for name, s in predictions.scores.items()
            },
            "curves": {name: _curve(spikes, s) for name, s in predictions.scores.items()},
            "importances": importances(bundle, predictions.take(last), settings.train.seed),
            "model": _provenance(bundle),
        }
    )
    return result


def evaluate_bundle(bundle: Bundle, data: Dataset, settings: Settings) -> Json:
    """Evaluate one bundle on the rows of a lake that it has not been trained on."""
    kept = unseen(bundle, data.time)
    if not len(kept):
        raise EvaluationError(
            "every row lies in the model's training window; give ticks that it has not seen"
        )
    result = evaluate(score_all(bundle, data.take(kept)), settings, bundle, source="model")
    return {**result, "excluded_rows": len(data) - len(kept)}


def unseen(bundle: Bundle, time: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number the rows whose windows share nothing with the bundle's training rows."""
    spec = bundle.specification
    margin = (spec.horizon_seconds + LONGEST_WINDOW_SECONDS) * SECOND
    return np.flatnonzero((time < spec.train_start - margin) | (time > spec.train_stop + margin))


def effective_windows(data: Dataset, horizon_seconds: int) -> int:
    """Count the windows that do not overlap: what the rows are worth as evidence."""
    window = data.time // (horizon_seconds * SECOND)
    return len(np.unique(np.column_stack([runs(data, horizon_seconds), window]), axis=0))


def resample(
    predictions: Predictions,
    settings: Settings,
    horizon: int,
    others: dict[str, npt.NDArray[np.float64]] | None = None,
) -> Bootstrap:
    """Bootstrap the PR-AUC of all models, and of ``others``, by blocks of the rows."""
    block = blocks(
        runs(predictions.data, horizon), predictions.data.time, settings.evaluate.block_seconds
    )
    scores = predictions.scores | (others or {})
    return bootstrap(
        predictions.spikes, scores, block, settings.evaluate.resamples, settings.train.seed
    )


def against_baselines(drawn: Bootstrap) -> Json:
    """Hold ml against the baseline with the best PR-AUC on the same rows.

    The best is chosen on those very rows, which favours the baseline.
    """
    best = max(NAMES, key=lambda name: drawn.point[name])
    found = drawn.difference("ml", best)
    return {"baseline": best, "difference": found.difference, "interval": list(found.interval)}


def importances(bundle: Bundle, held_out: Predictions, seed: int) -> list[Json]:
    """Measure the drop in PR-AUC when one input is permuted between the held-out rows."""
    step = max(1, len(held_out.data) // IMPORTANCE_ROWS)
    rows = held_out.data.rows[::step].copy()
    spikes = held_out.spikes[::step]
    if not spikes.any():
        return []
    generator = np.random.default_rng(seed)
    full = average_precision(spikes, bundle.score(rows))
    result = []
    for name, column in zip(MODEL_INPUTS, INPUT_COLUMNS, strict=True):
        kept = rows[:, column].copy()
        drops = []
        for _ in range(IMPORTANCE_REPEATS):
            rows[:, column] = generator.permutation(kept)
            drops.append(full - average_precision(spikes, bundle.score(rows)))
        rows[:, column] = kept
        result.append(
            {
                "feature": name,
                "importance": float(np.mean(drops)),
                "standard_deviation": float(np.std(drops)),
            }
        )
    return sorted(result, key=lambda row: -row["importance"])


def _model(
    predictions: Predictions,
    name: str,
    drawn: Bootstrap,
    settings: Settings,
    horizon: int,
) -> Json:
    data, spikes, scores = predictions.data, predictions.spikes, predictions.scores[name]
    if name == "ml":
        excess, threshold = scores - predictions.threshold, 0.0
    else:
        # A baseline has no threshold of its own; it gets the one that meets the alert budget
        # on these very rows, which favours it.
        budget = settings.train.alerts_per_hour
        excess, threshold = scores, threshold_for_budget(data, scores, budget, horizon)
    alerts = asdict(alert_metrics(data, spikes, excess, threshold, horizon))
    if name == "ml":
        alerts["threshold"] = float(predictions.threshold[-1])
    return {
        **asdict(scorecard(spikes, scores)),
        "pr_auc_interval": list(drawn.interval(name)),
        **alerts,
    }


def _per_day(predictions: Predictions) -> list[Json]:
    day = predictions.data.time // DAY_NS
    result = []
    for number in np.unique(day):
        mine = predictions.take(np.flatnonzero(day == number))
        result.append(
            {
                "date": iso(int(number) * DAY_NS)[:10],
                "rows": len(mine.data),
                "base_rate": float(mine.spikes.mean()),
                "pr_auc": _pr_auc(mine),
            }
        )
    return result


def _folds(predictions: Predictions, folds: tuple[FoldSummary, ...]) -> list[Json]:
    result = []
    for fold in folds:
        mine = predictions.take(np.flatnonzero(predictions.fold == fold.fold))
        result.append(
            {
                "fold": fold.fold,
                "train_rows": fold.train_rows,
                "test_rows": len(mine.data),
                "train_stop": iso(fold.train_stop),
                "start": iso(mine.data.time[0]),
                "stop": iso(mine.data.time[-1]),
                "tau": float(mine.tau[0]),
                "base_rate": float(mine.spikes.mean()),
                "pr_auc": _pr_auc(mine),
            }
        )
    return result


def _pr_auc(predictions: Predictions) -> Json:
    return {
        name: average_precision(predictions.spikes, predictions.scores[name]) for name in MODELS
    }


def _curve(spikes: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> Json:
    precision, recall, _ = precision_recall_curve(spikes, scores)
    kept = np.unique(np.linspace(0, len(recall) - 1, CURVE_POINTS).astype(int))
    return {"recall": recall[kept].tolist(), "precision": precision[kept].tolist()}


def _provenance(bundle: Bundle) -> Json:
    spec = bundle.specification
    return {
        "digest": bundle.digest,
        "train_start": iso(spec.train_start),
        "train_stop": iso(spec.train_stop),
        "train_rows": spec.train_rows,
        "tau": spec.tau,
        "threshold": spec.threshold,
        "git_commit": spec.provenance.git_commit,
    }


def _lists(arrays: tuple[npt.NDArray[Any], ...]) -> list[list[Any]]:
    return [array.tolist() for array in arrays]


def iso(time_ns: int | np.integer[Any]) -> str:
    """Write nanoseconds since the epoch as ISO 8601, UTC, to the second."""
    return datetime.fromtimestamp(int(time_ns) // SECOND, UTC).isoformat()


def clean(value: Any) -> Any:
    """Turn NaN and infinities, which JSON does not have, into null, at any depth."""
    if isinstance(value, dict):
        return {key: clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [clean(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
