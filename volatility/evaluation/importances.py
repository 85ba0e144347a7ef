"""Measure how much a model loses when a feature becomes uninformative."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from volatility.evaluation.scores import qlike_bps
from volatility.features import FEATURE_NAMES, INDEX
from volatility.models import Bundle
from volatility.units import Floats, Integers

MOST_ROWS = 1_000
REPEATS = 3


@dataclass(frozen=True)
class Importance:
    """Represent the rise of QLIKE when one feature is permuted among rows, over repeats."""

    feature: str
    importance: float
    standard_deviation: float


def permutation_importances(
    bundle: Bundle, rows: Floats, symbol: Integers, realised_bps: Floats, seed: int
) -> list[Importance]:
    """Permute each feature that the model reads among float64[n, features] held-out rows.

    ``realised_bps`` is float64[n], over the first horizon. The largest rise comes first; features
    whose permutation changes no forecast are omitted.
    """
    step = -(-len(rows) // MOST_ROWS)
    rows, symbol, real = rows[::step].copy(), symbol[::step], realised_bps[::step]
    generator = np.random.default_rng(seed)

    def loss() -> float:
        forecast = bundle.forecast(rows, symbol).volatility_bps[:, 0]
        return float(np.mean(qlike_bps(forecast, real)))

    whole = loss()
    result = []
    for name in FEATURE_NAMES:
        column = INDEX[name]
        kept = rows[:, column].copy()
        rises = []
        for _ in range(REPEATS):
            rows[:, column] = generator.permutation(kept)
            rises.append(loss() - whole)
        rows[:, column] = kept
        if any(rises):
            result.append(Importance(name, float(np.mean(rises)), float(np.std(rises))))
    return sorted(result, key=lambda one: -one.importance)
