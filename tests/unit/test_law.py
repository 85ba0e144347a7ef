"""The residual law: quantiles, exceedance and calibration come from one table."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volatility.features.table import FEATURE_NAMES
from volatility.models.forecaster import ACTIVITY, Forecaster, Linear, without_trees
from volatility.models.law import GRID, LEVELS, OWN_WINDOWS, TAIL, Law, fit_law

ROWS = 6_000
SYMBOLS = 2


def ratios(seed: int, rows: int, silent: float = 0.0, calm: float = 1.0) -> dict[str, np.ndarray]:
    """Draw a market whose ratio spreads more at low forecasts.

    A share of its windows is silent, alike everywhere (``calm`` 0) or the more the calmer it is.
    """
    random = np.random.default_rng(seed)
    size, activity = random.normal(-18.0, 1.5, rows), random.normal(0.5, 0.8, rows)
    spread = np.exp(-0.25 * (size + 18.0) / 1.5)
    ratio = np.sqrt(random.gamma(4.0 / spread, spread / 4.0, rows))
    share = silent * np.clip(1.0 - calm * (activity - 0.5) / 1.6, 0.0, 2.0)
    ratio[random.random(rows) < share] = 0.0
    return {"ratio": ratio, "size": size, "activity": activity}


@cache
def law(silent: float = 0.0, calm: float = 1.0) -> Law:
    drawn = [ratios(seed, ROWS, silent, calm) for seed in range(SYMBOLS)]
    return fit_law(
        [[d["ratio"]] for d in drawn],
        [[d["size"]] for d in drawn],
        [[d["activity"]] for d in drawn],
        [[d["size"] - 0.5] for d in drawn],
        [[100_000]] * SYMBOLS,
    )


def forecaster(of: Law) -> Forecaster:
    """Return a forecaster of the law alone: callers name the forecast of each row."""
    symbols = len(of.coordinates) - 1
    linear = Linear(
        np.zeros((symbols + 1, 1, 0), np.int64), np.zeros((symbols + 1, 1, 0), np.int64),
        np.zeros((symbols + 1, 1, 1)), np.zeros((symbols + 1, 1, 2)), np.full(symbols + 1, 1e-4),
    )  # fmt: skip
    pooled, packed = without_trees(1, symbols)
    return Forecaster(linear, pooled, packed, of)


def rows_with(activity: np.ndarray) -> np.ndarray:
    rows = np.full((len(activity), len(FEATURE_NAMES)), np.nan)
    rows[:, ACTIVITY] = np.exp(activity)
    return rows


def exceedance(of: Law, drawn: dict[str, np.ndarray], level: np.ndarray) -> np.ndarray:
    """Return P(volatility >= level) where the forecast of each row is known."""
    count = len(drawn["size"])
    return forecaster(of).exceedance_of(
        rows_with(drawn["activity"]), np.zeros(count, np.int64), 0, drawn["size"], level
    )


def constant(log_variance: float) -> Forecaster:
    """Return a forecaster that always forecasts this, with the law of the market above."""
    found = forecaster(law())
    found.linear.coefficients[:] = log_variance
    return found


def test_quantiles_are_in_order() -> None:
    for silent in (0.0, 0.3):
        table = law(silent).table
        assert table.shape == (SYMBOLS + 1, 1, len(GRID), len(GRID), len(LEVELS))
        assert (np.diff(table, axis=-1) >= 0.0).all()
        assert (table >= 0.0).all()
    assert (np.diff(LEVELS) > 0.0).all()


@given(
    st.floats(-26.0, -10.0),
    st.floats(-6.0, 6.0) | st.just(float("nan")),
    st.integers(-1, SYMBOLS),
)
def test_exceedance_is_the_inverse_of_the_quantiles(
    log: float, activity: float, symbol: int
) -> None:
    found = constant(log)
    rows = rows_with(np.full(1, activity))
    place = np.array([symbol])
    quantiles = found.distribution(rows, place, 0)[0]
    assert (np.diff(quantiles) >= 0.0).all()
    many = np.repeat(rows, len(LEVELS), axis=0)
    chance = found.exceedance(many, np.full(len(LEVELS), symbol), 0, quantiles)
    assert chance == pytest.approx(1.0 - LEVELS, abs=1e-9)


@given(
    st.floats(-26.0, -10.0),
    st.floats(-6.0, 6.0),
    st.lists(st.floats(0.0, 1.0), min_size=2, max_size=20),
)
def test_a_higher_level_is_never_more_likely(
    log: float, activity: float, levels: list[float]
) -> None:
    found = constant(log)
    count = len(levels)
    rows, places = rows_with(np.full(count, activity)), np.zeros(count, np.int64)
    chance = found.exceedance(rows, places, 0, np.sort(levels))
    assert (np.diff(chance) <= 1e-12).all()
    assert ((chance >= 0.0) & (chance <= 1.0)).all()


def test_any_volatility_reaches_zero_and_hardly_any_the_tail() -> None:
    found = constant(-18.0)
    rows, place = rows_with(np.zeros(4)), np.zeros(4, np.int64)
    assert found.exceedance(rows, place, 0, np.array([0.0, -1.0, 0.0, 0.0])).tolist() == [1.0] * 4
    top = found.distribution(rows[:1], place[:1], 0)[0, -1]
    chance = found.exceedance(rows[:3], place[:3], 0, top * np.array([1.0, 2.0, 10.0]))
    # Beyond the last level the distribution falls as a power.
    assert chance == pytest.approx(0.001 * np.array([1.0, 2.0**-TAIL, 10.0**-TAIL]), rel=1e-9)


def test_below_the_first_level_probability_falls_evenly_to_zero() -> None:
    found = constant(-18.0)
    rows, place = rows_with(np.zeros(3)), np.zeros(3, np.int64)
    low = found.distribution(rows[:1], place[:1], 0)[0, 0]
    chance = found.exceedance(rows, place, 0, low * np.array([1.0, 0.5, 1e-9]))
    assert chance == pytest.approx(1.0 - LEVELS[0] * np.array([1.0, 0.5, 0.0]), abs=1e-9)


@pytest.mark.parametrize("silent", [0.1, 0.4])
def test_silent_windows_are_a_mass_at_zero(silent: float) -> None:
    fitted, later = law(silent, 0.0), ratios(7, ROWS, silent, 0.0)
    deviation = np.exp(0.5 * later["size"])
    moved = later["ratio"] > 0.0
    for level in (1e-9, 1e-3, 0.05):
        chance = exceedance(fitted, later, deviation * level)
        # As finely as the levels are apart in the middle of the distribution.
        assert chance.mean() == pytest.approx(moved.mean(), abs=0.05)


def test_calm_markets_are_silent_more_often_and_the_law_knows() -> None:
    later = ratios(8, ROWS, 0.2)
    deviation = np.exp(0.5 * later["size"])
    moved = later["ratio"] > 0.0
    calm, busy = later["activity"] < 0.0, later["activity"] > 1.0
    chance = exceedance(law(0.2), later, deviation * 1e-6)
    assert chance[calm].mean() < chance[busy].mean() - 0.05
    assert moved[calm].mean() < moved[busy].mean() - 0.15
    # At levels that anyone asks for, the stated probability is about right in either.
    for level in (0.8, 1.0, 1.5):
        chance, hit = exceedance(law(0.2), later, deviation * level), later["ratio"] >= level
        assert chance.mean() == pytest.approx(hit.mean(), abs=0.03)
        for part in (calm, busy):
            assert chance[part].mean() == pytest.approx(hit[part].mean(), abs=0.08)


def test_outcomes_are_uniform_on_the_law_of_later_rows() -> None:
    """The probability integral transform, overall and for high and low forecasts apart."""
    later = ratios(11, ROWS)
    outcome = later["ratio"] * np.exp(0.5 * later["size"])
    transform = 1.0 - exceedance(law(), later, outcome)
    parts = {
        0.03: [np.ones(ROWS, bool), later["activity"] < 0.0],
        0.05: [later["size"] < -18.5, later["size"] > -17.5],
    }
    for tolerance, chosen in parts.items():
        for part in chosen:
            for level in (0.05, 0.25, 0.5, 0.75, 0.9, 0.95):
                assert np.mean(transform[part] <= level) == pytest.approx(level, abs=tolerance)


def test_stated_probabilities_come_true() -> None:
    later = ratios(12, ROWS)
    level = np.full(ROWS, np.exp(-9.0) * 1.5)
    chance = exceedance(law(), later, level)
    hit = later["ratio"] * np.exp(0.5 * later["size"]) >= level
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 0.8), (0.8, 1.0)):
        part = (chance > low) & (chance <= high)
        assert part.sum() > 100
        assert hit[part].mean() == pytest.approx(chance[part].mean(), abs=0.06)


def test_a_symbol_with_few_windows_shares_the_table_of_all() -> None:
    drawn = [ratios(0, ROWS), ratios(0, ROWS)]
    drawn[1]["ratio"] = drawn[1]["ratio"] * 2.0

    def fitted(windows: int) -> Law:
        return fit_law(
            [[d["ratio"]] for d in drawn], [[d["size"]] for d in drawn],
            [[d["activity"]] for d in drawn], [[d["size"]] for d in drawn],
            [[windows], [windows]],
        )  # fmt: skip

    few, half, many = fitted(0), fitted(int(OWN_WINDOWS)), fitted(10**9)
    assert few.table[0].tobytes() == few.table[1].tobytes()
    assert many.table[1] == pytest.approx(2.0 * many.table[0], rel=1e-6)
    assert half.table[:2] == pytest.approx(0.5 * (few.table[:2] + many.table[:2]))
    # An average of quantiles is in order, as they are.
    assert (np.diff(half.table, axis=-1) >= 0.0).all()


def test_symbols_count_alike_whatever_their_rows() -> None:
    one, other = ratios(0, 9000), ratios(1, 300)
    other["ratio"] = other["ratio"] * 3.0

    def shared(rows: int) -> np.ndarray:
        parts = [{k: v[:rows] for k, v in one.items()}, other]
        found = fit_law(
            [[p["ratio"]] for p in parts], [[p["size"]] for p in parts],
            [[p["activity"]] for p in parts], [[p["size"]] for p in parts],
            [[0], [0]],
        )  # fmt: skip
        return found.table[0, 0, 1, 1]

    middle = slice(8, 28)  # quantiles that 300 rows can show
    assert shared(9000)[middle] == pytest.approx(shared(600)[middle], rel=0.15)


def test_a_symbol_without_rows_or_activity_has_a_law() -> None:
    drawn = ratios(0, 500)
    nothing = np.empty(0)
    found = fit_law(
        [[drawn["ratio"]], [nothing]], [[drawn["size"]], [nothing]],
        [[np.full(500, np.nan)], [nothing]], [[drawn["size"]], [nothing]],
        [[100], [0]],
    )  # fmt: skip
    assert np.isfinite(found.table).all()
    assert np.isfinite(found.coordinates).all()
    assert (found.coordinates[..., 1::2] > 0.0).all()


def test_the_unknown_symbol_s_law_goes_by_the_distance_from_the_row_s_level() -> None:
    coordinates = law().coordinates[-1, 0]
    assert coordinates[0] == pytest.approx(0.5)  # size less level, by construction
    assert law().coordinates[0, 0, 0] == pytest.approx(-18.0, abs=0.1)
