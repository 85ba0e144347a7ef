"""Fit ``ml``: the pooled forecast, a linear fit per symbol on top of it, and optional own trees.

1. The pooled part (``Pooled``) forecasts from scale-free inputs; it was fitted elsewhere.
2. A linear fit for each symbol, shrunk towards that forecast, adds the symbol's level and its own
   dynamics. The penalty is worth ``SHRINKAGE_WINDOWS`` independent windows: with little data, the
   fit stays at the pooled forecast, up to a level.
3. Trees over all symbols learn the remainder. Their number is chosen by blocked validation within
   the rows, and is zero unless trees are better by a standard error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from volatility.models.boosting import boost
from volatility.models.inputs import LOG, PRIOR, Input
from volatility.models.regression import fit_gamma, qlike
from volatility.models.sample import Sample, gain
from volatility.models.simple import LEAST_ROWS, inputs_of
from volatility.models.trees import Trees, empty
from volatility.settings import Train
from volatility.units import Bools, Floats

SHRINKAGE_WINDOWS = 300.0
SIZES = (0, 15, 30, 60)  # candidate numbers of trees
INPUTS = (
    Input(PRIOR),
    Input(LOG, "ewma_volatility_10s"),
    Input(LOG, "ewma_volatility_60s"),
    Input(LOG, "ewma_volatility_300s"),
    Input(LOG, "realised_volatility_900s"),
)


@dataclass(frozen=True)
class MlFit:
    """Represent ``ml`` of every symbol at one horizon.

    ``coefficients`` is float64[S + 1, 6] for ``INPUTS`` and an intercept; ``own`` bool[S + 1]:
    whether the trees are added; ``validated`` float64[n]: log variances from fits that had not
    seen the row.
    """

    coefficients: Floats
    own: Bools
    trees: Trees
    validated: Floats


def fit_ml(sample: Sample, pooled: Floats, options: Train) -> MlFit:
    """Fit on all rows; ``pooled`` is float64[n], the pooled part's forecast of each row."""
    values = inputs_of(INPUTS, sample.rows, sample.level)
    values[:, 0] = pooled
    linear = np.full(len(sample), np.nan)
    stages = {size: np.full(len(sample), np.nan) for size in SIZES}
    for fold in sample.folds:
        train = sample.take(fold.train)
        coefficients = _linear(values[fold.train], train)
        start = _apply(coefficients, values[fold.train], train)
        linear[fold.test] = _apply(coefficients, values[fold.test], sample.take(fold.test))
        grown = boost(train.rows, train.realised, start, max(SIZES), options)
        rows = sample.rows[fold.test]
        for size in SIZES:
            added = grown.first(size).raw(rows) if size else 0.0
            stages[size][fold.test] = linear[fold.test] + added
    size, own = _choose(sample, linear, stages)
    coefficients = _linear(values, sample)
    chosen = empty()
    if size:
        start = _apply(coefficients, values, sample)
        chosen = boost(sample.rows, sample.realised, start, size, options)
    validated = np.where(own[sample.symbol], stages[size], linear)
    return MlFit(coefficients, own, chosen, validated)


def _choose(sample: Sample, linear: Floats, stages: dict[int, Floats]) -> tuple[int, Bools]:
    """Choose the number of trees and the symbols that use them.

    The number is zero unless the best one is better by a standard error.
    """
    known = np.flatnonzero(~np.isnan(linear))
    own = np.zeros(sample.symbols + 1, np.bool_)
    if not len(known):
        return 0, own
    losses = {size: qlike(v, sample.realised) for size, v in stages.items()}
    means = {
        size: float(np.average(loss[known], weights=sample.weight[known]))
        for size, loss in losses.items()
    }
    size = min(means, key=lambda size: means[size])
    mean, error = gain(sample, known, losses[size], losses[0])
    if not mean > error:
        return 0, own
    for symbol in range(sample.symbols):
        mine = known[sample.symbol[known] == symbol]
        own[symbol] = len(mine) > 0 and gain(sample, mine, losses[size], losses[0])[0] > 0.0
    own[-1] = True  # an unknown symbol uses the trees that helped the known ones
    return size, own


def _linear(values: Floats, sample: Sample) -> Floats:
    """Fit each symbol's float64[S + 1, K + 1] coefficients; the unknown one stays at the prior."""
    result = np.zeros((sample.symbols + 1, len(INPUTS) + 1))
    result[:, 0] = 1.0
    for symbol in range(sample.symbols):
        mine = sample.of(symbol)
        if len(mine) < LEAST_ROWS:
            continue
        penalty = SHRINKAGE_WINDOWS / max(sample.windows(mine), 1)
        pooled = values[mine, 0]
        found = fit_gamma(values[mine], sample.realised[mine], pooled, penalty=penalty)
        result[symbol] += found
    return result


def _apply(coefficients: Floats, values: Floats, sample: Sample) -> Floats:
    mine = coefficients[sample.symbol]
    result: Floats = np.einsum("ik,ik->i", values, mine[:, :-1]) + mine[:, -1]
    return result
