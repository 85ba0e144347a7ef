"""The drift alert is silent on the market that a model was trained on, and fires on another."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from volatility.evaluation.drift import DriftResult, compare
from volatility.features.engine import feature_batches
from volatility.features.files import FeatureFrame
from volatility.settings import Drift, Features
from volatility.simulation.simulator import noise, simulate
from volatility.units import SECOND

START_NS = 1_767_571_200 * SECOND  # 2026-01-05
HOURS = 24.0
STOP_NS = START_NS + int(HOURS * 3600) * SECOND
STRIDE_SECONDS = 15


def thinned(market: Iterable[pa.RecordBatch]) -> FeatureFrame:
    """Return the rows that training and drift read, one each stride."""
    parts = [
        (time[time // SECOND % STRIDE_SECONDS == 0], rows[time // SECOND % STRIDE_SECONDS == 0])
        for time, rows in feature_batches(market, Features())
    ]
    time, rows = (np.concatenate([part[k] for part in parts]) for k in range(2))
    return FeatureFrame("BTC-USD", time, rows)


@cache
def frame(hours: float, seed: int) -> FeatureFrame:
    return thinned(simulate("BTC-USD", START_NS, hours, seed))


def followed_by(later: FeatureFrame) -> DriftResult:
    """Train on a day of the simulated market, and look at what comes after it."""
    before = frame(HOURS, 7)
    return compare(
        [
            FeatureFrame(
                before.symbol,
                np.concatenate([before.time, later.time]),
                np.concatenate([before.rows, later.rows]),
            )
        ],
        START_NS,
        int(before.time[-1]),
        Drift(),
    )


@pytest.mark.parametrize("seed", [8, 9])
def test_six_hours_of_the_same_market_are_not_drift(seed: int) -> None:
    whole = frame(HOURS + 6.0, seed)
    later = whole.time > frame(HOURS, 7).time[-1]
    result = followed_by(FeatureFrame(whole.symbol, whole.time[later], whole.rows[later]))
    assert result.after_training
    assert result.current.rows > 1_300
    assert result.drifted_features <= 1
    assert not result.alert


def test_a_market_of_noise_is_drift_though_its_volatility_is_steady() -> None:
    result = followed_by(thinned(noise("BTC-USD", STOP_NS, 6.0, 1)))
    assert result.after_training
    assert result.alert
