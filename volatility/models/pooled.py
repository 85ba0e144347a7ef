"""Fit the pooled part: a scale-free forecast over many symbols or venues.

It uses no absolute level, price or size, so it can forecast symbols that it has never seen: a HAR
on log ratios to the row's own level, and trees that start from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from volatility.features import INDEX
from volatility.models.boosting import boost
from volatility.models.forecaster import Forecaster, Linear, Pooled, pack
from volatility.models.inputs import LOG, PRIOR, Input
from volatility.models.law import Law
from volatility.models.regression import fit_gamma
from volatility.models.sample import Sample
from volatility.models.simple import inputs_of
from volatility.models.trees import Trees, empty
from volatility.settings import Train
from volatility.units import Floats, Integers

RATIOS = (
    "realised_volatility_15s",
    "realised_volatility_60s",
    "realised_volatility_300s",
    "ewma_volatility_10s",
    "ewma_volatility_60s",
    "ewma_volatility_300s",
)
PENALTY_WINDOWS = 1.0
TREES = 90
ROWS_PER_ROOT = 90.0  # of n rows per symbol, at most 90 times the square root of n are kept


@dataclass(frozen=True)
class PooledFit:
    """Represent the pooled part at one horizon: float64[P + 1] coefficients, and trees.

    ``validated`` is float64[n]: log variances from fits that had not seen the row's symbol.
    """

    coefficients: Floats
    trees: Trees
    validated: Floats


def fit_pooled(sample: Sample, options: Train, *, left_out: bool = True) -> PooledFit:
    """Fit on all symbols, each weighted by the root of its rows, so that none dominates.

    With ``left_out``, also fit once without each symbol to forecast that symbol.
    """
    validated = np.full(len(sample), np.nan)
    for symbol in range(sample.symbols if left_out and sample.symbols > 1 else 0):
        others, mine = np.flatnonzero(sample.symbol != symbol), sample.of(symbol)
        if len(others) and len(mine):
            coefficients, grown = _fit(sample.take(others), options)
            part = sample.take(mine)
            validated[mine] = _start(coefficients, part) + grown.raw(part.rows)
    coefficients, grown = _fit(sample, options)
    return PooledFit(coefficients, grown, validated)


def _fit(sample: Sample, options: Train) -> tuple[Floats, Trees]:
    kept = np.sort(np.concatenate([_thin(sample.of(s)) for s in range(sample.symbols)]))
    sample = sample.take(kept)
    level = 2.0 * np.log(sample.level)
    penalty = PENALTY_WINDOWS / max(sample.windows(np.arange(len(sample))), 1)
    coefficients = fit_gamma(_ratios(sample), sample.realised, level, penalty=penalty)
    start = _start(coefficients, sample)
    return coefficients, boost(sample.rows, sample.realised, start, TREES, options)


def _thin(rows: Integers) -> Integers:
    """Keep evenly spaced rows, so that a symbol counts as the square root of its rows."""
    most = int(ROWS_PER_ROOT * np.sqrt(len(rows)))
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]


def _ratios(sample: Sample) -> Floats:
    inputs = tuple(Input(LOG, name) for name in RATIOS)
    result: Floats = (
        inputs_of(inputs, sample.rows, sample.level) - 2.0 * np.log(sample.level)[:, None]
    )
    return result


def _start(coefficients: Floats, sample: Sample) -> Floats:
    result: Floats = (
        2.0 * np.log(sample.level) + _ratios(sample) @ coefficients[:-1] + coefficients[-1]
    )
    return result


def to_pooled(fits: list[PooledFit]) -> Pooled:
    """Combine the horizons."""
    return Pooled(
        columns=np.array([INDEX[name] for name in RATIOS], dtype=np.int64),
        coefficients=np.array([fit.coefficients for fit in fits]),
        trees=tuple(fit.trees for fit in fits),
    )


def pooled_forecaster(pooled: Pooled, law: Law, level: float) -> Forecaster:
    """Return the forecaster of only the pooled part, to which every symbol is unknown."""
    horizons = len(pooled.trees)
    shape = (1, horizons, 1)
    coefficients = np.zeros((1, horizons, 2))
    coefficients[:, :, 0] = 1.0
    linear = Linear(
        kinds=np.full(shape, Input(PRIOR).kind, dtype=np.int64),
        columns=np.zeros(shape, dtype=np.int64),
        coefficients=coefficients,
        garch=np.zeros((1, horizons, 2)),
        level=np.array([level]),
    )
    own = tuple(empty() for _ in range(horizons))
    return Forecaster(linear, pooled, pack(pooled, own, np.zeros((1, horizons), np.bool_)), law)
