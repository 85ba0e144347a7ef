"""Explain a forecast by each feature's contribution to the log of the expected volatility.

The log variance of a row is a sum (see ``volatility.models.forecaster``), so the contributions are
exact and need no sampling. They are relative to a row at its symbol's usual level with all other
features missing:

* a volatility in a linear fit contributes the effect of its distance from the row's own level;
* the row's level contributes its distance from the symbol's usual level, attributed to the feature
  that supplied it;
* in a tree, each split on a row's path contributes the change of the mean of the leaves that can
  still be reached (A. Saabas, "Interpreting random forests", 2014).

The bounds of a forecast are ignored here, because only absurd rows reach them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from volatility.compiled import njit
from volatility.models.bundle import Bundle
from volatility.models.inputs import (
    GARCH,
    LEVEL_COLUMNS,
    LEVEL_SHARE,
    LOG,
    PRIOR,
    RAW,
    level_of,
    log_variance,
)
from volatility.units import Floats, Integers

# The guard of ``log_variance`` adds this to the logarithm of a volatility at its level.
GUARD = math.log1p(LEVEL_SHARE**2)


@dataclass(frozen=True)
class Contributions:
    """Represent the contributions to n rows' log volatility over the first horizon.

    ``expected`` is float64[n]: the value for a row at the symbol's usual level; ``parts`` is
    float64[n, features]: each feature's contribution, where 0.1 is about 10 % more volatility.
    ``expected`` plus the sum of ``parts`` is half the forecast log variance, up to rounding.
    """

    expected: Floats
    parts: Floats


def contributions(bundle: Bundle, rows: Floats, symbol: Integers) -> Contributions:
    """Explain the forecasts of float64[n, features] rows of int64[n] symbols."""
    forecaster = bundle.forecaster
    linear, pooled = forecaster.linear, forecaster.pooled
    last = len(linear.level) - 1
    place = np.where((symbol >= 0) & (symbol < last), symbol, last)
    expected, parts = _linear(
        rows, place, linear.kinds, linear.columns, linear.coefficients, linear.garch, linear.level,
        pooled.columns, pooled.coefficients,
    )  # fmt: skip
    weight = np.where(linear.kinds[place, 0] == PRIOR, linear.coefficients[place, 0, :-1], 0.0)
    share = weight.sum(axis=1)
    if share.any():
        trees = pooled.trees[0]
        expected += share * trees.expected
        parts += share[:, None] * trees.contributions(rows)
    used = forecaster.packed.own[place, 0]
    if used.any():
        trees = forecaster.own[0]
        expected += used * trees.expected
        parts += used[:, None] * trees.contributions(rows)
    return Contributions(0.5 * expected, 0.5 * parts)


@njit(nogil=True)
def _linear(  # type: ignore[no-untyped-def]
    rows, place, kinds, columns, coefficients, garch, usual, pooled_columns, pooled_coefficients
):
    inputs, pooled = kinds.shape[2], len(pooled_columns)
    expected, parts = np.zeros(len(rows)), np.zeros(rows.shape)
    for i in range(len(rows)):
        s = place[i]
        level = level_of(rows, i, usual[s])
        source = 0
        for column in LEVEL_COLUMNS[::-1]:
            if rows[i, column] == rows[i, column]:
                source = column
        usual_log = 2.0 * math.log(usual[s])
        level_log = 2.0 * math.log(level)
        at_level = log_variance(level, level)
        of_level = 0.0  # contribution of the row's level
        total = coefficients[s, 0, inputs]
        for k in range(inputs):
            weight, kind, column = coefficients[s, 0, k], kinds[s, 0, k], columns[s, 0, k]
            x = rows[i, column]
            if weight == 0.0:
                continue
            if kind == LOG:
                parts[i, column] += weight * (log_variance(x, level) - at_level)
                of_level += weight * (level_log - usual_log)
                total += weight * log_variance(usual[s], usual[s])
            elif kind == RAW:
                if x == x:
                    parts[i, column] += weight * x
            elif kind == GARCH:
                x = x if x == x else level
                constant, slope = garch[s, 0, 0], garch[s, 0, 1]
                here = math.log(constant + slope * level * level)
                start = math.log(constant + slope * usual[s] * usual[s])
                parts[i, column] += weight * (math.log(constant + slope * x * x) - here)
                of_level += weight * (here - start)
                total += weight * start
            elif kind == PRIOR:
                total += weight * (usual_log + pooled_coefficients[0, pooled])
                of_level += weight * (level_log - usual_log)
                for p in range(pooled):
                    slope = weight * pooled_coefficients[0, p]
                    x = rows[i, pooled_columns[p]]
                    parts[i, pooled_columns[p]] += slope * (log_variance(x, level) - at_level)
                    total += slope * GUARD
        parts[i, source] += of_level
        expected[i] = total
    return expected, parts
