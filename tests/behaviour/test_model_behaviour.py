"""What a trained model must do, whatever its figures are."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from tests.examples import SMALL, dataset, held_out, trained
from volatility.dataset import Dataset, runs
from volatility.features.table import FEATURE_NAMES, INDEX
from volatility.models.alerts import alert_metrics
from volatility.models.bundle import Bundle, Variant
from volatility.models.fit import fit_bundle
from volatility.models.forecaster import QUANTILES, Forecasts
from volatility.models.prior import shipped
from volatility.models.regression import qlike

CARRIED = [i for n, i in INDEX.items() if n.startswith(("realised_volatility", "ewma_volatility"))]
RECENT = [
    INDEX[name]
    for name in (
        "realised_volatility_15s", "realised_volatility_30s", "realised_volatility_60s",
        "ewma_volatility_10s", "ewma_volatility_60s",
        "volatility_ratio_15s", "volatility_ratio_30s", "volatility_ratio_60s",
        "ewma_ratio_10s", "ewma_ratio_60s",
    )
]  # fmt: skip


def variant(name: Variant) -> Bundle:
    return trained().as_variant(name)


def forecast(rows: np.ndarray, of: Bundle | None = None) -> Forecasts:
    return (of or trained()).forecast(rows, held_out().symbol[: len(rows)])


def test_forecasts_and_scores_rise_when_recent_volatility_does() -> None:
    forecasts, scores = [], []
    for factor in (0.5, 1.0, 2.0):
        louder = held_out().rows.copy()
        louder[:, RECENT] *= factor
        made = forecast(louder)
        forecasts.append(float(made.volatility_bps[:, 0].mean()))
        scores.append(float(made.exceedance[:, 0].mean()))
    assert forecasts[0] < forecasts[1] < forecasts[2]
    assert scores[0] < scores[1] < scores[2]
    assert forecasts[2] > 1.2 * forecasts[0]


def test_a_higher_spike_level_is_less_likely() -> None:
    bundle, data = trained(), held_out()
    chances = [
        bundle.forecaster.exceedance(data.rows, data.symbol, 0, np.full(len(data), level))
        for level in np.geomspace(1e-6, 1e-2, 9)
    ]
    assert (np.diff(chances, axis=0) <= 1e-12).all()


@pytest.mark.parametrize("name", ["ml", "prior", "baseline"])
def test_no_variant_does_worse_than_a_constant(name: Variant) -> None:
    data = held_out()
    for place in range(3):
        known = np.flatnonzero(~np.isnan(data.variance[:, place]))
        part = data.take(known)
        realised = part.variance[:, place]
        loss = qlike(
            variant(name).forecaster.log_variance(part.rows, part.symbol, place), realised
        ).mean()
        constant = trained().forecasters["constant"]
        flat = qlike(constant.log_variance(part.rows, part.symbol, place), realised).mean()
        assert loss < flat + 0.02


def test_outcomes_lie_between_their_quantiles_about_as_often_as_stated() -> None:
    data = held_out()
    realised = 1e4 * np.sqrt(data.variance[:, 0] * 60)
    quantiles = forecast(data.rows).quantiles_bps[:, 0]
    for place, level in enumerate(QUANTILES):
        # Some two hours of one market: far from exact, and not anything.
        assert np.mean(realised <= quantiles[:, place]) == pytest.approx(level, abs=0.15)


def test_a_row_of_which_nothing_is_known_gets_a_forecast() -> None:
    nothing = np.full((1, len(FEATURE_NAMES)), np.nan)
    for name in trained().variants:
        made = forecast(nothing, variant(name))
        assert 0.0 <= made.exceedance[0, 0] <= 1.0
        assert np.isfinite(made.quantiles_bps).all()
        assert (made.volatility_bps > 0.0).all()
    assert trained().out_of_distribution(nothing).all()


def test_absurd_rows_get_a_probability_and_a_flag() -> None:
    rows = np.full((5, len(FEATURE_NAMES)), np.nan)
    rows[0], rows[1], rows[2], rows[3] = 1e300, -1e300, 0.0, 5e-324
    rows[4, ::2], rows[4, 1::2] = 1e308, -1e308
    for name in trained().variants:
        made = forecast(rows, variant(name))
        assert ((made.exceedance >= 0.0) & (made.exceedance <= 1.0)).all()
        assert np.isfinite(made.volatility_bps).all()
        assert np.isfinite(made.quantiles_bps).all()
    assert trained().out_of_distribution(rows).all()


def test_rows_like_the_training_rows_are_not_flagged_and_others_are() -> None:
    bundle, data = trained(), held_out()
    known = dataset().time <= bundle.specification.train_stop
    assert not bundle.out_of_distribution(dataset().rows[known]).any()
    likeness = bundle.out_of_distribution(data.rows).mean()
    assert likeness < bundle.out_of_distribution(data.rows * 3.0).mean()
    assert likeness < 0.5
    for name in bundle.specification.inputs:
        strange = data.rows[:1].copy()
        strange[0, INDEX[name]] = 1e6
        assert bundle.out_of_distribution(strange).all(), name


def test_an_unknown_symbol_is_forecast_by_what_all_have_in_common() -> None:
    bundle, data = trained(), held_out()
    unknown = bundle.forecast(data.rows, np.full(len(data), -1))
    known = bundle.forecast(data.rows, data.symbol)
    ratio = unknown.volatility_bps[:, 0] / known.volatility_bps[:, 0]
    assert 0.5 < np.median(ratio) < 2.0
    place = bundle.places(["BTC-USD", "ETH-USD", "DOGE-USD"])
    assert place.tolist() == [0, 1, -1]


@pytest.mark.parametrize("name", ["ml", "prior", "baseline"])
def test_the_alert_budget_is_about_kept_on_the_training_rows(name: Variant) -> None:
    data = dataset().take(dataset().time <= trained().specification.train_stop)
    model = variant(name)
    scores = model.score(data.rows, data.symbol)
    spikes = np.sqrt(data.variance[:, 0]) >= model.spike_levels[data.symbol, 0]
    found = alert_metrics(
        scores, model.threshold, spikes, runs(data, 60), data.time, 60,
        len(data) * SMALL.train.stride_seconds / 3600.0,
    )  # fmt: skip
    # The threshold comes from fits that had not seen the rows; these have.
    assert 0.0 < found.alerts_per_hour <= 2.0 * SMALL.train.alerts_per_hour


@cache
def training_rows() -> Dataset:
    return dataset().take(dataset().time <= trained().specification.train_stop)


def test_trained_twice_on_many_threads_it_is_the_same_model() -> None:
    with threadpool_limits(4):  # sums in the order of four threads would be another model
        again = fit_bundle(training_rows(), SMALL, shipped())
    assert again.digest == trained().digest
    data = held_out()
    assert again.score(data.rows, data.symbol).tobytes() == (
        trained().score(data.rows, data.symbol).tobytes()
    )
