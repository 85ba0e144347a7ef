"""Measure probability forecasts, with uncertainty that respects overlapping labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from volatility.compiled import njit

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Scorecard:
    """Hold the point metrics of one model on one set of rows; NaN where undefined."""

    pr_auc: float
    roc_auc: float
    brier: float
    calibration_error: float


@dataclass(frozen=True)
class Difference:
    """Hold a paired difference with its 95 % interval and standard error."""

    difference: float
    interval: tuple[float, float]
    standard_error: float


def scorecard(spikes: Bools, scores: Floats) -> Scorecard:
    """Measure float64[n] scores against bool[n] spikes."""
    both = bool(spikes.any() and not spikes.all())
    return Scorecard(
        pr_auc=average_precision(spikes, scores),
        roc_auc=float(roc_auc_score(spikes, scores)) if both else float("nan"),
        brier=float(np.mean((scores - spikes) ** 2)),
        calibration_error=calibration_error(spikes, scores),
    )


def average_precision(spikes: Bools, scores: Floats) -> float:
    """Sum precision over the steps of recall: the area under the precision-recall curve.

    The same as ``sklearn.metrics.average_precision_score``; NaN without a spike.
    """
    order, ends = _ranking(scores)
    one = np.zeros(len(scores), dtype=np.int64)
    return float(_average_precisions(spikes[order], one, ends, np.ones((1, 1)))[0])


def reliability(spikes: Bools, scores: Floats) -> tuple[Floats, Floats, Integers]:
    """Give mean score, spike share and number of rows of ten equally filled bins by score."""
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, CALIBRATION_BINS) if len(part)]
    mean = np.array([scores[part].mean() for part in parts])
    share = np.array([spikes[part].mean() for part in parts])
    return mean, share, np.array([len(part) for part in parts])


def calibration_error(spikes: Bools, scores: Floats) -> float:
    """Average the distance of score and spike share over the bins of ``reliability``."""
    mean, share, count = reliability(spikes, scores)
    return float(np.sum(np.abs(mean - share) * count) / np.sum(count))


def blocks(run: Integers, time: Integers, block_seconds: int) -> Integers:
    """Number the blocks of a bootstrap: stretches of ``block_seconds`` inside a run.

    A block never spans two runs, and rows of a block are drawn together, because their labels
    overlap and volatility clusters (Kunsch, Annals of Statistics, 1989).
    """
    start = np.full(run.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(start, run, time)
    within = (time - start[run]) // (block_seconds * 1_000_000_000)
    _, number = np.unique(run * (within.max() + 1) + within, return_inverse=True)
    return number.astype(np.int64)


@dataclass(frozen=True)
class Bootstrap:
    """Hold the PR-AUC of several models on the same resampled blocks.

    ``point`` and ``drawn`` (float64[resamples]) are by model name, and by ``base_rate`` for the
    share of spikes, which is the PR-AUC of a score without information.
    """

    point: dict[str, float]
    drawn: dict[str, Floats]

    def interval(self, name: str) -> tuple[float, float]:
        """Give the 95 % interval of one model's PR-AUC; NaN when no draw had a spike."""
        return _interval(self.drawn[name])

    def difference(self, first: str, second: str) -> Difference:
        """Compare two models, or a model with ``base_rate``, draw by draw."""
        drawn = self.drawn[first] - self.drawn[second]
        known = drawn[~np.isnan(drawn)]
        error = float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")
        return Difference(self.point[first] - self.point[second], _interval(drawn), error)


def bootstrap(
    spikes: Bools, scores: dict[str, Floats], block: Integers, resamples: int, seed: int
) -> Bootstrap:
    """Draw blocks with replacement and measure every model on each draw."""
    number = int(block.max()) + 1
    generator = np.random.default_rng(seed)
    weight = np.empty((resamples, number))
    for row in weight:
        row[:] = np.bincount(generator.integers(0, number, number), minlength=number)
    rows = np.bincount(block, minlength=number)
    hits = np.bincount(block, weights=spikes, minlength=number)
    drawn = {"base_rate": np.asarray((weight @ hits) / (weight @ rows))}
    point = {"base_rate": float(spikes.mean())}
    for name, score in scores.items():
        order, ends = _ranking(score)
        drawn[name] = _average_precisions(spikes[order], block[order], ends, weight)
        point[name] = average_precision(spikes, score)
    return Bootstrap(point, drawn)


def _interval(drawn: Floats) -> tuple[float, float]:
    known = drawn[~np.isnan(drawn)]
    if len(known) < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def _ranking(scores: Floats) -> tuple[Integers, Bools]:
    """Order rows from the highest score; mark the last row of each run of equal scores."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    return order, np.append(ranked[1:] != ranked[:-1], True)


@njit()
def _average_precisions(spikes, block, ends, drawn):  # type: ignore[no-untyped-def]
    """Give the average precision of each draw: ranked rows, weighted by their block's count."""
    result = np.empty(len(drawn))
    for draw in range(len(drawn)):
        weight = drawn[draw]
        area, hits, seen, recalled = 0.0, 0.0, 0.0, 0.0
        for i in range(len(spikes)):
            seen += weight[block[i]]
            if spikes[i]:
                hits += weight[block[i]]
            if ends[i] and hits > recalled:
                area += (hits - recalled) * hits / seen
                recalled = hits
        result[draw] = area / hits if hits > 0.0 else np.nan
    return result
