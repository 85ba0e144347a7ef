"""Collect the residuals of validated forecasts, and fit their law."""

from __future__ import annotations

import numpy as np

from volatility.models.law import Law, fit_law
from volatility.models.sample import Sample
from volatility.units import Floats


def residual_law(samples: list[Sample], forecasts: list[Floats]) -> Law:
    """Fit the law of one model from a sample and float64[n] log variances at each horizon.

    The forecasts come from fits that had not seen the row; NaN if there is none.
    """
    ratio: list[list[Floats]] = []
    size: list[list[Floats]] = []
    activity: list[list[Floats]] = []
    level: list[list[Floats]] = []
    windows: list[list[int]] = []
    for symbol in range(samples[0].symbols):
        for column in (ratio, size, activity, level):
            column.append([])
        windows.append([])
        for one, logs in zip(samples, forecasts, strict=True):
            mine = one.of(symbol)
            mine = mine[~np.isnan(logs[mine])]
            ratio[-1].append(np.sqrt(one.realised[mine]) * np.exp(-0.5 * logs[mine]))
            size[-1].append(logs[mine])
            activity[-1].append(one.activity[mine])
            level[-1].append(2.0 * np.log(one.level[mine]))
            windows[-1].append(one.windows(mine))
    return fit_law(ratio, size, activity, level, windows)
