"""Measure the persistence of volatility with a HAR, on recordings and on the simulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from volatility.dataset import assemble
from volatility.features import INDEX, FeatureFrame
from volatility.models import LOG, Input, fit_gamma, inputs_of, sample
from volatility.settings import Settings

WINDOWS = (60, 300, 900)


@dataclass(frozen=True)
class Persistence:
    """Represent a market's HAR over the next 60 s.

    ``fast``, ``middle`` and ``slow`` are the weights of the last 60, 300 and 900 s in the log
    variance, ``sum`` the share of a level that persists, ``zero_share`` the share of seconds in
    which the midprice does not move.
    """

    fast: float
    middle: float
    slow: float
    sum: float
    zero_share: float


def persistence(frame: FeatureFrame) -> Persistence:
    """Fit the HAR of one symbol's feature rows by quasi-likelihood."""
    one = sample(assemble([frame], Settings()), 0)
    inputs = tuple(Input(LOG, f"realised_volatility_{window}s") for window in WINDOWS)
    values = inputs_of(inputs, one.rows, one.level)
    fast, middle, slow, _ = fit_gamma(values, one.realised, np.zeros(len(one))).tolist()
    returns = frame.rows[:, INDEX["log_return_1s"]]
    moved = returns[~np.isnan(returns)]
    return Persistence(fast, middle, slow, fast + middle + slow, float(np.mean(moved == 0.0)))
