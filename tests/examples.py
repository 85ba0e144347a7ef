"""Train a small model on a simulated market, once for all the tests that look at one."""

from __future__ import annotations

from functools import cache

import numpy as np

from volatility.dataset import Dataset, assemble
from volatility.features import FeatureFrame, feature_batches
from volatility.settings import Evaluate, Settings, Train
from volatility.simulate import simulate
from volatility.training import Training, train

START_NS = 1_767_571_200_000_000_000  # 2026-01-05
SMALL = Settings(
    train=Train(folds=2, iterations=40, min_samples_leaf=60),
    evaluate=Evaluate(resamples=100, placebo_hours=6.0),
)


@cache
def frame(hours: float = 8.0, seed: int = 7, symbol: str = "BTC-USD") -> FeatureFrame:
    """Build the feature rows of a simulated market."""
    market = simulate(symbol, START_NS, hours, seed)
    parts = [(time.copy(), rows.copy()) for time, rows in feature_batches(market, SMALL.features)]
    return FeatureFrame(
        symbol, np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    )


@cache
def dataset() -> Dataset:
    """Label the market's rows."""
    return assemble([frame()], SMALL.label)


@cache
def trained() -> Training:
    """Train two folds on it."""
    return train(dataset(), SMALL, progress=False)
