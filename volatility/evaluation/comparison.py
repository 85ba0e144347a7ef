"""Test whether forecasts differ: Diebold-Mariano, and the model confidence set."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volatility.units import Floats

LEAST_BLOCKS = 10  # with fewer, neither test is reliable
RESAMPLES = 1000
MEAN_BLOCKS = 3  # average number of consecutive blocks in a resample
EQUAL = 1e-12  # spread of a difference, relative to the losses, that counts as rounding


@dataclass(frozen=True)
class DieboldMariano:
    """Represent a two-sided test of equal loss; below 0, the first forecast was better."""

    statistic: float
    p_value: float


@dataclass(frozen=True)
class ConfidenceSet:
    """Represent the models not shown to be worse than the best, and the p-values."""

    included: tuple[str, ...]
    p_values: dict[str, float]


def diebold_mariano(loss_difference: Floats, lags: int) -> DieboldMariano:
    """Test that the mean of a loss difference is 0.

    Parameters
    ----------
    loss_difference : float64[B]
        Block means, in time order, of the first forecast's loss minus the second's. NaN blocks
        are ignored.
    lags : int
        Blocks over which differences may be correlated; at most a third of the blocks.

    Returns
    -------
    DieboldMariano
        NaN with fewer than ``LEAST_BLOCKS`` blocks.

    Notes
    -----
    Diebold and Mariano (Journal of Business and Economic Statistics, 1995), with the variance of
    Newey and West (Econometrica, 1987), the correction for small samples and the Student
    distribution of Harvey, Leybourne and Newbold (International Journal of Forecasting, 1997).
    """
    known = loss_difference[~np.isnan(loss_difference)]
    count = len(known)
    if count < LEAST_BLOCKS:
        return DieboldMariano(math.nan, math.nan)
    mean = float(known.mean())
    if float(np.ptp(known)) <= EQUAL * abs(mean):
        # The difference is the same in every block: no difference if 0, otherwise certain.
        certain = DieboldMariano(math.copysign(math.inf, mean), 0.0)
        return certain if mean else DieboldMariano(0.0, 1.0)
    centred = known - mean
    lags = min(lags, count // 3)
    variance = float(centred @ centred) / count
    for lag in range(1, lags + 1):
        covariance = float(centred[lag:] @ centred[:-lag]) / count
        variance += 2.0 * (1.0 - lag / (lags + 1.0)) * covariance
    steps = lags + 1
    correction = (count + 1 - 2 * steps + steps * (steps - 1) / count) / count
    statistic = mean / math.sqrt(variance / count) * math.sqrt(correction)
    from scipy.special import stdtr

    return DieboldMariano(statistic, 2.0 * float(stdtr(count - 1, -abs(statistic))))


def model_confidence_set(
    losses: dict[str, Floats], size: float = 0.1, seed: int = 0
) -> ConfidenceSet:
    """Find the models that may be the best, from float64[B] block means of each model's loss.

    Hansen, Lunde and Nason (Econometrica, 2011), with ``arch``: a model outside the set is worse
    than the best with confidence 1 - ``size``. Blocks with a NaN are ignored; with fewer than
    ``LEAST_BLOCKS`` blocks, no model is excluded and p-values are NaN.

    Notes
    -----
    The test divides by the spread of each difference. Models that differ by the same amount in
    every block are therefore separated first: the best of them represents the group, its equals
    share its p-value, and the others are certainly worse, with p-value 0.
    """
    names = tuple(losses)
    table = np.column_stack([losses[name] for name in names])
    table = table[~np.isnan(table).any(axis=1)]
    if len(table) < LEAST_BLOCKS:
        return ConfidenceSet(names, dict.fromkeys(names, math.nan))
    leader = _leaders(table)
    leaders = np.unique(leader)
    p_values = np.ones(len(names))
    if len(leaders) > 1:
        p_values[leaders] = _test(table[:, leaders], size, seed)
    mean = table.mean(axis=0)
    worse = mean - mean[leader] > _rounding(table)
    p_values = np.where(worse, 0.0, p_values[leader])
    return ConfidenceSet(
        tuple(name for name, value in zip(names, p_values, strict=True) if value > size),
        dict(zip(names, p_values.tolist(), strict=True)),
    )


def _leaders(table: Floats) -> npt.NDArray[np.int64]:
    """Return, for each model, the best one that differs from it by a constant: int64[k]."""
    best_first = np.argsort(table.mean(axis=0), kind="stable")
    leader = np.arange(table.shape[1])
    found: list[int] = []
    for model in best_first.tolist():
        for other in found:
            if np.ptp(table[:, model] - table[:, other]) <= _rounding(table):
                leader[model] = other
                break
        else:
            found.append(model)
    return leader


def _rounding(table: Floats) -> float:
    return EQUAL * float(np.max(np.abs(table)))


def _test(table: Floats, size: float, seed: int) -> Floats:
    """Return the p-value of each column of float64[B, k] losses."""
    from arch.bootstrap import MCS

    # arch fails on exact ties, such as losses that are permutations of each other.
    ties = np.random.default_rng(seed).random(table.shape[1])
    test = MCS(
        table + 1e3 * _rounding(table) * ties,
        size=size,
        reps=RESAMPLES,
        block_size=MEAN_BLOCKS,
        method="R",
        seed=seed,
    )
    test.compute()
    result: Floats = test.pvalues["Pvalue"].sort_index().to_numpy()
    return result
