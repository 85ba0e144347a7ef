"""Reasons add up to the forecast, and each goes to the feature that it comes from."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from tests.bundles import random_rows, small_bundle
from volatility.features.table import FEATURE_NAMES, INDEX
from volatility.models.bundle import Bundle
from volatility.models.forecaster import pack
from volatility.models.inputs import LEVEL_COLUMNS
from volatility.models.prior import shipped
from volatility.models.reasons import contributions

SYMBOLS = ("BTC-USD", "ETH-USD")
PLACES = np.arange(60) % 3 - 1  # an unknown symbol among them


def answering(bundle: Bundle, name: str) -> Bundle:
    """Return a bundle whose baseline is the simple forecast of a name."""
    spec = bundle.specification
    named = msgspec.structs.replace(spec, best_simple=name)
    return replace(bundle, specification=named, variant="baseline")


def bundles() -> list[Bundle]:
    bundle = small_bundle(0, SYMBOLS)
    simple = [name for name in bundle.specification.models if name not in ("ml", "prior")]
    return [
        bundle,
        bundle.as_variant("prior"),
        shipped().bundle,
        *(answering(bundle, name) for name in simple),
    ]


@pytest.mark.parametrize("missing", [0.0, 0.3, 1.0])
def test_expected_and_parts_add_up_to_the_log_volatility(missing):
    rows = random_rows(60, missing=missing)
    for bundle in bundles():
        found = contributions(bundle, rows, PLACES)
        total = found.expected + found.parts.sum(axis=1)
        expected = 0.5 * bundle.forecaster.log_variance(rows, PLACES, 0)
        assert np.allclose(total, expected, rtol=0.0, atol=1e-12), bundle.model


def test_own_trees_are_explained_too():
    bundle = small_bundle(0, SYMBOLS)
    ml = bundle.forecasters["ml"]
    used = np.ones_like(ml.packed.own)
    trees = tuple(t.first(9) for t in ml.pooled.trees)
    # The pooled trees stand in for own ones: random rows earn none.
    forecaster = replace(ml, own=trees, packed=pack(ml.pooled, trees, used))
    grown = replace(bundle, forecasters={**bundle.forecasters, "ml": forecaster})
    rows = random_rows(60)
    found = contributions(grown, rows, PLACES)
    expected = 0.5 * forecaster.log_variance(rows, PLACES, 0)
    assert not np.allclose(expected, 0.5 * ml.log_variance(rows, PLACES, 0))
    assert np.allclose(found.expected + found.parts.sum(axis=1), expected, rtol=0.0, atol=1e-12)


def test_what_is_expected_is_the_same_for_all_rows_of_a_symbol():
    for bundle in bundles():
        expected = contributions(bundle, random_rows(60), PLACES).expected
        for place in (-1, 0, 1):
            assert len(set(expected[place == PLACES].tolist())) == 1


def test_a_row_at_its_usual_level_is_explained_by_trees_alone():
    bundle = small_bundle(0, SYMBOLS)
    usual = bundle.forecaster.linear.level[0]
    rows = np.full((1, len(FEATURE_NAMES)), np.nan)
    names = [n for n in FEATURE_NAMES if "volatility_" in n and n.endswith("0s")]
    for name in names:
        if "ratio" not in name and "of" not in name:
            rows[0, INDEX[name]] = usual
    parts = contributions(bundle, rows, np.zeros(1, np.int64)).parts[0]
    assert np.abs(parts[LEVEL_COLUMNS]).max() < 1e-15


def test_the_level_counts_for_the_feature_that_supplied_it():
    # A persistence forecast is a constant plus a weight times the logarithm of one volatility.
    bundle = answering(small_bundle(0, SYMBOLS), "persistence_900s")
    linear = bundle.forecaster.linear
    weight, usual = linear.coefficients[0, 0, 0], linear.level[0]
    rows = np.full((2, len(FEATURE_NAMES)), np.nan)
    rows[0, INDEX["realised_volatility_900s"]] = 3.0 * usual
    rows[1, INDEX["volatility_30s"]] = 3.0 * usual
    parts = contributions(bundle, rows, np.zeros(2, np.int64)).parts
    for row, name in enumerate(("realised_volatility_900s", "volatility_30s")):
        assert parts[row, INDEX[name]] == pytest.approx(weight * math.log(3.0), rel=1e-12)
        assert np.count_nonzero(parts[row]) == 1


def test_a_row_s_reasons_do_not_depend_on_the_others():
    bundle, rows = small_bundle(0, SYMBOLS), random_rows(60)
    together = contributions(bundle, rows, PLACES).parts
    alone = [contributions(bundle, rows[i : i + 1], PLACES[i : i + 1]).parts for i in range(60)]
    assert together.tobytes() == np.concatenate(alone).tobytes()
