"""Compute the inputs of a forecast from a feature row, with logarithms robust to silent minutes.

The logarithm of a realised volatility of zero, or nearly zero, would drive a log-linear forecast
to absurd values. Each volatility is therefore combined with a fifth of the row's own level (the
900-second volatility): ``log(x**2 + (0.2 * level)**2)``. On the recordings this improves every
log-linear forecast, HAR by 0.003 to 0.04 of QLIKE.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from volatility.compiled import njit
from volatility.features import INDEX

FLOOR = 1e-7  # one-second volatility: 0.008 basis points over a minute, a fraction of any tick
CEILING = 1.0  # above any market, but with a finite square: even an absurd row gets a forecast
LEVEL_SHARE = 0.2
LOG, RAW, PRIOR, GARCH = range(4)  # kinds of inputs

# The level of a row is the first of these features that is known.
LEVEL_COLUMNS = np.array(
    [
        INDEX[name]
        for name in (
            "realised_volatility_900s",
            "realised_volatility_300s",
            "ewma_volatility_300s",
            "realised_volatility_60s",
            "ewma_volatility_60s",
            "realised_volatility_30s",
            "volatility_30s",
            "ewma_volatility_10s",
            "realised_volatility_15s",
            "realised_volatility_5s",
        )
    ]
)


@dataclass(frozen=True)
class Input:
    """Represent one input of a linear forecast: a feature column and its transformation.

    ``LOG``: logarithm of a volatility as variance, see the module docstring; ``RAW``: the feature
    unchanged, between -1 and 1, 0 if missing; ``PRIOR``: the log variance forecast by the pooled
    part; ``GARCH``: ``log(constant + weight * x**2)``, with a constant and a weight per symbol.
    """

    kind: int
    feature: str = ""

    @property
    def column(self) -> int:
        """Column of the feature table; 0 if there is none."""
        return INDEX[self.feature] if self.feature else 0


@njit(nogil=True, inline="always")
def level_of(rows, i, default):  # type: ignore[no-untyped-def]
    """Return the level of volatility of row ``i`` [one-second deviation]."""
    for column in LEVEL_COLUMNS:
        x = rows[i, column]
        if x == x:
            return min(max(x, FLOOR), CEILING)
    return default


@njit(nogil=True, inline="always")
def log_variance(x, level):  # type: ignore[no-untyped-def]
    """Return the guarded log of a squared volatility; a missing one is taken as the level."""
    if x != x:
        x = level
    x = min(abs(x), CEILING)
    share = LEVEL_SHARE * level
    return math.log(x * x + share * share)


@njit(nogil=True)
def design(rows, kinds, columns, default):  # type: ignore[no-untyped-def]
    """Compute the LOG and RAW inputs of rows: float64[n, K]; other kinds remain 0."""
    result = np.zeros((len(rows), len(kinds)))
    for i in range(len(rows)):
        level = level_of(rows, i, default)
        for k in range(len(kinds)):
            x = rows[i, columns[k]]
            if kinds[k] == LOG:
                result[i, k] = log_variance(x, level)
            elif kinds[k] == RAW and x == x:
                result[i, k] = min(max(x, -1.0), 1.0)
    return result
