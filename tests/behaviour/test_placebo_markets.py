"""DESIGN 7.4: the forecast that a placebo market calls true is unbiased, and nothing beats it.

Errors of a true forecast are unpredictable, so whatever is known at the rows may weight them:
the mean stays zero. Weights must be known in advance, too: a level or quantile taken from the
whole run knows its future, and turns up skill that is not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from volatility.dataset.forward import forward_variance
from volatility.evaluation.markets import (
    DEVIATION,
    HAR_WEIGHTS,
    HAR_WINDOWS,
    SHARED,
    START_NS,
    SYMBOLS,
    PlaceboMarket,
    har_expectation,
    placebo_markets,
    quote_seconds,
    shown_seconds,
)
from volatility.features.engine import FeatureFrame
from volatility.settings import Features
from volatility.units import Floats

HORIZONS = (60, 300, 900)
SPARSE = {"sparse_1s": 1.0, "sparse_10s": 10.0, "sparse_30s": 30.0}
NAMES = ("constant", "har", *SPARSE, "together")
SEED = 3
STANDARD_ERRORS = 3.5
BLOCK_NS = 3_600_000_000_000
TILT = 0.05  # of the logarithm of a forecast, a unit of a feature


@dataclass(frozen=True)
class Run:
    """A market and, by frame, its forward variance and true forecasts, float64[n, 3]."""

    market: PlaceboMarket
    realised: tuple[Floats, ...]
    truth: tuple[Floats, ...]


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    return {
        market.name: Run(
            market,
            tuple(_realised(frame) for frame in market.frames),
            tuple(
                np.column_stack([market.truth(place, horizon) for horizon in HORIZONS])
                for place in range(len(market.frames))
            ),
        )
        for market in placebo_markets(Features(), hours=24.0, seed=SEED)
    }


def _realised(frame: FeatureFrame) -> Floats:
    age = frame.column("seconds_since_record")
    return forward_variance(frame.time, frame.column("log_return_1s"), age, HORIZONS)


def _age(frame: FeatureFrame) -> Floats:
    """Return the age of the last quote [s] as a model sees it."""
    age: Floats = frame.column("silence_ratio") / frame.column("mean_trade_intensity_900s")
    return age


def _mean_and_error(run: Run, values: Sequence[Floats]) -> tuple[float, float]:
    """Return the mean over the rows of all symbols, float64[n] each, and its standard error.

    Blocks of clock time hold all symbols: they move together. The mean is expected to be zero,
    so it is not taken off before the blocks are squared.
    """
    known = [np.isfinite(v) for v in values]
    each = np.concatenate([v[k] for v, k in zip(values, known, strict=True)])
    time = np.concatenate([f.time[k] for f, k in zip(run.market.frames, known, strict=True)])
    total = np.bincount((time - START_NS) // BLOCK_NS, each)
    return float(total.sum() / len(each)), float(np.sqrt(np.square(total).sum()) / len(each))


def _levels(name: str, horizon: int) -> tuple[float, float]:
    """Return two levels of the true forecast that part rows into thirds, in the long run."""
    if name == "har":
        return DEVIATION**2 * math.exp(-0.35), DEVIATION**2 * math.exp(0.05)
    mean = SPARSE[name]
    ages = mean * np.log([1.5, 3.0])  # the age of a Poisson process is exponential
    low, high = DEVIATION**2 * shown_seconds(ages, horizon, mean) / horizon
    return float(low), float(high)


def _thirds(run: Run, column: int, forecast: Floats) -> list[tuple[float, float]]:
    """Return mean and standard error of a forecast's relative errors by thirds of the true one."""
    third = np.digitize(run.truth[0][:, column], _levels(run.market.name, HORIZONS[column]))
    errors = run.realised[0][:, column] / forecast - 1.0
    assert (np.bincount(third, minlength=3) > 0.05 * len(third)).all()
    return [_mean_and_error(run, [np.where(third == k, errors, np.nan)]) for k in range(3)]


@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_the_true_forecast_is_unbiased(runs: dict[str, Run], name: str, column: int) -> None:
    run = runs[name]
    errors = [
        realised[:, column] / truth[:, column] - 1.0
        for realised, truth in zip(run.realised, run.truth, strict=True)
    ]
    mean, error = _mean_and_error(run, errors)
    assert abs(mean) < STANDARD_ERRORS * error
    assert error < 0.06  # or the line above would say little


@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("name", ["har", *SPARSE])
def test_it_is_unbiased_where_it_is_low_and_where_it_is_high(
    runs: dict[str, Run], name: str, column: int
) -> None:
    run = runs[name]
    for mean, error in _thirds(run, column, run.truth[0][:, column]):
        assert abs(mean) < STANDARD_ERRORS * error


@pytest.mark.parametrize("name", ["har", "sparse_10s", "sparse_30s"])
def test_a_constant_is_biased_there(runs: dict[str, Run], name: str) -> None:
    run = runs[name]
    truth = run.truth[0][:, 0]
    (_, low_error), _, (_, high_error) = _thirds(run, 0, truth)
    (low, _), _, (high, _) = _thirds(run, 0, np.full(len(truth), truth.mean()))
    assert low < -STANDARD_ERRORS * low_error
    assert high > STANDARD_ERRORS * high_error


def _features(frame: FeatureFrame, name: str) -> dict[str, Floats]:
    """Return features about 0 and of about unit size; what centres them is fixed in advance."""
    age = _age(frame) / SPARSE.get(name, 0.3)
    result = {"age": np.minimum(age, 4.0) - 1.0}
    for window in HAR_WINDOWS:
        level = np.log(np.maximum(frame.column(f"realised_volatility_{window}s"), 1e-6) / DEVIATION)
        result[f"level_{window}s"] = np.clip(2.0 * level, -2.0, 2.0)
    result["range"] = np.clip(np.log(frame.column("parkinson_ratio_60s") + 0.1), -2.0, 2.0)
    result["intensity"] = np.minimum(frame.column("intensity_ratio_60s"), 3.0) - 1.0
    return result


def _gain(
    run: Run, column: int, forecast: Sequence[Floats], tilt: float, feature: str
) -> tuple[float, float]:
    """Return how much QLIKE a forecast gains when it is tilted, and the standard error."""
    gains = []
    for frame, realised, expected in zip(run.market.frames, run.realised, forecast, strict=True):
        ratio = realised[:, column] / expected
        shift = tilt * _features(frame, run.market.name)[feature]
        # log v + RV / v, of the forecast less that of forecast * exp(shift).
        gains.append(ratio - shift - ratio * np.exp(-shift))
    return _mean_and_error(run, gains)


@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_no_tilt_by_a_feature_beats_it(runs: dict[str, Run], name: str, column: int) -> None:
    run = runs[name]
    truth = [values[:, column] for values in run.truth]
    for feature in _features(run.market.frames[0], name):
        for tilt in (-TILT, TILT):
            mean, error = _gain(run, column, truth, tilt, feature)
            assert mean < STANDARD_ERRORS * error, (feature, tilt)


@pytest.mark.parametrize(("name", "feature"), [("har", "level_300s"), ("sparse_30s", "age")])
def test_a_tilt_beats_a_constant_there(runs: dict[str, Run], name: str, feature: str) -> None:
    run = runs[name]
    truth = run.truth[0][:, 0]
    _, error = _gain(run, 0, [truth], TILT, feature)
    mean, _ = _gain(run, 0, [np.full(len(truth), truth.mean())], TILT, feature)
    assert mean > STANDARD_ERRORS * error


def test_the_har_forecast_moves(runs: dict[str, Run]) -> None:
    truth = runs["har"].truth[0]
    assert truth.min() > 0.0
    assert (np.log(truth).std(axis=0) > 0.15).all()
    assert (np.log(truth).std(axis=0) < 0.8).all()


def test_a_row_shows_all_that_the_har_forecast_needs(runs: dict[str, Run]) -> None:
    market = runs["har"].market
    frame = market.frames[0]
    expected = np.full(len(frame.time), (1.0 - sum(HAR_WEIGHTS)) * DEVIATION**2)
    for window, weight in zip(HAR_WINDOWS, HAR_WEIGHTS, strict=True):
        expected += weight * np.square(frame.column(f"realised_volatility_{window}s"))
    warm = slice(HAR_WINDOWS[-1], None)  # before, the truth knows more than the rows
    np.testing.assert_allclose(market.truth(0, 1)[warm], expected[warm], rtol=1e-6)


def test_the_har_expectation_is_the_recursion_carried_on() -> None:
    random = np.random.default_rng(5)
    past = np.square(DEVIATION * random.standard_normal(900))
    constant = (1.0 - sum(HAR_WEIGHTS)) * DEVIATION**2
    known = list(past)
    for _ in range(300):
        known.append(
            constant
            + sum(
                weight * sum(known[-window:]) / window
                for window, weight in zip(HAR_WINDOWS, HAR_WEIGHTS, strict=True)
            )
        )
    start, weights = har_expectation(300, constant)
    assert start + weights @ past[::-1] == pytest.approx(np.mean(known[900:]), rel=1e-12)


def test_the_har_expectation_is_the_mean_level_at_the_mean_level() -> None:
    start, weights = har_expectation(60, (1.0 - sum(HAR_WEIGHTS)) * DEVIATION**2)
    assert start + weights.sum() * DEVIATION**2 == pytest.approx(DEVIATION**2, rel=1e-12)
    assert (weights >= 0.0).all()
    assert sum(HAR_WEIGHTS) < 1.0


@pytest.mark.parametrize("name", list(SPARSE))
def test_a_row_shows_the_age_that_the_sparse_forecast_needs(
    runs: dict[str, Run], name: str
) -> None:
    market = runs[name].market
    age = _age(market.frames[0])
    expected = DEVIATION**2 * shown_seconds(age, 60, SPARSE[name]) / 60
    warm = np.isfinite(age)
    assert warm.mean() > 0.98
    np.testing.assert_allclose(market.truth(0, 60)[warm], expected[warm], rtol=1e-9)


@pytest.mark.parametrize(
    ("mean", "age", "horizon"), [(1.0, 0.3, 20), (10.0, 4.5, 60), (30.0, 0.5, 60), (30.0, 80.0, 60)]
)
def test_shown_seconds_are_what_quotes_show(mean: float, age: float, horizon: int) -> None:
    random = np.random.default_rng(8)
    paths, quotes = 20_000, int(horizon / mean + 12.0 * math.sqrt(horizon / mean) + 12)
    at = np.cumsum(random.exponential(mean, (paths, quotes)), axis=1)
    assert at[:, -1].min() > horizon
    waits = np.diff(at, axis=1, prepend=-age)
    price = np.cumsum(np.sqrt(waits) * random.standard_normal(at.shape), axis=1)
    price = np.hstack([np.zeros((paths, 1)), price])  # that of the quote at hand is 0
    total, before = np.zeros(paths), np.zeros(paths)
    for second in range(1, horizon + 1):
        arrived = (at <= second).sum(axis=1)
        now = price[np.arange(paths), arrived]
        total += np.square(now - before)
        before = now
    error = total.std() / math.sqrt(paths)
    assert abs(total.mean() - shown_seconds(np.array([age]), horizon, mean)[0]) < 3.5 * error
    assert error < 0.02 * total.mean()


def test_quotes_come_one_after_the_other() -> None:
    for seed in range(200):
        at = quote_seconds(60, 0.05, np.random.default_rng(seed))
        assert (np.diff(at) > 0.0).all()
        assert at[0] > 0.0
        assert at[-1] < 60.0
        assert len(at) == pytest.approx(1200, abs=200)


def test_shown_seconds_at_the_limits() -> None:
    age = np.array([0.0, 7.0])
    np.testing.assert_allclose(shown_seconds(age, 60.0, 1e-9), age + 60.0)  # quotes all the time
    np.testing.assert_allclose(shown_seconds(age, 60.0, 1e12), 0.0, atol=1e-6)  # none comes
    np.testing.assert_allclose(shown_seconds(age, 0.0, 10.0), 0.0, atol=1e-12)


@pytest.mark.parametrize("name", list(SPARSE))
def test_sparse_markets_have_no_gap(runs: dict[str, Run], name: str) -> None:
    frame = runs[name].market.frames[0]
    assert frame.column("seconds_since_record").max() <= 1.0
    # A quote older than 300 s is forgotten: that alone may cost a row.
    assert len(frame.time) > 86_000
    assert np.mean(frame.column("trade_intensity") == 0) == pytest.approx(
        math.exp(-1.0 / SPARSE[name]), abs=0.01
    )


@pytest.mark.parametrize("name", ["constant", "har", "together"])
def test_dense_markets_have_a_quote_in_every_second(runs: dict[str, Run], name: str) -> None:
    for frame in runs[name].market.frames:
        assert (np.diff(frame.time) == 1_000_000_000).all()
        assert np.isfinite(frame.column("log_return_1s")[1:]).all()
        assert frame.column("trade_intensity").min() >= 1.0


def test_symbols_move_together(runs: dict[str, Run]) -> None:
    frames = runs["together"].market.frames
    assert len({frame.symbol for frame in frames}) == SYMBOLS
    returns = np.array([frame.column("log_return_1s")[1:] for frame in frames])
    apart = np.corrcoef(returns)[np.triu_indices(SYMBOLS, 1)]
    np.testing.assert_allclose(apart, SHARED, atol=0.02)
    assert all((frame.time == frames[0].time).all() for frame in frames)


def _bits(seed: int) -> dict[str, list[Any]]:
    return {
        market.name: [
            (frame.time.tobytes(), frame.rows.tobytes(), market.truth(place, 60).tobytes())
            for place, frame in enumerate(market.frames)
        ]
        for market in placebo_markets(Features(), hours=0.3, seed=seed)
    }


def test_a_seed_fixes_every_market() -> None:
    first, again, other = _bits(1), _bits(1), _bits(2)
    assert tuple(first) == NAMES
    assert first == again
    for name in NAMES:
        for mine, theirs in zip(first[name], other[name], strict=True):
            assert mine[1] != theirs[1]
