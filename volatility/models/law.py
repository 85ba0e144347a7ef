"""Describe how realised volatility spreads around its forecast: the residual law.

The distribution of the ratio of realised to forecast volatility is not fixed: in a silent market
the price does not move in most minutes, and low forecasts err upwards more than high ones. Its
quantiles are therefore tabulated over two coordinates, each standardised on the rows of the fit:
the size of the forecast (log variance) and the market's activity (log mean ticks per second).
Values are interpolated between the corners.

Quantiles, exceedance probabilities and expected moves come from the same table, so they cannot
contradict each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from volatility.compiled import njit
from volatility.units import Floats

LEVELS = np.array(
    [0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075]
    + [round(0.05 * k, 2) for k in range(2, 19)]
    + [0.925, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.9975, 0.999]
)
GRID = np.array([-1.2, 0.0, 1.2])  # corners, in standard deviations
BANDWIDTH = 0.7  # of the Gaussian weights around a corner, in the same units
OWN_WINDOWS = 200.0  # independent windows at which a symbol's own table has half the weight
TAIL = 3.0  # power of the distribution beyond the last level; Gopikrishnan et al. (1998)
LEAST_SPREAD = 0.05


@dataclass(frozen=True)
class Law:
    """Represent the residual laws of S symbols and of an unknown symbol at H horizons.

    Parameters
    ----------
    coordinates : float64[S + 1, H, 4]
        Centre and spread of the forecast size, centre and spread of activity.
    table : float64[S + 1, H, 3, 3, K]
        Quantiles of realised over forecast volatility at ``LEVELS``, by corner of size and
        activity.
    """

    coordinates: Floats
    table: Floats


def fit_law(
    ratio: list[list[Floats]],
    size: list[list[Floats]],
    activity: list[list[Floats]],
    level: list[list[Floats]],
    windows: list[list[int]],
) -> Law:
    """Fit the law on rows that the forecast was not fitted on.

    Parameters
    ----------
    ratio, size, activity, level : list of list of float64[n]
        By symbol and horizon: realised over forecast volatility, log of the forecast variance,
        log of mean ticks per second, log of the row's own level as variance.
    windows : list of list of int
        Number of independent windows among those rows.

    Notes
    -----
    A symbol's table is shrunk towards that of all symbols by averaging quantiles, which preserves
    their order (Vincent, 1912). For an unknown symbol, the size of a forecast is its logarithm
    minus that of the row's own level.
    """
    symbols, horizons = len(ratio), len(ratio[0])
    coordinates = np.empty((symbols + 1, horizons, 4))
    table = np.empty((symbols + 1, horizons, len(GRID), len(GRID), len(LEVELS)))
    for h in range(horizons):
        parts = [np.full(len(ratio[s][h]), 1.0 / max(len(ratio[s][h]), 1)) for s in range(symbols)]
        weight = np.concatenate(parts)
        pooled = np.concatenate([ratio[s][h] for s in range(symbols)])
        own = [_standard(size[s][h], activity[s][h]) for s in range(symbols)]
        unknown = _standard(
            np.concatenate([size[s][h] - level[s][h] for s in range(symbols)]),
            np.concatenate([activity[s][h] for s in range(symbols)]),
            weight,
        )
        coordinates[symbols, h] = unknown[0]
        table[symbols, h] = _table(pooled, *unknown[1:], weight)
        together = np.concatenate([o[1] for o in own]), np.concatenate([o[2] for o in own])
        shared = _table(pooled, *together, weight)
        for s in range(symbols):
            coordinates[s, h] = own[s][0]
            share = windows[s][h] / (windows[s][h] + OWN_WINDOWS)
            # A single symbol's table is that of all symbols, and need not be made again.
            alone = symbols == 1 or not share
            mine = shared if alone else _table(ratio[s][h], own[s][1], own[s][2], parts[s])
            table[s, h] = share * mine + (1.0 - share) * shared
    return Law(coordinates, table)


def _standard(
    size: Floats, activity: Floats, weight: Floats | None = None
) -> tuple[Floats, Floats, Floats]:
    """Return centres and spreads, and both coordinates in those units."""
    if not len(size):
        return np.array([0.0, 1.0, 0.0, 1.0]), size, activity
    known = np.where(np.isnan(activity), np.nan, activity)
    some = ~np.isnan(known)
    middle = float(np.average(size, weights=weight))
    spread = float(np.sqrt(np.average((size - middle) ** 2, weights=weight)))
    centre, width = 0.0, 1.0
    if some.any():
        chosen = None if weight is None else weight[some]
        centre = float(np.average(known[some], weights=chosen))
        width = float(np.sqrt(np.average((known[some] - centre) ** 2, weights=chosen)))
    spread, width = max(spread, LEAST_SPREAD), max(width, LEAST_SPREAD)
    standard = np.where(some, (known - centre) / width, 0.0)
    return np.array([middle, spread, centre, width]), (size - middle) / spread, standard


def _table(ratio: Floats, size: Floats, activity: Floats, weight: Floats) -> Floats:
    """Return weighted quantiles around each corner: float64[3, 3, K]."""
    order = np.argsort(ratio, kind="stable")
    ranked, size, activity, weight = ratio[order], size[order], activity[order], weight[order]
    by_size, by_activity = (
        [np.exp(-0.5 * np.square((np.clip(x, -1.8, 1.8) - place) / BANDWIDTH)) for place in GRID]
        for x in (size, activity)
    )
    result = np.empty((len(GRID), len(GRID), len(LEVELS)))
    for i in range(len(GRID)):
        for j in range(len(GRID)):
            near = weight * by_size[i] * by_activity[j]
            total = np.cumsum(near)
            # Mid-ranks: a row's level is at the middle of its own weight.
            result[i, j] = np.interp(LEVELS, (total - 0.5 * near) / total[-1], ranked)
    return result


@njit(nogil=True, inline="always")
def corner(parameters, s, h, first, size, activity, places):  # type: ignore[no-untyped-def]
    """Find the cell of a row: write two corner indices and two weights to ``places``.

    The coordinates of the law start at ``first`` in a row of parameters.
    """
    for axis in range(2):
        x = size if axis == 0 else activity
        centre, spread = parameters[s, h, first + 2 * axis], parameters[s, h, first + 2 * axis + 1]
        x = (x - centre) / spread if x == x else 0.0
        x = min(max(x, GRID[0]), GRID[2])
        place = 0 if x < GRID[1] else 1
        places[axis] = place
        places[2 + axis] = (x - GRID[place]) / (GRID[place + 1] - GRID[place])


@njit(nogil=True, inline="always")
def ratio_at(table, s, h, places, k):  # type: ignore[no-untyped-def]
    """Return the ratio at level ``k``, interpolated between the four corners of a cell."""
    i, j = int(places[0]), int(places[1])
    x, y = places[2], places[3]
    low = (1.0 - y) * table[s, h, i, j, k] + y * table[s, h, i, j + 1, k]
    high = (1.0 - y) * table[s, h, i + 1, j, k] + y * table[s, h, i + 1, j + 1, k]
    return (1.0 - x) * low + x * high


@njit(nogil=True, inline="always")
def exceedance_of(table, s, h, places, ratio):  # type: ignore[no-untyped-def]
    """Return the probability that realised over forecast volatility is at least ``ratio``."""
    if not ratio > 0.0:
        return 1.0
    last = len(LEVELS) - 1
    top = ratio_at(table, s, h, places, last)
    if ratio >= top:
        return (1.0 - LEVELS[last]) * (top / ratio) ** TAIL
    low, high = -1, last  # invariant: the ratio at ``low`` is below, that at ``high`` is not
    while high - low > 1:
        middle = (low + high) // 2
        if ratio_at(table, s, h, places, middle) < ratio:
            low = middle
        else:
            high = middle
    above = ratio_at(table, s, h, places, high)
    if low < 0:
        return 1.0 - LEVELS[0] * ratio / above
    below = ratio_at(table, s, h, places, low)
    share = (ratio - below) / (above - below)
    return 1.0 - (LEVELS[low] + share * (LEVELS[high] - LEVELS[low]))
