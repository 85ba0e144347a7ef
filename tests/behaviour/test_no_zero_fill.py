"""DESIGN 6.7: what is missing stays missing, from the wire to the model."""

from __future__ import annotations

import numpy as np
import pytest

from service.wire import decode_rows
from tests.bundles import random_rows, small_bundle
from tests.streams import SECOND, START, to_batch
from volatility.feature_table import FEATURE_NAMES, INDEX, MODEL_INPUTS
from volatility.features import FeatureEngine, feature_batches
from volatility.settings import Features
from volatility.tick import Record, Tick, decode, encode


def quotes(size: float | None) -> list[Record]:
    return [
        decode(
            encode(
                Tick(
                    "BTC-USD",
                    START + k * SECOND,
                    price=10.0,
                    bid=9.0,
                    ask=11.0,
                    bid_size=size,
                    ask_size=size,
                )
            )
        )
        for k in range(3)
    ]


@pytest.mark.parametrize("name", ["quote_imbalance", "microprice_distance_bps"])
def test_absent_sizes_leave_their_features_missing(name: str) -> None:
    for size, missing in ((None, True), (2.0, False)):
        engine = FeatureEngine()
        rows = [row for record in quotes(size) for row in engine.update(record)]
        (batch,) = (r.copy() for _, r in feature_batches([to_batch(quotes(size))], Features()))
        assert np.isnan(rows[0].value(name)) == missing
        assert np.isnan(batch[0, INDEX[name]]) == missing


def test_a_cold_window_is_missing_and_not_zero() -> None:
    engine = FeatureEngine()
    (row, *_) = [row for record in quotes(1.0) for row in engine.update(record)]
    for name in ("volatility_30s", "realised_volatility_900s", "volatility_ratio_60s"):
        assert np.isnan(row.value(name))


def test_a_feature_left_out_of_a_request_is_missing() -> None:
    (row,) = decode_rows(b'{"rows": [{"midprice": 10.0, "quote_imbalance": 0.5}]}', 10)
    given = {"midprice", "quote_imbalance"}
    assert {n for n in FEATURE_NAMES if not np.isnan(row[INDEX[n]])} == given


def test_the_model_tells_missing_from_zero() -> None:
    bundle = small_bundle()
    rows = random_rows(200, seed=3, missing=0.0)
    for name in MODEL_INPUTS:
        missing, zero = rows.copy(), rows.copy()
        missing[:, INDEX[name]], zero[:, INDEX[name]] = np.nan, 0.0
        if not np.array_equal(bundle.score(missing), bundle.score(zero)):
            return
    pytest.fail("no input's absence differs from its being zero")
