"""One form for every model: what it computes, held against numpy and scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor

from tests.bundles import HORIZONS, random_dataset, random_rows, small_bundle
from volatility.features.table import FEATURE_NAMES, INDEX
from volatility.models.forecaster import (
    HIGHEST,
    LOWEST,
    QUANTILE_PLACES,
    QUANTILES,
    Forecaster,
    Linear,
    Packed,
    pack,
)
from volatility.models.inputs import (
    CEILING,
    FLOOR,
    GARCH,
    LEVEL_COLUMNS,
    LEVEL_SHARE,
    LOG,
    PRIOR,
    RAW,
    Input,
    design,
)
from volatility.models.law import LEVELS
from volatility.models.simple import SIMPLE
from volatility.models.trees import empty, from_sklearn

SYMBOLS = ("BTC-USD", "ETH-USD")
NAMES = sorted([*SIMPLE, "ml", "prior"])
BPS = 1e4 * np.sqrt(np.array(HORIZONS, dtype=float))


@cache
def forecasters() -> dict[str, Forecaster]:
    return small_bundle(0, SYMBOLS).forecasters


def some_rows(count: int = 300, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rows = random_rows(count, seed, missing=0.3)
    rows[0], rows[1], rows[2] = np.nan, 0.0, 1e300
    return rows, np.arange(count) % 4 - 1  # -1 and 2 are unknown


def levels() -> np.ndarray:
    return small_bundle(0, SYMBOLS).spike_levels


def level_by_hand(row: np.ndarray, default: float) -> float:
    known = [row[c] for c in LEVEL_COLUMNS if not np.isnan(row[c])]
    return float(np.clip(known[0], FLOOR, CEILING)) if known else default


def log_by_hand(forecaster: Forecaster, row: np.ndarray, s: int, h: int) -> float:
    """Follow the words of the modules for a model without trees."""
    linear = forecaster.linear
    level = level_by_hand(row, linear.level[s])
    total = linear.coefficients[s, h, -1]
    for k, weight in enumerate(linear.coefficients[s, h, :-1]):
        x = row[linear.columns[s, h, k]]
        kind = linear.kinds[s, h, k]
        if kind == RAW:
            total += weight * (0.0 if np.isnan(x) else np.clip(x, -1.0, 1.0))
            continue
        x = level if np.isnan(x) else x
        if kind == LOG:
            total += weight * np.log(min(x, CEILING) ** 2 + (LEVEL_SHARE * level) ** 2)
        else:
            assert kind == GARCH
            constant, share = linear.garch[s, h]
            total += weight * np.log(constant + share * x**2)
    return float(np.clip(total, LOWEST, HIGHEST))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SIMPLE))
def test_a_simple_forecast_is_its_formula(name: str) -> None:
    forecaster, (rows, symbol) = forecasters()[name], some_rows()
    places = np.where((symbol < 0) | (symbol >= 2), 2, symbol)
    with np.errstate(over="ignore"):
        for h in range(len(HORIZONS)):
            expected = [
                log_by_hand(forecaster, row, s, h) for row, s in zip(rows, places, strict=True)
            ]
            assert forecaster.log_variance(rows, symbol, h) == pytest.approx(expected, abs=1e-9)


def test_the_formulas_use_every_kind_of_input() -> None:
    kinds = {
        int(kind)
        for forecaster in forecasters().values()
        for kind in forecaster.linear.kinds[forecaster.linear.coefficients[..., :-1] != 0.0]
    }
    assert kinds == {LOG, RAW, PRIOR, GARCH} or kinds == {LOG, PRIOR, GARCH}


@pytest.mark.parametrize("name", NAMES)
def test_a_row_s_forecast_does_not_depend_on_the_other_rows(name: str) -> None:
    forecaster, (rows, symbol) = forecasters()[name], some_rows()
    together = forecaster.forecast(rows, symbol, levels(), BPS)
    for place in range(0, len(rows), 7):
        alone = forecaster.forecast(rows[[place]], symbol[[place]], levels(), BPS)
        for part in ("volatility_bps", "quantiles_bps", "exceedance"):
            assert getattr(alone, part)[0].tobytes() == getattr(together, part)[place].tobytes()
    backwards = forecaster.forecast(rows[::-1].copy(), symbol[::-1].copy(), levels(), BPS)
    assert backwards.quantiles_bps[::-1].tobytes() == together.quantiles_bps.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_parts_of_a_forecast_agree(name: str) -> None:
    forecaster, (rows, symbol) = forecasters()[name], some_rows()
    made = forecaster.forecast(rows, symbol, levels(), BPS)
    asked = levels()[np.where((symbol < 0) | (symbol >= 2), 2, symbol)]
    for h in range(len(HORIZONS)):
        logs = forecaster.log_variance(rows, symbol, h)
        assert made.volatility_bps[:, h] == pytest.approx(np.exp(0.5 * logs) * BPS[h], rel=1e-12)
        quantiles = forecaster.distribution(rows, symbol, h)[:, QUANTILE_PLACES] * BPS[h]
        assert made.quantiles_bps[:, h] == pytest.approx(quantiles, rel=1e-12)
        chance = forecaster.exceedance(rows, symbol, h, asked[:, h])
        assert made.exceedance[:, h] == pytest.approx(chance, abs=1e-12)
    assert (np.diff(made.quantiles_bps, axis=2) >= 0.0).all()
    assert ((made.exceedance >= 0.0) & (made.exceedance <= 1.0)).all()
    assert np.isfinite(made.volatility_bps).all()
    assert tuple(LEVELS[QUANTILE_PLACES]) == QUANTILES


def test_no_rows_are_no_forecasts() -> None:
    made = forecasters()["ml"].forecast(
        np.empty((0, len(FEATURE_NAMES))), np.empty(0, np.int64), levels(), BPS
    )
    assert made.quantiles_bps.shape == (0, 3, 5)


@pytest.mark.parametrize("name", NAMES)
def test_every_place_outside_the_symbols_is_the_unknown_symbol(name: str) -> None:
    forecaster, (rows, _) = forecasters()[name], some_rows()
    unknown = [
        forecaster.forecast(rows, np.full(len(rows), place), levels(), BPS).quantiles_bps
        for place in (-1, 2, 1000, -(2**62))
    ]
    assert len({found.tobytes() for found in unknown}) == 1
    known = forecaster.forecast(rows, np.zeros(len(rows), np.int64), levels(), BPS).quantiles_bps
    assert np.array_equal(known, unknown[0]) == (name == "prior")


@given(st.integers(0, len(LEVEL_COLUMNS)), st.integers(0, 2**31))
def test_a_missing_input_stands_at_the_row_s_level(missing: int, seed: int) -> None:
    row = random_rows(1, seed, missing=0.0)
    row[0, LEVEL_COLUMNS[:missing]] = np.nan
    default = 3e-5
    level = row[0, LEVEL_COLUMNS[missing]] if missing < len(LEVEL_COLUMNS) else default
    inputs = [Input(LOG, "realised_volatility_900s"), Input(LOG, "ewma_volatility_60s")]
    kinds = np.array([i.kind for i in inputs])
    columns = np.array([i.column for i in inputs])
    found = design(row, kinds, columns, default)[0]
    values = np.where(np.isnan(row[0, columns]), level, row[0, columns])
    assert found == pytest.approx(np.log(values**2 + (0.2 * level) ** 2), abs=1e-12)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.0, 1.0), st.sampled_from(NAMES))
def test_a_forecast_is_finite_whatever_is_missing_silent_or_absurd(
    seed: int, missing: float, name: str
) -> None:
    rows = random_rows(20, seed, missing)
    random = np.random.default_rng(seed)
    rows[random.random(rows.shape) < 0.2] = 0.0
    rows[random.random(rows.shape) < 0.1] = random.choice([1e300, -1e300, 5e-324])
    made = forecasters()[name].forecast(rows, random.integers(-1, 3, 20), levels(), BPS)
    for part in (made.volatility_bps, made.quantiles_bps, made.exceedance):
        assert np.isfinite(part).all()
    assert (made.volatility_bps > 0.0).all()


def test_a_row_of_which_nothing_is_known_is_at_the_symbol_s_level() -> None:
    har = forecasters()["har"]
    nothing = np.full((1, len(FEATURE_NAMES)), np.nan)
    filled = nothing.copy()
    filled[0, LEVEL_COLUMNS] = har.linear.level[1]
    place = np.array([1])
    assert har.log_variance(nothing, place, 0) == har.log_variance(filled, place, 0)


# --- trees and the pooled part -------------------------------------------------------------


def grown(seed: int) -> HistGradientBoostingRegressor:
    data = random_dataset(600, seed)
    model = HistGradientBoostingRegressor(
        loss="gamma", max_iter=12, max_leaf_nodes=6, early_stopping=False, random_state=seed
    )
    return model.fit(data.rows, data.variance[:, 0] / data.variance[:, 0].mean())


def with_trees(own: list[HistGradientBoostingRegressor]) -> Forecaster:
    """Return the small model, its own trees replaced; no symbol but the second uses them."""
    model = forecasters()["ml"]
    trees = tuple(from_sklearn(one) for one in own)
    used = np.zeros((3, 3), np.bool_)
    used[1] = True
    return replace(model, packed=pack(model.pooled, trees, used), own=trees)


def test_own_trees_add_what_scikit_learn_predicts() -> None:
    models = [grown(seed) for seed in range(3)]
    forecaster = with_trees(models)
    bare = replace(forecaster, packed=replace(forecaster.packed, own=np.zeros((3, 3), np.bool_)))
    rows, _ = some_rows()
    rows = rows[3:]
    for symbol in (0, 1, 2):
        place = np.full(len(rows), symbol)
        for h, model in enumerate(models):
            added = forecaster.log_variance(rows, place, h) - bare.log_variance(rows, place, h)
            raw = np.log(model.predict(rows)) if symbol == 1 else np.zeros(len(rows))
            without = bare.log_variance(rows, place, h)
            both = np.array([without, without + raw])
            inside = ((both > LOWEST + 1e-9) & (both < HIGHEST - 1e-9)).all(axis=0)
            assert inside.sum() > 100
            assert added[inside] == pytest.approx(raw[inside], abs=1e-9)


def test_the_pooled_part_is_its_formula() -> None:
    prior, (rows, _) = forecasters()["prior"], some_rows()
    rows = rows[3:]
    places = np.full(len(rows), -1)
    for h in range(3):
        expected = []
        for i, row in enumerate(rows):
            level = level_by_hand(row, prior.linear.level[0])
            total = 2.0 * np.log(level) + prior.pooled.coefficients[h, -1]
            for column, weight in zip(
                prior.pooled.columns, prior.pooled.coefficients[h, :-1], strict=True
            ):
                x = level if np.isnan(row[column]) else row[column]
                total += weight * np.log((x**2 + (LEVEL_SHARE * level) ** 2) / level**2)
            total += prior.pooled.trees[h].raw(rows[i : i + 1])[0]
            expected.append(np.clip(total, LOWEST, HIGHEST))
        assert prior.log_variance(rows, places, h) == pytest.approx(expected, abs=1e-9)


def test_the_pooled_part_knows_no_scale() -> None:
    """A market that moves eight times as much is forecast eight times as much."""
    prior = forecasters()["prior"]
    rows = random_rows(100, 3, missing=0.2)
    rows[:, LEVEL_COLUMNS[0]] = np.nan_to_num(rows[:, LEVEL_COLUMNS[0]], nan=1e-4)
    louder = rows.copy()
    carried = [i for n, i in INDEX.items() if n.startswith(("realised_volatility", "ewma_volat"))]
    louder[:, [*carried, INDEX["volatility_30s"]]] *= 8.0
    place = np.full(100, -1)
    before, after = prior.log_variance(rows, place, 0), prior.log_variance(louder, place, 0)
    assert after - before == pytest.approx(np.full(100, 2.0 * np.log(8.0)), abs=1e-9)


@pytest.mark.parametrize("level_only", [False, True])
def test_ml_without_trees_or_own_coefficients_is_the_prior_to_the_bit(level_only: bool) -> None:
    ml, prior = forecasters()["ml"], forecasters()["prior"]
    coefficients = np.zeros_like(ml.linear.coefficients)
    coefficients[:, :, 0] = 1.0
    coefficients[:, :, -1] = 0.25 if level_only else 0.0
    none = tuple(empty() for _ in HORIZONS)
    packed: Packed = pack(ml.pooled, none, np.zeros((3, 3), np.bool_))
    linear: Linear = replace(ml.linear, coefficients=coefficients)
    bare = replace(ml, linear=linear, packed=packed, own=none)
    rows, symbol = some_rows()
    # A row without any level would take the symbol's own.
    known = ~np.isnan(rows[:, LEVEL_COLUMNS]).all(axis=1)
    rows, symbol = rows[known], symbol[known]
    for h in range(3):
        found, expected = (f.log_variance(rows, symbol, h) for f in (bare, prior))
        if level_only:
            inside = (expected > LOWEST) & (expected < HIGHEST - 0.25)
            assert found[inside] == pytest.approx(expected[inside] + 0.25, abs=1e-12)
        else:
            assert found.tobytes() == expected.tobytes()


@pytest.mark.slow
def test_packed_trees_lie_one_after_the_other() -> None:
    model = with_trees([grown(0), grown(1), grown(2)])
    packed = model.packed
    counts = [len(t.roots) for t in (*model.pooled.trees, *model.own)]
    assert packed.bounds[0].tolist() == np.cumsum([0, *counts[:3]]).tolist()
    assert packed.bounds[1].tolist() == np.cumsum([sum(counts[:3]), *counts[3:]]).tolist()
    assert len(packed.steps) == sum(len(t.nodes) for t in (*model.pooled.trees, *model.own))
    split = packed.steps["advance"] == 1
    place = np.arange(len(packed.steps))
    assert (packed.steps["right"][split] > place[split] + 1).all()
