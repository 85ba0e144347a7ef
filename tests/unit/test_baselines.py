from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import SMALL, dataset, trained
from volatility.baselines import (
    BASELINE,
    HAR_INPUTS,
    NAMES,
    ROW_BASELINES,
    Baseline,
    GarchParameters,
    baseline_scores,
    fit_baselines,
    fit_garch,
    garch_forecast,
)
from volatility.feature_table import FEATURE_NAMES, INDEX
from volatility.features import FeatureFrame
from volatility.labels import spike_threshold
from volatility.metrics import average_precision


def simulated(truth: GarchParameters, count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    variance = truth.omega / (1.0 - truth.alpha - truth.beta)
    returns = np.empty(count)
    for i in range(count):
        returns[i] = np.sqrt(variance) * random.standard_normal()
        variance = truth.omega + truth.alpha * returns[i] ** 2 + truth.beta * variance
    return returns


@pytest.mark.parametrize(
    "truth",
    [GarchParameters(1e-11, 0.10, 0.85), GarchParameters(4e-8, 0.2, 0.6)],
)
def test_garch_parameters_are_recovered(truth: GarchParameters) -> None:
    found = fit_garch(simulated(truth, 30_000, 1))
    assert found.alpha == pytest.approx(truth.alpha, abs=0.02)
    assert found.beta == pytest.approx(truth.beta, abs=0.03)
    long_run = truth.omega / (1.0 - truth.alpha - truth.beta)
    assert found.omega / (1.0 - found.alpha - found.beta) == pytest.approx(long_run, rel=0.1)


def frame(returns: np.ndarray) -> FeatureFrame:
    rows = np.full((len(returns), len(FEATURE_NAMES)), np.nan)
    rows[:, INDEX["log_return_1s"]] = returns
    time = (1_775_337_223 + np.arange(len(returns))) * 1_000_000_000
    return FeatureFrame("BTC-USD", time, rows)


@settings(max_examples=40)
@given(
    st.floats(1e-12, 1e-6),
    st.floats(0.0, 0.4),
    st.floats(0.0, 0.599),
    st.integers(1, 120),
    st.integers(0, 2**31),
)
def test_the_forecast_is_the_mean_of_the_variances_ahead(
    omega: float, alpha: float, beta: float, horizon: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    returns = random.standard_normal(40) * np.sqrt(omega)
    returns[random.random(40) < 0.1] = np.nan
    found = garch_forecast(frame(returns), GarchParameters(omega, alpha, beta), horizon)
    start = omega / (1.0 - alpha - beta)
    variance = start
    for value, forecast in zip(returns, found, strict=True):
        variance = start if np.isnan(value) else omega + alpha * value**2 + beta * variance
        ahead, total = variance, 0.0
        for _ in range(horizon):
            total += ahead
            ahead = omega + (alpha + beta) * ahead
        assert forecast == pytest.approx(np.sqrt(total / horizon), rel=1e-6)


def test_an_integrated_garch_grows_by_omega_a_second() -> None:
    garch = GarchParameters(1e-10, 0.1, 0.9)
    returns = np.full(5, 1e-4)
    found = garch_forecast(frame(returns), garch, 60)
    variance = 1e-10 / 1e-6
    for forecast in found:
        variance = 1e-10 + 0.1 * 1e-8 + 0.9 * variance
        ahead = variance + 1e-10 * np.arange(60)
        assert forecast == pytest.approx(np.sqrt(ahead.mean()), rel=1e-9)


def fitted() -> tuple[Baseline, ...]:
    return trained().bundle.specification.baselines


def forecast(rows: np.ndarray) -> np.ndarray:
    return np.full(len(rows), 3e-5)


def score(baseline: Baseline, rows: np.ndarray) -> np.ndarray:
    return baseline.score(rows, forecast(rows) if baseline.garch else None)


def test_every_baseline_is_fitted() -> None:
    assert tuple(b.name for b in fitted()) == NAMES
    assert [b.name for b in fitted() if b.garch is None] == list(ROW_BASELINES)
    assert fitted()[2].inputs == HAR_INPUTS
    assert all(len(b.means) == len(b.coefficients) == len(b.inputs) for b in fitted())


@given(st.integers(0, 2**31), st.floats(0.0, 1.0))
def test_scores_are_probabilities_whatever_is_missing(seed: int, missing: float) -> None:
    random = np.random.default_rng(seed)
    rows = dataset().rows[random.integers(0, len(dataset()), 20)]
    rows[random.random(rows.shape) < missing] = np.nan
    absurd = random.lognormal(-10.0, 5.0, (20, len(FEATURE_NAMES)))
    absurd[random.random(rows.shape) < 0.1] = 0.0
    for baseline in fitted():
        scores = score(baseline, rows)
        assert ((scores > 0.0) & (scores < 1.0)).all(), baseline.name
        # Windows that contradict each other may saturate, and no more than that.
        scores = score(baseline, absurd)
        assert ((scores >= 0.0) & (scores <= 1.0)).all(), baseline.name


@pytest.mark.parametrize("name", NAMES)
def test_a_row_alone_scores_as_in_a_batch(name: str) -> None:
    rows = dataset().rows[:500].copy()
    rows[::7, INDEX["realised_volatility_60s"]] = np.nan
    baseline = next(b for b in fitted() if b.name == name)
    alone = np.array([score(baseline, row[None])[0] for row in rows])
    assert alone.tobytes() == score(baseline, rows).tobytes()


def test_a_missing_input_stands_for_the_mean_of_its_logs() -> None:
    har = fitted()[2]
    rows = dataset().rows[:1].copy()
    for place, name in enumerate(HAR_INPUTS):
        missing, filled = rows.copy(), rows.copy()
        missing[0, INDEX[name]] = np.nan
        filled[0, INDEX[name]] = np.exp(har.means[place])
        assert har.score(missing)[0] == pytest.approx(har.score(filled)[0], rel=1e-12)
        zero = rows.copy()
        zero[0, INDEX[name]] = 0.0
        assert har.score(zero)[0] != pytest.approx(har.score(missing)[0], rel=1e-6)


def test_scores_rise_with_the_volatility_that_they_know() -> None:
    row = np.full((5, len(FEATURE_NAMES)), np.nan)
    row[:, INDEX[BASELINE]] = 3e-5
    for column in ("realised_volatility_60s", *(f"ewma_volatility_{h}s" for h in (10, 60, 300))):
        row[:, INDEX[column]] = 3e-5 * np.array([0.25, 0.5, 1.0, 2.0, 4.0])
    row[:, INDEX["realised_volatility_300s"]] = 3e-5
    for baseline in fitted()[:3]:
        assert (np.diff(baseline.score(row)) > 0.0).all(), baseline.name


def test_relative_baselines_see_no_level() -> None:
    rows = dataset().rows[:200]
    louder = rows.copy()
    for name in (*HAR_INPUTS, *(f"ewma_volatility_{h}s" for h in (10, 60, 300))):
        louder[:, INDEX[name]] *= 8.0
    for baseline in fitted()[:2]:
        assert baseline.relative
        assert baseline.score(louder) == pytest.approx(baseline.score(rows))


def test_garch_needs_its_forecast() -> None:
    with pytest.raises(ValueError, match="filtered forecast"):
        fitted()[3].score(dataset().rows[:1])


def test_absolute_labels_take_absolute_forecasts() -> None:
    label = SMALL.label
    absolute = type(label)(kind="absolute", absolute_threshold=4e-5)
    data = dataset().take(np.arange(0, 8000, 4))
    spikes = data.rows[:, INDEX["realised_volatility_60s"]] > 4e-5
    models = {b.name: b for b in fit_baselines(data, spikes, absolute)}
    assert not any(b.relative for b in models.values())
    assert average_precision(spikes, models["persistence"].score(data.rows)) > 0.99


def test_fitting_reads_the_training_rows_alone() -> None:
    data = dataset()
    part = data.take(np.arange(6000))
    spikes = part.values >= spike_threshold(part.values, SMALL.label)
    before = fit_baselines(part, spikes, SMALL.label)
    (source,) = data.frames
    later = source.rows.copy()
    later[part.frame_row[-1] + 1 :] *= 3.0
    changed = FeatureFrame(source.symbol, source.time, later)
    moved = type(part)(**{**part.__dict__, "frames": (changed,)})
    assert fit_baselines(moved, spikes, SMALL.label) == before


def test_baseline_scores_follow_the_rows() -> None:
    data = dataset()
    scores = baseline_scores(data, list(fitted()), 60)
    assert set(scores) == set(NAMES)
    part = data.take(np.array([100, 5, 7000]))
    for name, values in baseline_scores(part, list(fitted()), 60).items():
        assert values.tolist() == scores[name][[100, 5, 7000]].tolist()
