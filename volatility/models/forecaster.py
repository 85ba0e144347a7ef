"""Forecast the distribution of forward volatility, in one form for all leaderboard models.

The logarithm of a forecast variance is linear in a few inputs, with coefficients per symbol, and
``ml`` adds trees to it. A simple forecast has the same form without trees. The last row of every
table is for symbols that the model was not trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from volatility.compiled import njit
from volatility.features import INDEX
from volatility.models.inputs import FLOOR, GARCH, LOG, PRIOR, RAW, level_of, log_variance
from volatility.models.law import LEVELS, Law, corner, exceedance_of, ratio_at
from volatility.models.trees import Trees, add_leaves, empty
from volatility.units import Floats, Integers

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # shown in responses
QUANTILE_PLACES = np.array([int(np.flatnonzero(level == LEVELS)[0]) for level in QUANTILES])
ACTIVITY = INDEX["mean_trade_intensity_900s"]
LEAST_ACTIVITY = 1e-3  # ticks per second
LOWEST, HIGHEST = 2.0 * math.log(FLOOR), 2.0 * math.log(0.1)  # bounds of log variance forecasts


@dataclass(frozen=True)
class Pooled:
    """Represent the pooled, scale-free part: linear in log ratios to the level, plus trees.

    Parameters
    ----------
    columns : int64[P]
        Volatility features whose ratios to the level are inputs.
    coefficients : float64[H, P + 1]
        Coefficients of the ratios; the intercept comes last.
    trees : tuple of Trees
        One ensemble per horizon, on columns of the feature table.
    """

    columns: Integers
    coefficients: Floats
    trees: tuple[Trees, ...]


@dataclass(frozen=True)
class Linear:
    """Represent the linear part of S symbols and an unknown symbol at H horizons.

    Parameters
    ----------
    kinds, columns : int64[S + 1, H, K]
        Inputs; see ``volatility.models.inputs.Input``.
    coefficients : float64[S + 1, H, K + 1]
        Coefficients of the inputs; the intercept comes last.
    garch : float64[S + 1, H, 2]
        Constant and weight of a ``GARCH`` input.
    level : float64[S + 1]
        Level for rows without one [one-second deviation].
    """

    kinds: Integers
    columns: Integers
    coefficients: Floats
    garch: Floats
    level: Floats


@dataclass(frozen=True)
class Packed:
    """Represent trees and their bounds in the layout used by the compiled loops.

    ``roots`` is int32[trees, 2], the root and the depth of each tree, ``steps`` is STEP[nodes];
    ``bounds`` is int64[2, H + 1]: the trees of the pooled part, then the symbols' own, by horizon;
    ``starts`` is float64[2, H]; ``own`` is bool[S + 1, H]: where own trees are added.
    """

    roots: npt.NDArray[np.int32]
    steps: npt.NDArray[Any]
    bounds: Integers
    starts: Floats
    own: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Forecasts:
    """Represent a model's forecasts of n rows at H horizons.

    ``volatility_bps`` is float64[n, H]: square root of the expected realised variance;
    ``quantiles_bps`` is float64[n, H, 5]: volatility at ``QUANTILES``, both in basis points over
    the horizon; ``exceedance`` is float64[n, H]: probability of reaching the requested level.
    """

    volatility_bps: Floats
    quantiles_bps: Floats
    exceedance: Floats


@dataclass(frozen=True)
class Forecaster:
    """Forecast float64[n, features] rows, given int64[n] symbol indices, with one model.

    An index outside the symbols denotes the unknown symbol; ``own`` are the own trees by horizon,
    as packed. The result for a row does not depend on the other rows of a call.
    """

    linear: Linear
    pooled: Pooled
    packed: Packed
    law: Law
    own: tuple[Trees, ...] = ()

    def log_variance(self, rows: Floats, symbol: Integers, horizon: int) -> Floats:
        """Return the log of the expected realised variance at a horizon's index: float64[n]."""
        result: Floats = _log_variances(rows, symbol, horizon, *self._compiled)
        return result

    def forecast(self, rows: Floats, symbol: Integers, level: Floats, bps: Floats) -> Forecasts:
        """Forecast rows.

        Parameters
        ----------
        rows : float64[n, features]
        symbol : int64[n]
        level : float64[symbols + 1, H]
            Volatility whose exceedance probability is requested [one-second deviation]; its rows
            are those indexed by ``symbol``, even if this model knows fewer symbols.
        bps : float64[H]
            Factor from one-second deviation to basis points: 10,000 times the root of the horizon.
        """
        volatility, quantiles, exceedance = _forecast(
            rows, symbol, level, bps, *self._compiled, self.law.table
        )
        return Forecasts(volatility, quantiles, exceedance)

    def distribution(self, rows: Floats, symbol: Integers, horizon: int) -> Floats:
        """Return the volatility at each of ``LEVELS`` at a horizon's index: float64[n, K]."""
        logs = self.log_variance(rows, symbol, horizon)
        result: Floats = _distribution(
            rows, symbol, logs, horizon, self._compiled[0], self.law.table
        )
        return result

    def exceedance(self, rows: Floats, symbol: Integers, horizon: int, level: Floats) -> Floats:
        """Return P(volatility >= level) for float64[n] levels, one per row: float64[n]."""
        logs = self.log_variance(rows, symbol, horizon)
        return self.exceedance_of(rows, symbol, horizon, logs, level)

    def exceedance_of(
        self, rows: Floats, symbol: Integers, horizon: int, log_variance: Floats, level: Floats
    ) -> Floats:
        """Return P(volatility >= level) as if float64[n] ``log_variance`` were the forecasts."""
        result: Floats = _exceedance(
            rows, symbol, log_variance, horizon, level, self._compiled[0], self.law.table
        )
        return result

    @cached_property
    def _compiled(self) -> tuple[Any, ...]:
        """Arguments of the compiled loops, in order: few arrays, as each takes 0.3 us per call.

        A symbol's parameters at a horizon form one row: kinds, columns and coefficients of the
        inputs, intercept, GARCH constant and weight, whether own trees are added, their start, the
        usual level, and the four coordinates of the law. Those of the pooled part are: columns,
        coefficients, intercept, start of its trees.
        """
        linear, pooled, packed = self.linear, self.pooled, self.packed
        shape = (*linear.kinds.shape[:2], 1)
        parameters = np.concatenate(
            [
                linear.kinds.astype(np.float64),
                linear.columns.astype(np.float64),
                linear.coefficients,
                linear.garch,
                packed.own[..., None].astype(np.float64),
                np.broadcast_to(packed.starts[1][:, None], shape),
                np.broadcast_to(linear.level[:, None, None], shape),
                self.law.coordinates,
            ],
            axis=2,
        )
        horizons = len(pooled.coefficients)
        shared = np.column_stack(
            [
                np.broadcast_to(pooled.columns, (horizons, len(pooled.columns))),
                pooled.coefficients,
                packed.starts[0],
            ]
        )
        return (
            np.ascontiguousarray(parameters), np.ascontiguousarray(shared),
            packed.roots, packed.steps, packed.bounds,
        )  # fmt: skip

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return this model's own arrays by name, for storing, without the pooled part."""
        own = {
            f"{part}.{field.name}": getattr(getattr(self, part), field.name)
            for part in ("linear", "law")
            for field in fields(getattr(self, part))
        }
        return {**own, "own": self.packed.own}


def pack(pooled: Pooled, own: tuple[Trees, ...], used: npt.NDArray[np.bool_]) -> Packed:
    """Concatenate the trees of all horizons."""
    everything = [*pooled.trees, *own]
    horizons = len(pooled.trees)
    before = np.concatenate([[0], np.cumsum([len(t.nodes) for t in everything])])
    trees_before = np.concatenate([[0], np.cumsum([len(t.roots) for t in everything])])
    parts = [t.for_walks() for t in everything]
    for (roots, steps), first in zip(parts, before.astype(np.int32), strict=False):
        roots[:, 0] += first
        steps["right"] += first
    return Packed(
        roots=np.concatenate([roots for roots, _ in parts]),
        steps=np.concatenate([steps for _, steps in parts]),
        bounds=np.array([trees_before[: horizons + 1], trees_before[horizons:]], dtype=np.int64),
        starts=np.array([t.start for t in everything]).reshape(2, horizons),
        own=used,
    )


def without_trees(horizons: int, symbols: int) -> tuple[Pooled, Packed]:
    """Return the pooled part and the trees of a model that has neither."""
    trees = tuple(empty() for _ in range(horizons))
    pooled = Pooled(np.empty(0, np.int64), np.zeros((horizons, 1)), trees)
    return pooled, pack(pooled, trees, np.zeros((symbols + 1, horizons), np.bool_))


# Offsets in a row of parameters, after the 3 K of its inputs; see ``Forecaster._compiled``.
INTERCEPT, CONSTANT, WEIGHT, OWN, START, LEVEL, LAW = range(7)
AFTER_INPUTS = LAW + 4


@njit(nogil=True, inline="always")
def _pooled_log(rows, i, h, level, shared, roots, steps, bounds):  # type: ignore[no-untyped-def]
    inputs = (shared.shape[1] - 2) // 2
    base = 2.0 * math.log(level)
    total = base + shared[h, 2 * inputs]
    for k in range(inputs):
        x = rows[i, int(shared[h, k])]
        total += shared[h, inputs + k] * (log_variance(x, level) - base)
    start = shared[h, 2 * inputs + 1]
    return total + add_leaves(start, rows, i, bounds[0, h], bounds[0, h + 1], roots, steps)


@njit(nogil=True, inline="always")
def _log(rows, i, s, h, level, parameters, shared, roots, steps, bounds):  # type: ignore[no-untyped-def]
    inputs = (parameters.shape[2] - AFTER_INPUTS) // 3
    after = 3 * inputs
    total = parameters[s, h, after + INTERCEPT]
    for k in range(inputs):
        weight = parameters[s, h, 2 * inputs + k]
        if weight == 0.0:
            continue
        kind, x = parameters[s, h, k], rows[i, int(parameters[s, h, inputs + k])]
        if kind == LOG:
            total += weight * log_variance(x, level)
        elif kind == RAW:
            if x == x:
                total += weight * min(max(x, -1.0), 1.0)
        elif kind == GARCH:
            x = x if x == x else level
            constant, share = parameters[s, h, after + CONSTANT], parameters[s, h, after + WEIGHT]
            total += weight * math.log(constant + share * x * x)
        elif kind == PRIOR:
            total += weight * _pooled_log(rows, i, h, level, shared, roots, steps, bounds)
    if parameters[s, h, after + OWN] != 0.0:
        start = parameters[s, h, after + START]
        total += add_leaves(start, rows, i, bounds[1, h], bounds[1, h + 1], roots, steps)
    return min(max(total, LOWEST), HIGHEST)


@njit(nogil=True, inline="always")
def _place(symbol, i, symbols):  # type: ignore[no-untyped-def]
    place = symbol[i]
    return place if 0 <= place < symbols else symbols


@njit(nogil=True, inline="always")
def _level(rows, i, s, parameters):  # type: ignore[no-untyped-def]
    return level_of(rows, i, parameters[s, 0, parameters.shape[2] - AFTER_INPUTS + LEVEL])


@njit(nogil=True)
def _log_variances(rows, symbol, h, parameters, shared, roots, steps, bounds):  # type: ignore[no-untyped-def]
    symbols = parameters.shape[0] - 1
    result = np.empty(len(rows))
    for i in range(len(rows)):
        s = _place(symbol, i, symbols)
        level = _level(rows, i, s, parameters)
        result[i] = _log(rows, i, s, h, level, parameters, shared, roots, steps, bounds)
    return result


@njit(nogil=True, inline="always")
def _cell(rows, i, s, h, log, level, parameters, places):  # type: ignore[no-untyped-def]
    """Find the cell of the law for a row."""
    size = log - 2.0 * math.log(level) if s == parameters.shape[0] - 1 else log
    ticks = rows[i, ACTIVITY]
    activity = math.log(max(ticks, LEAST_ACTIVITY)) if ticks == ticks else np.nan
    corner(parameters, s, h, parameters.shape[2] - 4, size, activity, places)


@njit(nogil=True)
def _forecast(  # type: ignore[no-untyped-def]
    rows, symbol, asked, bps, parameters, shared, roots, steps, bounds, table
):
    symbols, horizons = parameters.shape[0] - 1, parameters.shape[1]
    volatility = np.empty((len(rows), horizons))
    quantiles = np.empty((len(rows), horizons, len(QUANTILE_PLACES)))
    exceedance = np.empty((len(rows), horizons))
    places = np.empty(4)
    for i in range(len(rows)):
        s = _place(symbol, i, symbols)
        level = _level(rows, i, s, parameters)
        for h in range(horizons):
            log = _log(rows, i, s, h, level, parameters, shared, roots, steps, bounds)
            deviation = math.exp(0.5 * log)
            volatility[i, h] = deviation * bps[h]
            _cell(rows, i, s, h, log, level, parameters, places)
            for k in range(len(QUANTILE_PLACES)):
                ratio = ratio_at(table, s, h, places, QUANTILE_PLACES[k])
                quantiles[i, h, k] = deviation * ratio * bps[h]
            wanted = asked[_place(symbol, i, len(asked) - 1), h]
            exceedance[i, h] = exceedance_of(table, s, h, places, wanted / deviation)
    return volatility, quantiles, exceedance


@njit(nogil=True)
def _distribution(rows, symbol, logs, h, parameters, table):  # type: ignore[no-untyped-def]
    symbols = parameters.shape[0] - 1
    result = np.empty((len(rows), len(LEVELS)))
    places = np.empty(4)
    for i in range(len(rows)):
        s = _place(symbol, i, symbols)
        _cell(rows, i, s, h, logs[i], _level(rows, i, s, parameters), parameters, places)
        deviation = math.exp(0.5 * logs[i])
        for k in range(len(LEVELS)):
            result[i, k] = deviation * ratio_at(table, s, h, places, k)
    return result


@njit(nogil=True)
def _exceedance(rows, symbol, logs, h, asked, parameters, table):  # type: ignore[no-untyped-def]
    symbols = parameters.shape[0] - 1
    result = np.empty(len(rows))
    places = np.empty(4)
    for i in range(len(rows)):
        s = _place(symbol, i, symbols)
        _cell(rows, i, s, h, logs[i], _level(rows, i, s, parameters), parameters, places)
        result[i] = exceedance_of(table, s, h, places, asked[i] / math.exp(0.5 * logs[i]))
    return result
