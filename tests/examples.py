"""Judge a small model on a simulated market, once for all the tests that look at one."""

from __future__ import annotations

from functools import cache

import numpy as np

from volatility.dataset import Dataset, assemble, walk_forward
from volatility.evaluation.predictions import WalkForward, walk_forward_predictions
from volatility.features.engine import FeatureFrame, feature_batches
from volatility.features.table import LONGEST_WINDOW_SECONDS
from volatility.models.bundle import Bundle
from volatility.models.fit import fit_bundle
from volatility.models.prior import shipped
from volatility.settings import Evaluate, Settings, Train
from volatility.simulation.simulator import simulate

START_NS = 1_767_571_200_000_000_000  # 2026-01-05
SMALL = Settings(
    train=Train(folds=2, stride_seconds=30, min_samples_leaf=60),
    evaluate=Evaluate(resamples=100, placebo_hours=6.0),
)
SYMBOLS = ("BTC-USD", "ETH-USD")
MARGIN_NS = (SMALL.forecast.horizons[-1] + LONGEST_WINDOW_SECONDS) * 1_000_000_000


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
    """Label the rows of two symbols."""
    return assemble([frame(symbol=symbol) for symbol in SYMBOLS], SMALL)


@cache
def walked() -> WalkForward:
    """Predict two folds by models of the rows before each."""
    return walk_forward_predictions(dataset(), SMALL, shipped(), progress=False)


@cache
def trained() -> Bundle:
    """Fit a model on the rows before the last fold; costs one fit, not those of ``walked``."""
    fold = walk_forward(
        dataset().time, SMALL.train.folds, SMALL.forecast.horizons[-1], LONGEST_WINDOW_SECONDS
    )[-1]
    return fit_bundle(dataset().take(fold.train), SMALL, shipped())


@cache
def held_out() -> Dataset:
    """Return the rows of the last fold, which ``trained`` has not seen."""
    return dataset().take(dataset().time > trained().specification.train_stop + MARGIN_NS)
