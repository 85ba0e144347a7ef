from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.bundles import arrays_of, random_dataset, random_rows, small_bundle, with_arrays
from volatility.features.table import INDEX, MODEL_INPUTS
from volatility.models.bundle import (
    ARRAYS_FILE,
    MARGIN,
    MODEL_FILE,
    Bundle,
    Specification,
    load,
)
from volatility.models.prior import shipped
from volatility.models.simple import SIMPLE

SYMBOLS = ("BTC-USD", "ETH-USD")
ARRAYS = arrays_of(small_bundle())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_bundle().save(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_saved_bundle_loads_as_the_same(folder: Path) -> None:
    before, after = small_bundle(), load(folder)
    assert after.digest == before.digest
    # JSON has lists where Python has tuples.
    assert msgspec.json.encode(after.specification) == msgspec.json.encode(before.specification)
    rows, place = random_rows(500, 3), np.arange(500) % 2
    for variant in before.variants:
        one, other = before.as_variant(variant), after.as_variant(variant)
        assert one.score(rows, place).tobytes() == other.score(rows, place).tobytes()
        for name in ("volatility_bps", "quantiles_bps", "exceedance"):
            found = [getattr(b.forecast(rows, place), name).tobytes() for b in (one, other)]
            assert found[0] == found[1]
    assert sorted(path.name for path in folder.iterdir()) == [ARRAYS_FILE, MODEL_FILE]


@pytest.mark.slow
def test_every_forecaster_of_the_leaderboard_is_stored(folder: Path) -> None:
    found = load(folder)
    rows, place = random_rows(50, 3), np.zeros(50, np.int64)
    assert set(found.forecasters) == set(small_bundle().forecasters)
    for name, forecaster in found.forecasters.items():
        for h in range(3):
            expected = small_bundle().forecasters[name].distribution(rows, place, h)
            assert forecaster.distribution(rows, place, h).tobytes() == expected.tobytes()


def test_saving_again_replaces(folder: Path) -> None:
    small_bundle(1).save(folder)
    assert load(folder).digest == small_bundle(1).digest != small_bundle(0).digest


def test_the_shipped_prior_loads_and_serves_any_symbol() -> None:
    bundle = shipped().bundle
    assert (bundle.model, bundle.variant, bundle.variants) == ("prior", "prior", ("prior",))
    assert bundle.place("ANY-THING") == -1
    made = bundle.forecast(random_rows(20, 1), np.full(20, -1))
    assert np.isfinite(made.quantiles_bps).all()
    assert ((made.exceedance >= 0.0) & (made.exceedance <= 1.0)).all()


@pytest.mark.slow
def test_a_row_scores_the_same_alone_and_among_others() -> None:
    rows = random_rows(200, 5, missing=0.4)
    place = np.arange(200) % 2
    scores = {}
    for variant in small_bundle().variants:
        model = small_bundle().as_variant(variant)
        together = scores[variant] = model.score(rows, place)
        alone = [model.score(rows[[i]], place[[i]])[0] for i in range(200)]
        assert together.tobytes() == np.array(alone).tobytes()
        assert together[::-1].tobytes() == model.score(rows[::-1], place[::-1]).tobytes()
        made = model.forecast(rows, place)
        assert together.tobytes() == np.ascontiguousarray(made.exceedance[:, 0]).tobytes()
    assert set(scores) == {"ml", "prior", "baseline"}
    assert not np.array_equal(scores["ml"], scores["baseline"])


# --- symbols ------------------------------------------------------------------------------


@pytest.mark.slow
def test_places_of_symbols() -> None:
    one, two = small_bundle(), small_bundle(0, SYMBOLS)
    assert two.places(["ETH-USD", "OTHER", "BTC-USD"]).tolist() == [1, -1, 0]
    assert [two.place(name) for name in ("BTC-USD", "ETH-USD", "OTHER", None)] == [0, 1, -1, -1]
    assert [one.place(name) for name in ("BTC-USD", "OTHER", None)] == [0, -1, 0]


def test_a_score_is_the_probability_of_the_symbol_s_own_spike_level() -> None:
    bundle = small_bundle(0, SYMBOLS)
    assert bundle.spike_levels.shape == (3, 3)
    rows = random_rows(100, 2)
    for symbol in (0, 1, -1):
        place = np.full(100, symbol)
        level = np.full(100, bundle.spike_levels[symbol, 0])
        expected = bundle.forecaster.exceedance(rows, place, 0, level)
        assert bundle.score(rows, place) == pytest.approx(expected, abs=1e-12)
    spec = bundle.specification
    assert bundle.spike_levels * 1e4 * np.sqrt([60, 300, 900]) == pytest.approx(
        np.array(spec.spike_levels_bps)
    )


# --- the digest ---------------------------------------------------------------------------


def other(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, dict):
        return {**value, "more": 1}
    if isinstance(value, tuple):
        return (other(value[0]), *value[1:])
    if value is None:
        return 0.5
    field = value.__struct_fields__[0]
    return msgspec.structs.replace(value, **{field: other(getattr(value, field))})


def with_field(bundle: Bundle, field: str, value: Any) -> Bundle:
    return replace(
        bundle, specification=msgspec.structs.replace(bundle.specification, **{field: value})
    )


@pytest.mark.parametrize("field", Specification.__struct_fields__)
def test_the_digest_covers_every_field_but_provenance(field: str) -> None:
    bundle = small_bundle()
    changed = with_field(bundle, field, other(getattr(bundle.specification, field)))
    assert changed.specification != bundle.specification
    assert (changed.digest == bundle.digest) == (field == "provenance")


def nudged(array: np.ndarray) -> np.ndarray:
    """Change one number a little, so that the array stays one that loading accepts."""
    result = array.copy()
    if array.dtype.names:
        result["value"][-1] += 1.0
    elif array.dtype == bool:
        result.flat[-1] = not result.flat[-1]
    elif array.dtype.kind == "f":
        result.flat[-1] += 1e-6
    else:
        result.flat[-1] = 0 if result.flat[-1] else 1
    return result


# A root in another place is another tree, for which the nodes stand; a simple forecast has no
# trees to use.
UNUSED = tuple(f"{name}.own" for name in SIMPLE)
COUNTED = [
    name
    for name, array in ARRAYS.items()
    if array.size and not name.endswith(".roots") and name not in UNUSED
]


@pytest.mark.parametrize("name", COUNTED)
def test_the_digest_covers_every_array(name: str) -> None:
    changed = with_arrays(small_bundle(), {**ARRAYS, name: nudged(ARRAYS[name])})
    assert changed.digest != small_bundle().digest


def test_the_variant_is_no_part_of_the_digest() -> None:
    bundle = small_bundle()
    spec = bundle.specification
    for variant in bundle.variants:
        chosen = bundle.as_variant(variant)
        assert chosen.digest == bundle.digest
        assert chosen.threshold == spec.thresholds[variant]
    assert bundle.as_variant("baseline").model == spec.best_simple
    assert bundle.as_variant("baseline").forecaster is bundle.forecasters[spec.best_simple]


def test_out_of_distribution_tells_range_and_absence() -> None:
    rows = random_dataset().rows
    bundle = small_bundle()
    assert not bundle.out_of_distribution(rows).any()  # what it was trained on
    spec = bundle.specification
    assert spec.inputs == MODEL_INPUTS
    row = np.nan_to_num(rows[:1], nan=1.0)
    for place, name in enumerate(MODEL_INPUTS):
        margin = MARGIN * (spec.highest[place] - spec.lowest[place])
        for value, outside in (
            (spec.lowest[place] - 0.99 * margin, False),
            (spec.lowest[place] - 1.01 * margin, True),
            (spec.highest[place] + 0.99 * margin, False),
            (spec.highest[place] + 1.01 * margin, True),
            (np.nan, False),
        ):
            changed = row.copy()
            changed[0, INDEX[name]] = value
            assert bundle.out_of_distribution(changed).tolist() == [outside], (name, value)
    strict = with_field(bundle, "may_be_missing", (False, *spec.may_be_missing[1:]))
    changed = row.copy()
    changed[0, INDEX[MODEL_INPUTS[0]]] = np.nan
    assert strict.out_of_distribution(changed).all()
    # A price level is not an input: whatever it is, it is not out of anything.
    changed = row.copy()
    changed[0, INDEX["midprice"]] = 1e300
    assert not strict.out_of_distribution(changed).any()


@pytest.mark.parametrize(("change", "same"), [(1e-15, True), (-4e-16, True), (1e-9, False)])
def test_the_self_test_allows_a_difference_in_the_last_bits_only(change: float, same: bool) -> None:
    bundle = small_bundle()
    scores = tuple(score + change for score in bundle.specification.example_scores)
    assert with_field(bundle, "example_scores", scores).reproduces() == same
