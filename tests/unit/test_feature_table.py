from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.streams import random_records
from volatility.features import table as feature_table
from volatility.features.engine import FEATURE_SCHEMA, FeatureEngine
from volatility.features.table import (
    FEATURE_NAMES,
    FEATURES,
    INDEX,
    LONGEST_WINDOW_SECONDS,
    MODEL_INPUTS,
    Feature,
    table_digest,
)
from volatility.records.tick import Record, Tick
from volatility.settings import Features
from volatility.units import SECOND


def changed(feature: Feature, field: str) -> Feature:
    value: Any = getattr(feature, field)
    other: Any = value + "x" if isinstance(value, str) else int(not value)
    return replace(feature, **{field: other})


@pytest.mark.parametrize("field", [field.name for field in fields(Feature)])
@pytest.mark.parametrize("place", [0, 20, len(FEATURES) - 1])
def test_the_digest_changes_with_any_change(monkeypatch, field: str, place: int) -> None:
    before = table_digest()
    table = list(FEATURES)
    table[place] = changed(table[place], field)
    monkeypatch.setattr(feature_table, "FEATURES", tuple(table))
    assert table_digest() != before


def test_the_digest_changes_with_order_and_number(monkeypatch) -> None:
    digests = {table_digest()}
    for table in (FEATURES[::-1], FEATURES[:-1], (*FEATURES, FEATURES[0])):
        monkeypatch.setattr(feature_table, "FEATURES", table)
        digests.add(table_digest())
    assert len(digests) == 4


def test_names_are_unique_and_columns_are_the_table() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)
    assert FEATURE_SCHEMA.names == ["time", *FEATURE_NAMES]
    assert [FEATURE_NAMES[INDEX[name]] for name in FEATURE_NAMES] == list(FEATURE_NAMES)


def test_the_features_of_the_contract_come_first() -> None:
    assert FEATURE_NAMES[:4] == ("midprice", "spread", "trade_intensity", "volatility_30s")


def test_every_feature_says_what_it_is() -> None:
    for feature in FEATURES:
        assert feature.unit
        assert feature.warm_up
        assert feature.meaning.endswith((".", "them."))
        assert feature.name == feature.name.lower()


def test_no_window_is_longer_than_the_memory() -> None:
    assert max(feature.window_seconds for feature in FEATURES) == LONGEST_WINDOW_SECONDS
    assert Features().memory_seconds >= LONGEST_WINDOW_SECONDS


def rows(records: list[Record]) -> np.ndarray:
    engine = FeatureEngine()
    return np.array([row.values for record in records for row in engine.update(record)])


def inputs(records: list[Record]) -> np.ndarray:
    return rows(records)[:, [INDEX[name] for name in MODEL_INPUTS]]


def scaled(records: list[Record], factor: float) -> list[Record]:
    return [
        msgspec.structs.replace(r, price=r.price * factor, bid=r.bid * factor, ask=r.ask * factor)
        if isinstance(r, Tick)
        else r
        for r in records
    ]


def test_no_model_input_knows_the_price_level() -> None:
    # A power of two leaves every ratio as it was, to the bit.
    records = random_records(11, 2500)
    before, after = inputs(records), inputs(scaled(records, 1024.0))
    assert np.array_equal(before, after, equal_nan=True)
    assert not np.array_equal(rows(records)[:, 0], rows(scaled(records, 1024.0))[:, 0])


def louder(factor: float) -> list[Record]:
    random = np.random.default_rng(5)
    logs = np.cumsum(random.standard_t(4, 4000) * 3e-5) * factor
    times = 1_775_337_223 * SECOND + np.cumsum(random.exponential(0.5, 4000) * 1e9).astype(int)
    return [
        Tick("BTC-USD", int(time), price=mid, bid=mid * (1 - 1e-5), ask=mid * (1 + 1e-5))
        for time, mid in zip(times, np.exp(logs), strict=True)
    ]


def test_no_model_input_knows_the_level_of_volatility() -> None:
    before, after = inputs(louder(1.0)), inputs(louder(4.0))
    known = ~np.isnan(before)
    assert known[-1].sum() > 20
    assert np.array_equal(known, ~np.isnan(after))
    assert np.allclose(before[known], after[known], rtol=1e-3, atol=1e-3)
