"""The fits behind every forecast: gamma regression, GARCH, boosted trees, all by QLIKE."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from tests.bundles import random_rows
from volatility.features.table import FEATURE_NAMES, INDEX, MODEL_INPUTS
from volatility.models.boosting import INPUT_COLUMNS, boost, usable_inputs
from volatility.models.regression import LEAST_RATIO, fit_gamma, fit_garch, qlike
from volatility.settings import Train

ROWS = 8_000
TRUTH = np.array([0.6, -0.3, 0.1, -17.0])
SMALL_TREES = Train(min_samples_leaf=40)


def log_linear(seed: int, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Draw inputs of unlike scales, and variances that are gamma around their log-linear mean."""
    random = np.random.default_rng(seed)
    design = random.normal([2.0, -15.0, 0.0], [1.0, 2.0, 0.5], (rows, 3))
    mean = np.exp(design @ TRUTH[:-1] + TRUTH[-1])
    return design, mean * random.gamma(3.0, 1.0 / 3.0, rows)


def loss_of(coefficients: np.ndarray, design: np.ndarray, realised: np.ndarray) -> float:
    return float(np.mean(qlike(design @ coefficients[:-1] + coefficients[-1], realised)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gamma_regression_finds_the_coefficients(seed: int) -> None:
    design, realised = log_linear(seed)
    found = fit_gamma(design, realised, np.zeros(ROWS))
    assert found[:-1] == pytest.approx(TRUTH[:-1], abs=0.03)
    assert found @ np.append(design.mean(axis=0), 1.0) == pytest.approx(
        TRUTH @ np.append(design.mean(axis=0), 1.0), abs=0.03
    )


def test_no_coefficients_nearby_have_a_lower_loss() -> None:
    design, realised = log_linear(3)
    found = fit_gamma(design, realised, np.zeros(ROWS))
    best = loss_of(found, design, realised)
    for place in range(4):
        for step in (-0.02, 0.02):
            other = found.copy()
            other[place] += step
            if place < 3:  # turn about the middle, so that the level stays
                other[3] -= step * design[:, place].mean()
            assert loss_of(other, design, realised) > best


def test_the_offset_is_exact() -> None:
    """Starting at a forecast is the same as fitting realised over forecast variance."""
    design, realised = log_linear(4)
    offset = np.random.default_rng(4).normal(-16.0, 1.0, ROWS)
    started = fit_gamma(design, realised, offset, penalty=0.1)
    ratio = fit_gamma(design, realised * np.exp(-offset), np.zeros(ROWS), penalty=0.1)
    assert started == pytest.approx(ratio, rel=1e-9)
    # Without a penalty it makes no difference where a fit starts that can reach it.
    start = np.array([0.2, 0.1, -0.4])
    assert start + fit_gamma(design, realised, design @ start)[:-1] == pytest.approx(
        TRUTH[:-1], abs=0.03
    )


@pytest.mark.slow
def test_a_penalty_draws_the_fit_to_its_offset() -> None:
    design, realised = log_linear(5)
    offset = np.full(ROWS, -16.0)
    sizes = [
        float(np.abs(fit_gamma(design, realised, offset, penalty=p)[:-1]).max())
        for p in (0.0, 0.3, 30.0, 3000.0)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1e-3
    # The level is not drawn anywhere.
    level = fit_gamma(design, realised, offset, penalty=3000.0)[-1]
    assert level == pytest.approx(np.log(np.mean(realised * np.exp(-offset))), abs=0.05)


def test_weights_count_as_repeated_rows() -> None:
    design, realised = log_linear(6, 500)
    times = np.random.default_rng(6).integers(1, 4, 500)
    weighted = fit_gamma(design, realised, np.zeros(500), weight=times.astype(float))
    repeated = fit_gamma(
        np.repeat(design, times, axis=0), np.repeat(realised, times), np.zeros(times.sum())
    )
    assert weighted[:-1] == pytest.approx(repeated[:-1], abs=2e-3)


@pytest.mark.parametrize("silent", [0.01, 0.5, 0.95])
def test_silent_windows_do_not_break_a_fit(silent: float) -> None:
    design, realised = log_linear(7)
    quiet = np.random.default_rng(7).random(ROWS) < silent
    realised = np.where(quiet, 0.0, realised)
    found = fit_gamma(design, realised, np.zeros(ROWS))
    assert np.isfinite(found).all()
    # The mean falls by the share of silence, and nothing else changes.
    assert found[:-1] == pytest.approx(TRUTH[:-1], abs=0.2)
    middle = np.append(design.mean(axis=0), 1.0)
    assert found @ middle == pytest.approx(TRUTH @ middle + np.log1p(-silent), abs=0.2)


def test_a_market_that_never_moves_gets_the_least_variance() -> None:
    found = fit_gamma(np.ones((50, 2)), np.zeros(50), np.zeros(50))
    assert found.tolist() == [0.0, 0.0, np.log(LEAST_RATIO)]
    assert fit_garch(np.ones(50), np.zeros(50)) == (LEAST_RATIO, 0.0)


def test_inputs_that_do_not_vary_get_no_coefficient() -> None:
    realised = np.random.default_rng(8).gamma(2.0, 1e-8, 400)
    found = fit_gamma(np.full((400, 2), 3.0), realised, np.zeros(400))
    assert found.tolist() == [0.0, 0.0, np.log(realised.mean())]
    assert fit_gamma(np.empty((400, 0)), realised, np.zeros(400)) == pytest.approx(
        [np.log(realised.mean())]
    )


@given(st.floats(-30.0, 0.0), st.floats(0.0, 1.0))
def test_qlike_is_least_at_the_truth_and_finite_in_silence(log: float, realised: float) -> None:
    found = minimize_scalar(lambda v: qlike(np.array([v]), np.exp(log))[0], bracket=(log - 1, log))
    assert found.x == pytest.approx(log, abs=1e-4)
    assert qlike(np.array([log]), np.array([0.0])) == [log]
    assert qlike(np.array([log]), np.array([realised]))[0] >= log


# --- GARCH --------------------------------------------------------------------------------


def garch_sample(constant: float, weight: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    filtered = 1e-8 * random.lognormal(0.0, 0.8, ROWS)
    return filtered, (constant + weight * filtered) * random.gamma(5.0, 0.2, ROWS)


@pytest.mark.parametrize(
    ("constant", "weight"), [(1e-9, 0.9), (8e-9, 0.2), (5e-9, 0.5), (2e-10, 1.2)]
)
def test_garch_finds_constant_and_weight(constant: float, weight: float) -> None:
    found = fit_garch(*garch_sample(constant, weight, 1))
    assert found[0] == pytest.approx(constant, abs=4e-10)
    assert found[1] == pytest.approx(weight, abs=0.05)


@pytest.mark.parametrize("start", [(0.999, 1e-4), (1e-4, 1.0), (0.5, 0.5), (5.0, 5.0)])
def test_garch_is_at_the_best_that_any_start_reaches(start: tuple[float, float]) -> None:
    from scipy.optimize import minimize

    squares, realised = garch_sample(3e-9, 0.7, 2)
    mean = realised.mean()

    def loss(logs: np.ndarray) -> float:
        constant, weight = np.exp(logs)
        return float(np.mean(qlike(np.log(constant * mean + weight * squares), realised)))

    found = fit_garch(squares, realised)
    other = minimize(loss, np.log(start), method="Nelder-Mead")
    assert loss(np.log([found[0] / mean, found[1]])) <= other.fun + 1e-7
    assert loss(np.log([found[0] / mean, found[1]])) < loss(np.log(start))


def test_garch_stands_silent_windows_and_a_silent_filter() -> None:
    squares, realised = garch_sample(3e-9, 0.7, 3)
    realised[::3] = 0.0
    squares[::7] = 0.0
    constant, weight = fit_garch(squares, realised)
    assert constant > 0.0
    assert 0.0 < weight < 1.0


def test_garch_does_not_depend_on_the_unit() -> None:
    squares, realised = garch_sample(3e-9, 0.7, 4)
    constant, weight = fit_garch(squares, realised)
    other = fit_garch(squares * 1e6, realised * 1e6)
    assert other == pytest.approx((constant * 1e6, weight), rel=1e-6)


# --- trees --------------------------------------------------------------------------------


def spiky(seed: int, rows: int = 1500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw rows, variances that one input moves, and the forecast that misses it."""
    values = random_rows(rows, seed, missing=0.0)
    random = np.random.default_rng(seed + 1)
    log = random.normal(-18.0, 1.0, rows)
    high = values[:, INDEX["momentum_60s"]] > 1.0
    realised = np.exp(log + 1.5 * high - 0.5) * random.gamma(4.0, 0.25, rows)
    return values, realised, log


@pytest.mark.slow
def test_trees_are_fitted_on_the_ratio_to_the_forecast() -> None:
    """Shifting a forecast and what it is held against alike changes no tree: an exact offset."""
    rows, realised, log = spiky(0)
    whole = boost(rows, realised, log, 10, SMALL_TREES)
    ratio = boost(rows, realised * np.exp(-log), np.zeros(len(log)), 10, SMALL_TREES)
    assert whole.raw(rows) == pytest.approx(ratio.raw(rows), abs=1e-12)


def test_trees_learn_what_the_forecast_misses() -> None:
    rows, realised, log = spiky(1)
    grown = boost(rows, realised, log, 40, SMALL_TREES)
    later, outcome, forecast = spiky(9)
    better = qlike(forecast + grown.raw(later), outcome).mean()
    # The best that a constant could do, and the truth.
    level = np.log(np.mean(outcome * np.exp(-forecast)))
    truth = qlike(forecast + 1.5 * (later[:, INDEX["momentum_60s"]] > 1.0) - 0.5, outcome).mean()
    assert better < qlike(forecast + level, outcome).mean() - 0.1
    assert truth < better < truth + 0.1


def test_no_trees_add_nothing() -> None:
    rows, realised, log = spiky(2, 300)
    assert (boost(rows, realised, log, 0, SMALL_TREES).raw(rows) == 0.0).all()
    blank = np.full_like(rows, np.nan)
    assert (boost(blank, realised, log, 10, SMALL_TREES).raw(rows) == 0.0).all()
    empty = boost(rows[:0], realised[:0], log[:0], 10, SMALL_TREES)
    assert (empty.raw(rows) == 0.0).all()


def test_silent_windows_do_not_break_trees() -> None:
    rows, realised, log = spiky(3)
    realised[::2] = 0.0
    grown = boost(rows, realised, log, 20, SMALL_TREES)
    assert np.isfinite(grown.raw(random_rows(200, 5, missing=0.5))).all()


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.floats(0.0, 1.0))
def test_usable_inputs_are_known_somewhere_and_vary(seed: int, missing: float) -> None:
    rows = random_rows(300, seed, missing=0.0)
    random = np.random.default_rng(seed)
    constant, absent, rare = random.permutation(INPUT_COLUMNS)[:3]
    rows[:, constant] = 1.0
    rows[random.random(300) < missing, constant] = np.nan
    rows[:, absent] = np.nan
    rows[1:, rare] = np.nan
    expected = [c for c in INPUT_COLUMNS if c not in (constant, absent, rare)]
    assert usable_inputs(rows).tolist() == expected
    assert [FEATURE_NAMES[c] for c in INPUT_COLUMNS] == list(MODEL_INPUTS)


@pytest.mark.slow
def test_the_tree_parameters_are_the_settings() -> None:
    rows, realised, log = spiky(4)
    grown = boost(rows, realised, log, 7, Train(min_samples_leaf=40, max_leaf_nodes=3))
    assert len(grown.roots) == 7
    assert len(grown.nodes) <= 7 * 5  # three leaves and two splits a tree
    slower = boost(
        rows, realised, log, 7, Train(min_samples_leaf=40, max_leaf_nodes=3, learning_rate=0.01)
    )
    size = [float(np.ptp(found.raw(rows))) for found in (slower, grown)]
    assert size[0] < 0.5 * size[1]
