"""Score forecasts of volatility: the variance, the whole distribution, and exceedances.

Scores of single rows are float64[n], for use in any average or bootstrap; lower is better.
``weight`` float64[n] are row weights, which need not sum to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from volatility.compiled import njit
from volatility.units import Bools, Floats, Integers

BINS = 10
CLIP = 1e-6  # lowest probability in the log score, which is then at most 13.8 per row
PIT_GRID = np.round(np.arange(0.05, 0.951, 0.05), 2)
LANES = 32  # draws per pass over the rows: 4.5 times as fast as one draw per pass


@dataclass(frozen=True)
class Reliability:
    """Represent mean probability, share of spikes and weight of up to ten bins: float64[bins]."""

    probability: Floats
    share: Floats
    weight: Floats


def qlike_bps(volatility_bps: Floats, realised_bps: Floats) -> Floats:
    """Compute the quasi-likelihood loss ``log v + RV / v`` of each forecast: float64[n].

    In squared basis points over the horizon; another unit shifts it by a constant. Robust to
    noise in the realised variance (Patton, Journal of Econometrics, 2011), finite for a silent
    window, lower is better.
    """
    result: Floats = 2.0 * np.log(volatility_bps) + np.square(realised_bps / volatility_bps)
    return result


def crps(quantiles: Floats, levels: Floats, observed: Floats) -> Floats:
    """Compute the continuous ranked probability score: float64[n], in the unit of ``observed``.

    Parameters
    ----------
    quantiles : float64[n, K]
        Forecast quantiles at ``levels``, increasing along a row.
    levels : float64[K]
        Increasing, inside (0, 1).
    observed : float64[n]
        Outcomes; a NaN outcome has a NaN score.

    Notes
    -----
    CRPS is twice the integral of the pinball loss over the levels (Gneiting and Raftery, Journal
    of the American Statistical Association, 2007). Each level represents the levels nearest to it,
    the outermost ones up to 0 and 1, so the tails are fully included. A sum of pinball losses
    rewards the true quantiles for any number of levels; an assumed tail shape would not. With
    symmetric levels, the score of a point forecast is its absolute error.
    """
    edges = np.concatenate([[0.0], 0.5 * (levels[1:] + levels[:-1]), [1.0]])
    result: Floats = _crps(quantiles, levels, 2.0 * np.diff(edges), observed)
    return result


@njit()
def _crps(quantiles, levels, width, observed):  # type: ignore[no-untyped-def]
    result = np.empty(len(observed))
    for i in range(len(observed)):
        total = 0.0
        for k in range(len(levels)):
            total += width[k] * _loss(levels[k], observed[i] - quantiles[i, k])
        result[i] = total
    return result


def pinball(
    quantiles: Floats, levels: Floats, observed: Floats, weight: Floats | None = None
) -> Floats:
    """Average the pinball loss of float64[n, K] quantiles at each level: float64[K]."""
    mass = np.ones(len(observed)) if weight is None else weight
    result: Floats = _pinball(quantiles, levels, observed, mass)
    return result


@njit()
def _pinball(quantiles, levels, observed, weight):  # type: ignore[no-untyped-def]
    total, mass = np.zeros(len(levels)), 0.0
    for i in range(len(observed)):
        mass += weight[i]
        for k in range(len(levels)):
            total[k] += weight[i] * _loss(levels[k], observed[i] - quantiles[i, k])
    return total / mass


@njit()
def _loss(level, apart):  # type: ignore[no-untyped-def]
    return level * apart if apart >= 0.0 else (level - 1.0) * apart


def pit_bounds(quantiles: Floats, levels: Floats, observed: Floats) -> Floats:
    """Compute the levels between which each outcome lies: float64[n, 2], equal where it is one.

    A non-negative outcome between two quantiles has one level, by linear interpolation starting at
    (0, 0). If several quantiles equal the outcome, as in the silent minutes of a quiet market, it
    lies between the lowest and the highest of their levels, or from level 0 if the outcome is 0.
    Above the last quantile it lies between that level and 1.
    """
    result: Floats = _pit_bounds(quantiles, levels, observed)
    return result


@njit()
def _pit_bounds(quantiles, levels, observed):  # type: ignore[no-untyped-def]
    result = np.empty((len(observed), 2))
    count = len(levels)
    for i in range(len(observed)):
        y = observed[i]
        below = 0
        while below < count and quantiles[i, below] < y:
            below += 1
        reached = below
        while reached < count and quantiles[i, reached] <= y:
            reached += 1
        if y != y:
            low, high = np.nan, np.nan
        elif reached > below:
            low = 0.0 if below == 0 and y == 0.0 else levels[below]
            high = levels[reached - 1]
        elif below == count:
            low, high = levels[count - 1], 1.0
        else:
            start = quantiles[i, below - 1] if below > 0 else 0.0
            level = levels[below - 1] if below > 0 else 0.0
            share = (y - start) / (quantiles[i, below] - start)
            low = level + share * (levels[below] - level)
            high = low
        result[i, 0], result[i, 1] = low, high
    return result


def pit(quantiles: Floats, levels: Floats, observed: Floats) -> Floats:
    """Compute the probability integral transform, the level of each outcome: float64[n].

    This is the midpoint of ``pit_bounds``. With considerable mass at 0 it is not uniform even for a
    perfect forecast; ``pit_error`` of the bounds is then the fair measure.
    """
    result: Floats = np.mean(pit_bounds(quantiles, levels, observed), axis=1)
    return result


def pit_error(pit: Floats, weight: Floats) -> float:
    """Compute the largest distance of the PIT distribution from the uniform one, at 19 levels.

    Parameters
    ----------
    pit : float64[n] or float64[n, 2]
        Levels, or the bounds of ``pit_bounds``, between which a row's weight is spread evenly
        (Czado, Gneiting and Held, Biometrics, 2009). NaN rows are ignored.
    """
    bounds = pit if pit.ndim == 2 else np.column_stack([pit, pit])
    known = ~np.isnan(bounds[:, 0])
    if not known.any():
        return float("nan")
    low, high = bounds[known].T
    wide = np.where(high > low, high - low, 1.0)
    mass = weight[known] / weight[known].sum()
    apart = [
        float(mass @ np.where(high > low, np.clip((level - low) / wide, 0.0, 1.0), low <= level))
        - level
        for level in PIT_GRID
    ]
    return float(np.max(np.abs(apart)))


def brier(spikes: Bools, probability: Floats) -> Floats:
    """Compute the squared error of each probability of a spike: float64[n]."""
    result: Floats = np.square(probability - spikes)
    return result


def log_score(spikes: Bools, probability: Floats) -> Floats:
    """Compute minus the log of the outcome's forecast probability: float64[n].

    The probability is at least ``CLIP``, so that one certain error does not outweigh all rows.
    """
    result: Floats = -np.log(np.maximum(np.where(spikes, probability, 1.0 - probability), CLIP))
    return result


def average_precision(spikes: Bools, scores: Floats, weight: Floats | None = None) -> float:
    """Sum precision over the steps of recall: the area under the precision-recall curve.

    As ``sklearn.metrics.average_precision_score``; NaN without a spike.
    """
    order, ends = ranking(scores)
    mass = np.ones(len(scores)) if weight is None else weight
    block = np.zeros(len(scores), dtype=np.int64)
    found = average_precisions(spikes[order], mass[order], block, ends, np.ones((1, 1)))
    return float(found[0])


def ranking(scores: Floats) -> tuple[Integers, Bools]:
    """Sort rows from the highest score; mark the last row of each run of equal scores."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.ones(len(scores), dtype=np.bool_)
    ends[:-1] = ranked[1:] != ranked[:-1]
    return order, ends


@njit()
def average_precisions(spikes, weight, block, ends, counts):  # type: ignore[no-untyped-def]
    """Compute the average precision of each draw: float64[draws]; NaN without a spike.

    Parameters
    ----------
    spikes, weight, block, ends : bool[n], float64[n], int64[n], bool[n]
        Rows in the order of ``ranking``.
    counts : float64[draws, blocks]
        How often each draw includes each block: small whole numbers.
    """
    draws, blocks = counts.shape
    result = np.empty(draws)
    # Exact in 32 bits, and half the cache space: the row loop jumps between blocks.
    part = np.zeros((blocks, LANES), np.float32)
    seen, hits, area, recalled = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    for first in range(0, draws, LANES):
        size = min(LANES, draws - first)
        for b in range(blocks):
            for lane in range(size):
                part[b, lane] = counts[first + lane, b]
        seen[:], hits[:], area[:], recalled[:] = 0.0, 0.0, 0.0, 0.0
        waiting = False
        for i in range(len(spikes)):
            b, mass = block[i], weight[i]
            if spikes[i]:
                waiting = True
                for lane in range(LANES):
                    step = mass * part[b, lane]
                    seen[lane] += step
                    hits[lane] += step
            else:
                for lane in range(LANES):
                    seen[lane] += mass * part[b, lane]
            if waiting and ends[i]:
                waiting = False
                for lane in range(LANES):
                    total = seen[lane] if seen[lane] > 0.0 else 1.0
                    area[lane] += (hits[lane] - recalled[lane]) * hits[lane] / total
                    recalled[lane] = hits[lane]
        for lane in range(size):
            result[first + lane] = area[lane] / hits[lane] if hits[lane] > 0.0 else np.nan
    return result


def roc_auc(spikes: Bools, scores: Floats, weight: Floats | None = None) -> float:
    """Compute the area under the ROC: the probability that a spike outranks a calm row.

    Ties count half. NaN if all rows are of one kind.
    """
    order, ends = ranking(scores)
    mass = np.ones(len(scores)) if weight is None else weight
    ranked = mass[order]
    hits = np.concatenate([[0.0], np.cumsum(np.where(spikes[order], ranked, 0.0))[ends]])
    misses = np.concatenate([[0.0], np.cumsum(np.where(spikes[order], 0.0, ranked))[ends]])
    if not (hits[-1] > 0.0 and misses[-1] > 0.0):
        return float("nan")
    return float(np.trapezoid(hits, misses) / (hits[-1] * misses[-1]))


def reliability(spikes: Bools, probability: Floats, weight: Floats | None = None) -> Reliability:
    """Compare probability and share of spikes in ten probability bins of equal weight.

    Equal probabilities share a bin regardless of row order, so a constant has one bin.
    """
    mass = np.ones(len(probability)) if weight is None else weight
    _, place = np.unique(probability, return_inverse=True)
    group = np.bincount(place, weights=mass)
    middle = (np.cumsum(group) - 0.5 * group) / group.sum()
    number = np.minimum((middle * BINS).astype(np.int64), BINS - 1)[place]
    total = np.asarray(np.bincount(number, weights=mass, minlength=BINS), np.float64)
    filled = total > 0.0
    return Reliability(
        np.bincount(number, weights=mass * probability, minlength=BINS)[filled] / total[filled],
        np.bincount(number, weights=mass * spikes, minlength=BINS)[filled] / total[filled],
        total[filled],
    )


def calibration_error(spikes: Bools, probability: Floats, weight: Floats | None = None) -> float:
    """Average the gap between probability and share of spikes over the ``reliability`` bins."""
    bins = reliability(spikes, probability, weight)
    return float(np.average(np.abs(bins.probability - bins.share), weights=bins.weight))
