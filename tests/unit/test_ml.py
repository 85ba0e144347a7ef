"""How ``ml`` is fitted: at the prior with little data, and trees only where they are earned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.test_simple import interleave, market
from volatility.dataset import Dataset
from volatility.features.table import INDEX, MODEL_INPUTS
from volatility.models.ml import INPUTS, SIZES, MlFit, fit_ml
from volatility.models.regression import qlike
from volatility.models.sample import Sample, gain, sample
from volatility.settings import Train

OPTIONS = Train(min_samples_leaf=60, learning_rate=0.1)
EWMA = INDEX["ewma_volatility_60s"]


def with_inputs(data: Dataset, seed: int = 0) -> Dataset:
    """Return the market with model inputs, which trees see."""
    rows = data.rows.copy()
    random = np.random.default_rng(seed + 50)
    for name in MODEL_INPUTS:
        rows[:, INDEX[name]] = random.lognormal(0.0, 1.0, len(rows))
    return replace(data, rows=rows)


def hidden(data: Dataset) -> Dataset:
    """Make one model input announce spikes, which no linear forecast can see."""
    data = with_inputs(data)
    high = data.rows[:, INDEX["momentum_60s"]] > 1.2
    return replace(data, variance=data.variance * np.where(high, 6.0, 0.5)[:, None])


def fit(data: Dataset, offset: float = 0.0) -> tuple[Sample, MlFit]:
    """Fit on a prior that forecasts the right dynamics, at another level by ``offset``."""
    part = sample(data, 0)
    pooled = 2.0 * np.log(part.rows[:, EWMA]) + offset
    return part, fit_ml(part, pooled, OPTIONS)


@pytest.mark.slow
def test_no_trees_are_grown_on_noise() -> None:
    for seed in (0, 1):
        _, found = fit(with_inputs(market(rows=2400, seed=seed), seed))
        assert len(found.trees.roots) == 0
        assert not found.own.any()


@pytest.mark.slow
def test_trees_are_grown_where_they_are_earned() -> None:
    part, found = fit(hidden(market(rows=2400)))
    assert len(found.trees.roots) in SIZES[1:]
    assert found.own.tolist() == [True, True]
    linear = 2.0 * np.log(part.rows[:, EWMA])
    level = np.log(np.mean(part.realised * np.exp(-linear)))
    mean, error = gain(
        part, np.arange(len(part)), qlike(found.validated, part.realised),
        qlike(linear + level, part.realised),
    )  # fmt: skip
    assert mean > 2.0 * error


@pytest.mark.slow
def test_a_symbol_that_trees_do_not_help_goes_without() -> None:
    helped = hidden(market(rows=2400, seed=2))
    noise = with_inputs(market(rows=2400, seed=3), 3)
    # What the trees learn from the first symbol is the wrong way round in the second.
    high = noise.rows[:, INDEX["momentum_60s"]] > 1.2
    against = replace(noise, variance=noise.variance * np.where(high, 0.5, 1.1)[:, None])
    _, found = fit(interleave(helped, helped, against))
    assert found.own.tolist() == [True, True, False, True]


@pytest.mark.slow
@pytest.mark.parametrize("offset", [-2.0, 0.0, 3.0])
def test_with_little_data_the_fit_stays_at_the_prior_up_to_its_level(offset: float) -> None:
    # Some 40 minutes, in which another feature than the prior's moves the market.
    data = with_inputs(market("realised_volatility_900s", rows=160))
    _, few = fit(data, offset)
    long = with_inputs(market("realised_volatility_900s", rows=20_000))
    _, many = fit(long, offset)
    slow = [i.feature for i in INPUTS].index("realised_volatility_900s")
    assert few.coefficients[0, 0] == pytest.approx(1.0, abs=0.2)
    assert np.abs(few.coefficients[0, 1:-1]).max() < 0.2
    # The level is its own from the start.
    mean = np.mean(data.variance[:, 0] / np.exp(2.0 * np.log(data.rows[:, EWMA]) + offset))
    assert few.coefficients[0, -1] == pytest.approx(np.log(mean), abs=4.0)
    # With much data the dynamics are its own too.
    assert many.coefficients[0, slow] > 0.6
    assert many.coefficients[0, slow] > 4.0 * few.coefficients[0, slow]


def test_a_symbol_with_hardly_any_rows_is_left_at_the_prior() -> None:
    few = with_inputs(market(rows=60, seed=4))
    _, found = fit(interleave(with_inputs(market(seed=5)), few))
    for place in (1, 2):  # and so is the unknown symbol
        assert found.coefficients[place].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_a_wrong_level_of_the_prior_is_put_right() -> None:
    for offset in (-3.0, 0.0, 3.0):
        part, found = fit(with_inputs(market(rows=1600)), offset)
        assert np.mean(part.realised * np.exp(-found.validated)) == pytest.approx(1.0, abs=0.1)


def test_each_row_is_validated_by_a_fit_that_had_not_seen_it() -> None:
    data = with_inputs(market(rows=2400))
    part, found = fit(data)
    assert not np.isnan(found.validated).any()
    first = part.folds[0].test
    variance = data.variance.copy()
    variance[first] = np.roll(variance[first], 40, axis=0)
    _, again = fit(replace(data, variance=variance))
    assert again.validated[first].tobytes() == found.validated[first].tobytes()
    rest = np.setdiff1d(np.arange(len(part)), first)
    assert not np.array_equal(again.validated[rest], found.validated[rest])


def test_silent_windows_break_nothing() -> None:
    data = hidden(market(rows=1600))
    variance = data.variance.copy()
    variance[::2] = 0.0
    _, found = fit(replace(data, variance=variance))
    assert np.isfinite(found.coefficients).all()
    assert np.isfinite(found.validated).all()


def test_gain_counts_blocks_of_clock_time_over_all_symbols() -> None:
    data = interleave(market(rows=800, seed=1), market(rows=800, seed=2))
    part = sample(data, 0)
    every = np.arange(len(part))
    random = np.random.default_rng(0)
    _, block = np.unique(part.time // (1200 * 1_000_000_000), return_inverse=True)
    worse = random.normal(0.5, 1.0, block.max() + 1)[block]  # alike in a block, both symbols
    mean, error = gain(part, every, np.zeros(len(part)), worse)
    assert mean == pytest.approx(worse.mean())
    assert error == pytest.approx(1.0 / np.sqrt(block.max() + 1), rel=0.5)
    # Copies of the same rows are no further evidence.
    apart, alone = gain(part, part.of(0), np.zeros(len(part)), worse)
    assert (apart, alone) == pytest.approx((mean, error))
    only = np.flatnonzero(block == 1)
    assert gain(part, only, np.zeros(len(part)), worse)[1] == float("inf")
