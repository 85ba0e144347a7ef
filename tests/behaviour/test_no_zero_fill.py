"""DESIGN 6.7: what is missing stays missing, from the wire to the model."""

from __future__ import annotations

import numpy as np
import pytest

from service.wire import decode_rows
from tests.bundles import random_rows, small_bundle
from tests.streams import START, to_batch
from volatility.dataset import forward_variance
from volatility.features.engine import FeatureEngine, feature_batches
from volatility.features.table import FEATURE_NAMES, INDEX
from volatility.models.bundle import Variant
from volatility.records.tick import Record, Tick, decode, encode
from volatility.settings import Features
from volatility.units import SECOND


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


@pytest.mark.parametrize("variant", ["ml", "prior", "baseline"])
def test_the_model_tells_missing_from_zero(variant: Variant) -> None:
    bundle = small_bundle().as_variant(variant)
    rows = random_rows(200, seed=3, missing=0.0)
    symbol = np.zeros(200, dtype=np.int64)
    for name in FEATURE_NAMES:
        missing, zero = rows.copy(), rows.copy()
        missing[:, INDEX[name]], zero[:, INDEX[name]] = np.nan, 0.0
        if not np.array_equal(bundle.score(missing, symbol), bundle.score(zero, symbol)):
            return
    pytest.fail("no feature's absence differs from its being zero")


def test_a_missing_volatility_is_at_its_level_and_a_zero_is_silence() -> None:
    """A cold window must not pass for a silent one: it would forecast calm."""
    persistence = small_bundle().forecasters["persistence_60s"]
    rows, place = random_rows(50, seed=4, missing=0.0), np.zeros(50, dtype=np.int64)
    column = INDEX["realised_volatility_60s"]
    assert persistence.linear.columns[0, 0].tolist() == [column]
    level = rows[:, INDEX["realised_volatility_900s"]]
    missing, at_level, silent = (
        persistence.log_variance(np.insert(np.delete(rows, column, 1), column, v, 1), place, 0)
        for v in (np.full(50, np.nan), level, np.zeros(50))
    )
    assert missing == pytest.approx(at_level, abs=1e-12)
    # log(1 + 0.2**2) against log(0.2**2), times the slope.
    slope = persistence.linear.coefficients[0, 0, 0]
    assert at_level - silent == pytest.approx(np.full(50, slope * np.log(26.0)), abs=1e-9)
    assert slope != 0.0


def test_a_label_is_missing_where_its_window_is_and_zero_only_in_silence() -> None:
    time = START + np.arange(1, 201) * SECOND
    returns = np.zeros(200)
    returns[150] = np.nan  # a gap: the midprice was not known
    found = forward_variance(time, returns, np.zeros(200), [60])[:, 0]
    assert (found[:90] == 0.0).all()
    assert np.isnan(found[90:]).all()
