import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from volatility.evaluation.scores import (
    BINS,
    average_precision,
    brier,
    calibration_error,
    crps,
    log_score,
    pinball,
    pit,
    pit_bounds,
    pit_error,
    qlike_bps,
    reliability,
    roc_auc,
)

FINE = (np.arange(2000) + 0.5) / 2000
PERCENT = np.arange(1, 100) / 100


def exponential(levels: np.ndarray) -> np.ndarray:
    return -np.log1p(-levels)


def same_for_all(quantiles: np.ndarray, rows: int) -> np.ndarray:
    return np.tile(quantiles, (rows, 1))


def test_qlike_of_known_values() -> None:
    found = qlike_bps(np.array([1.0, math.e, 2.0]), np.array([1.0, 0.0, 4.0]))
    assert found == pytest.approx([1.0, 2.0, 2.0 * math.log(2.0) + 4.0])


def test_qlike_is_least_at_the_mean() -> None:
    realised = np.random.default_rng(0).exponential(size=1000)
    tried = realised.mean() * np.array([0.9, 0.99, 1.0, 1.01, 1.1])
    outcome = np.sqrt(realised)
    mean = [qlike_bps(np.full(1000, math.sqrt(v)), outcome).mean() for v in tried]
    assert np.argmin(mean) == 2


@pytest.mark.parametrize("observed", [0.0, 0.1, 0.5, 0.93])
def test_crps_of_the_uniform(observed: float) -> None:
    found = crps(FINE[None], FINE, np.array([observed]))[0]
    assert found == pytest.approx(observed**2 - observed + 1 / 3, abs=1e-5)


@pytest.mark.parametrize("observed", [0.0, 0.3, 1.0, 4.0, 12.0])
def test_crps_of_the_exponential(observed: float) -> None:
    exact = observed - 2.0 * (1.0 - math.exp(-observed)) + 0.5
    fine = crps(exponential(FINE)[None], FINE, np.array([observed]))[0]
    assert fine == pytest.approx(exact, abs=1e-3)
    percent = crps(exponential(PERCENT)[None], PERCENT, np.array([observed]))[0]
    assert percent == pytest.approx(exact, abs=0.025)


def test_crps_against_the_integral_over_thresholds() -> None:
    """The other definition: the squared distance of distribution function and outcome."""
    random = np.random.default_rng(1)
    quantiles = np.sort(random.gamma(2.0, size=(20, len(FINE))), axis=1)
    observed = random.gamma(2.0, size=20)
    grid = np.linspace(0.0, 25.0, 100_001)
    for i in range(20):
        share = np.searchsorted(quantiles[i], grid, side="right") / len(FINE)
        integral = np.trapezoid((share - (observed[i] <= grid)) ** 2, grid)
        assert crps(quantiles, FINE, observed)[i] == pytest.approx(integral, rel=2e-3)


def test_crps_of_a_point_is_the_absolute_error() -> None:
    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    found = crps(np.full((3, 5), 2.0), levels, np.array([0.0, 2.0, 9.0]))
    assert found == pytest.approx([2.0, 0.0, 7.0])


@pytest.mark.parametrize("place", [0, 1, 4, 8])
def test_crps_rewards_the_true_quantiles_and_those_of_the_tails(place: int) -> None:
    levels = np.array([0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])
    observed = exponential(FINE)  # the exponential distribution itself, without noise
    truth = same_for_all(exponential(levels), len(observed))
    best = crps(truth, levels, observed).mean()
    for factor in (0.9, 0.95, 1.05, 1.1):
        wrong = truth.copy()
        wrong[:, place] *= factor
        assert crps(wrong, levels, observed).mean() > best


def test_rows_do_not_depend_on_each_other_and_unknown_ones_stay_unknown() -> None:
    random = np.random.default_rng(2)
    quantiles = np.sort(random.random((50, 9)), axis=1)
    levels = np.arange(1, 10) / 10
    observed = random.random(50)
    observed[7] = np.nan
    for measure in (crps, pit):
        whole = measure(quantiles, levels, observed)
        alone = np.concatenate(
            [measure(quantiles[i : i + 1], levels, observed[i : i + 1]) for i in range(50)]
        )
        assert np.array_equal(whole, alone, equal_nan=True)
        assert np.isnan(whole).nonzero()[0].tolist() == [7]


def test_pinball_of_known_values() -> None:
    quantiles = np.array([[1.0, 2.0], [1.0, 2.0]])
    levels = np.array([0.1, 0.9])
    observed = np.array([3.0, 0.0])
    assert pinball(quantiles, levels, observed) == pytest.approx([0.55, 0.55])
    # 0.1 x 2 and 0.9 x 1 of the first row; 0.9 x 1 and 0.1 x 2 of the second.
    weighted = pinball(quantiles, levels, observed, np.array([3.0, 1.0]))
    assert weighted == pytest.approx([(3 * 0.2 + 0.9) / 4, (3 * 0.9 + 0.2) / 4])


def test_brier_and_log_score_of_known_values() -> None:
    spikes = np.array([True, False, True, False])
    probability = np.array([0.8, 0.8, 0.0, 0.0])
    assert brier(spikes, probability) == pytest.approx([0.04, 0.64, 1.0, 0.0])
    found = log_score(spikes, probability)
    assert found == pytest.approx([-math.log(0.8), -math.log(0.2), 6 * math.log(10.0), 0.0])


ROWS = st.tuples(st.integers(0, 2**31), st.integers(2, 300), st.sampled_from([0, 1, 8]))


@pytest.mark.slow
@given(ROWS)
def test_precision_and_roc_equal_those_of_sklearn(case: tuple[int, int, int]) -> None:
    seed, rows, decimals = case
    random = np.random.default_rng(seed)
    scores = np.round(random.random(rows), decimals)  # none, many and few ties
    spikes = random.random(rows) < 0.3
    spikes[:2] = True, False
    weight = random.choice([0.2, 1.0, 3.0], rows)
    for weights in (None, weight):
        expected = average_precision_score(spikes, scores, sample_weight=weights)
        assert average_precision(spikes, scores, weights) == pytest.approx(expected, abs=1e-12)
        expected = roc_auc_score(spikes, scores, sample_weight=weights)
        assert roc_auc(spikes, scores, weights) == pytest.approx(expected, abs=1e-12)


def test_a_weight_of_two_is_a_row_twice() -> None:
    random = np.random.default_rng(3)
    scores = np.round(random.random(200), 2)
    spikes = random.random(200) < 0.2
    weight = random.integers(0, 3, 200).astype(float)
    often = weight.astype(int)
    rows = np.repeat(spikes, often), np.repeat(scores, often)
    assert average_precision(spikes, scores, weight) == pytest.approx(average_precision(*rows))
    assert roc_auc(spikes, scores, weight) == pytest.approx(roc_auc(*rows))


def test_without_both_kinds_of_row_ranking_is_undefined() -> None:
    scores = np.array([0.1, 0.2])
    assert math.isnan(average_precision(np.zeros(2, bool), scores))
    assert math.isnan(roc_auc(np.zeros(2, bool), scores))
    assert math.isnan(roc_auc(np.ones(2, bool), scores))


def test_reliability_bins_have_equal_weight() -> None:
    random = np.random.default_rng(4)
    probability = random.random(5000)
    weight = np.where(probability < 0.5, 3.0, 1.0)
    bins = reliability(random.random(5000) < probability, probability, weight)
    assert len(bins.weight) == BINS
    assert bins.weight == pytest.approx(np.full(BINS, weight.sum() / BINS), abs=3.0)
    assert np.all(np.diff(bins.probability) > 0.0)
    assert bins.share == pytest.approx(bins.probability, abs=0.08)


def test_a_constant_probability_has_one_bin() -> None:
    """Spikes come together; bins by place in time would call a true constant wrong."""
    spikes = np.arange(1000) < 100
    constant = np.full(1000, 0.1)
    bins = reliability(spikes, constant)
    assert (bins.probability.tolist(), bins.share.tolist()) == ([pytest.approx(0.1)], [0.1])
    assert bins.weight.tolist() == [1000.0]
    assert calibration_error(spikes, constant) == pytest.approx(0.0)
    assert calibration_error(spikes, np.full(1000, 0.3)) == pytest.approx(0.2)


def test_calibration_error_counts_weight() -> None:
    spikes = np.array([True, False])
    probability = np.array([1.0, 0.4])
    assert calibration_error(spikes, probability, np.array([3.0, 1.0])) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("observed", "bounds"),
    [
        (0.0, (0.0, 0.5)),  # silent, and the quantiles to 0.5 are 0 too
        (1.0, (0.6, 0.6)),  # halfway between 0 and 2
        (2.0, (0.7, 0.7)),
        (3.0, (0.8, 0.8)),
        (4.0, (0.9, 0.9)),
        (5.0, (0.9, 1.0)),
    ],
)
def test_pit_of_known_values(observed: float, bounds: tuple[float, float]) -> None:
    levels = np.array([0.1, 0.5, 0.7, 0.9])
    quantiles = np.array([[0.0, 0.0, 2.0, 4.0]])
    found = pit_bounds(quantiles, levels, np.array([observed]))[0]
    assert found == pytest.approx(bounds)
    middle = pit(quantiles, levels, np.array([observed]))[0]
    assert middle == pytest.approx(sum(bounds) / 2)


def test_pit_below_the_first_quantile_and_on_equal_quantiles() -> None:
    levels = np.array([0.2, 0.4, 0.6])
    quantiles = same_for_all(np.array([2.0, 3.0, 3.0]), 4)
    found = pit_bounds(quantiles, levels, np.array([0.0, 1.0, 2.0, 3.0]))
    assert found == pytest.approx(np.array([[0.0, 0.0], [0.1, 0.1], [0.2, 0.2], [0.4, 0.6]]))


def test_pit_of_a_true_forecast_is_uniform_and_of_a_wrong_one_not() -> None:
    observed = np.random.default_rng(5).exponential(size=20_000)
    weight = np.ones(len(observed))
    truth = same_for_all(exponential(PERCENT), len(observed))
    assert pit_error(pit(truth, PERCENT, observed), weight) < 0.015
    # Twice too wide: P(X < q) at level a is 1 - (1 - a)^2, furthest off by 0.25 at a = 0.5.
    found = pit_error(pit(2.0 * truth, PERCENT, observed), weight)
    assert found == pytest.approx(0.25, abs=0.015)


def test_pit_bounds_of_a_true_forecast_with_silent_minutes_are_uniform() -> None:
    random = np.random.default_rng(6)
    silent = 0.3
    observed = np.where(random.random(20_000) < silent, 0.0, random.exponential(size=20_000))
    above = np.clip((PERCENT - silent) / (1.0 - silent), 0.0, None)
    truth = same_for_all(exponential(above), len(observed))
    weight = np.ones(len(observed))
    assert pit_error(pit_bounds(truth, PERCENT, observed), weight) < 0.015
    middle = pit(truth, PERCENT, observed)
    assert middle[observed == 0.0] == pytest.approx(0.15)
    assert pit_error(middle, weight) == pytest.approx(0.15, abs=0.015)  # why there are bounds


def test_pit_error_weighs_rows_and_leaves_out_unknown_ones() -> None:
    values = np.append((np.arange(1000) + 0.5) / 1000, [0.999, np.nan])
    weight = np.append(np.ones(1000), [1000.0, 1e9])
    assert pit_error(values[:1000], weight[:1000]) == pytest.approx(0.0, abs=1e-3)
    assert pit_error(values, weight) == pytest.approx(0.475, abs=1e-3)  # half of 0.95 is missing
    assert math.isnan(pit_error(np.array([np.nan]), np.ones(1)))
