"""Bootstrap means and PR-AUC by blocks of clock time, with the same draws for every model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from volatility.evaluation.scores import average_precisions, ranking
from volatility.units import Bools, Floats, Integers


@dataclass(frozen=True)
class Draws:
    """Represent resamples by how often each block was drawn: float64[resamples, blocks]."""

    counts: Floats


@dataclass(frozen=True)
class Difference:
    """Represent a paired difference with its 95 % interval and standard error."""

    difference: float
    interval: tuple[float, float]
    standard_error: float


def draw_blocks(blocks: int, resamples: int, seed: int) -> Draws:
    """Draw each resample from all blocks with replacement, as many as there are."""
    generator = np.random.default_rng(seed)
    counts = np.empty((resamples, blocks))
    for row in counts:
        row[:] = np.bincount(generator.integers(0, blocks, blocks), minlength=blocks)
    return Draws(counts)


def mean_draws(values: Floats, weight: Floats, block: Integers, draws: Draws) -> Floats:
    """Return the weighted mean of float64[n] values in each resample; NaN if it is empty."""
    blocks = draws.counts.shape[1]
    known = ~np.isnan(values)
    total = np.bincount(block[known], (values * weight)[known], minlength=blocks)
    mass = np.bincount(block[known], weight[known], minlength=blocks)
    below = draws.counts @ mass
    above = draws.counts @ total
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0.0)


@dataclass(frozen=True)
class Precision:
    """Represent a PR-AUC and its resamples: float64[draws]."""

    point: float
    drawn: Floats


def stratified_precision(
    spikes: Bools, scores: Floats, weight: Floats, stratum: Integers, block: Integers, draws: Draws
) -> Precision:
    """Average the PR-AUC over strata, each a symbol and a fold, which are ranked separately.

    Each fold has its own model and spike levels; ranking folds together would measure differences
    of scale. A stratum counts with the weight of its rows, and one without a spike not at all; NaN
    if no stratum has a spike.
    """
    counts = np.ascontiguousarray(draws.counts)
    ones = np.ones((1, counts.shape[1]))
    points, drawn, mass = [], [], []
    for number in np.unique(stratum):
        mine = np.flatnonzero(stratum == number)
        order, ends = ranking(scores[mine])
        ranked = mine[order]
        rows = spikes[ranked], weight[ranked], block[ranked], ends
        points.append(float(average_precisions(*rows, ones)[0]))
        drawn.append(average_precisions(*rows, counts))
        mass.append(float(weight[mine].sum()))
    point = _known_mean(np.array(points)[:, None], np.array(mass))[0]
    return Precision(float(point), _known_mean(np.array(drawn), np.array(mass)))


def _known_mean(values: Floats, mass: Floats) -> Floats:
    """Average the known float64[strata, m] values, weighted by float64[strata] mass."""
    known = ~np.isnan(values)
    below = (known * mass[:, None]).sum(axis=0)
    above = (np.where(known, values, 0.0) * mass[:, None]).sum(axis=0)
    result: Floats = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0.0)
    return result


def difference(point: float, drawn: Floats) -> Difference:
    """Return a difference with its interval from resamples; NaN with fewer than two."""
    known = drawn[~np.isnan(drawn)]
    if len(known) < 2:
        return Difference(point, (float("nan"), float("nan")), float("nan"))
    low, high = np.quantile(known, [0.025, 0.975])
    return Difference(point, (float(low), float(high)), float(np.std(known, ddof=1)))
