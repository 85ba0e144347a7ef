"""The drift alert is silent on the market that a model was trained on, and fires on another."""

from __future__ import annotations

import numpy as np
import pytest

from tests.examples import START_NS, frame
from volatility.drift import DriftResult, compare
from volatility.features import FeatureFrame, feature_batches
from volatility.kernel_state import SECOND
from volatility.settings import Drift, Features
from volatility.simulate import noise

HOURS = 24.0
STOP_NS = START_NS + int(HOURS * 3600) * SECOND


def then(later: FeatureFrame) -> DriftResult:
    """Train on a day of the simulated market, and look at what comes after it."""
    before = frame(HOURS)
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
def test_six_hours_of_the_same_market_are_no_drift(seed: int) -> None:
    whole = frame(HOURS + 6.0, seed)
    later = whole.time >= STOP_NS
    result = then(FeatureFrame(whole.symbol, whole.time[later], whole.rows[later]))
    assert result.after_training
    assert result.current.rows > 20_000
    assert result.drifted_features <= 1
    assert not result.alert


def test_a_market_of_noise_is_drift_though_its_volatility_is_steady() -> None:
    market = noise("BTC-USD", STOP_NS, 6.0, 1)
    parts = [(time.copy(), rows.copy()) for time, rows in feature_batches(market, Features())]
    time, rows = (np.concatenate([part[k] for part in parts]) for k in range(2))
    result = then(FeatureFrame("BTC-USD", time, rows))
    assert result.after_training
    assert result.alert
