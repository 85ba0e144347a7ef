"""The simple forecasts that a model has to beat: each fitted fairly, alone or with all symbols."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tests.bundles import HORIZONS, random_dataset
from volatility.dataset import Dataset
from volatility.features.table import FEATURE_NAMES, INDEX
from volatility.models.fit import HAR, best_simple
from volatility.models.inputs import GARCH
from volatility.models.regression import fit_garch, qlike
from volatility.models.sample import Sample, sample
from volatility.models.simple import (
    HALF_LIVES,
    LEAST_ROWS,
    SIMPLE,
    SimpleFit,
    fit_simple,
    forecast_forward,
    inputs_of,
)
from volatility.units import SECOND

START = 1_775_337_225
STRIDE = 15
ROWS = 1_600


def market(
    column: str = "ewma_volatility_60s",
    *,
    rows: int = ROWS,
    seed: int = 0,
    constant: float = 0.0,
    weight: float = 1.0,
    scale: float = 1.0,
    noise: float = 5.0,
) -> Dataset:
    """Draw a symbol whose next minute is ``constant + weight * x**2`` around one feature x.

    All volatilities differ: which is the right one can be found.
    """
    random = np.random.default_rng(seed)
    values = np.full((rows, len(FEATURE_NAMES)), np.nan)
    carried = [i for n, i in INDEX.items() if n.startswith(("realised_vol", "ewma_vol"))]
    values[:, carried] = scale * 1e-4 * random.lognormal(0.0, 0.6, (rows, len(carried)))
    values[:, INDEX["mean_trade_intensity_900s"]] = 2.0
    angle = 2.0 * np.pi * np.arange(rows) * STRIDE / 86_400
    values[:, INDEX["time_of_day_sin"]], values[:, INDEX["time_of_day_cos"]] = (
        np.sin(angle), np.cos(angle),
    )  # fmt: skip
    mean = constant + weight * values[:, INDEX[column]] ** 2
    return Dataset(
        ("BTC-USD",),
        (60,),
        np.zeros(rows, np.int64),
        (START + STRIDE * np.arange(rows)) * SECOND,
        values,
        (mean * random.gamma(noise, 1.0 / noise, rows))[:, None],
    )


def interleave(*parts: Dataset) -> Dataset:
    """Put symbols on one clock, row by row."""
    symbol = np.concatenate([np.full(len(part), i) for i, part in enumerate(parts)])
    time = np.concatenate([part.time for part in parts])
    order = np.lexsort((symbol, time))
    return Dataset(
        tuple(f"S{i}" for i in range(len(parts))),
        parts[0].horizons,
        symbol[order],
        time[order],
        np.concatenate([part.rows for part in parts])[order],
        np.concatenate([part.variance for part in parts])[order],
    )


def one(data: Dataset) -> Sample:
    return sample(data, 0)


def loss(name: str, data: Dataset) -> float:
    found = fit_simple(name, one(data))
    known = ~np.isnan(found.validated)
    return float(qlike(found.validated[known], data.variance[known, 0]).mean())


@cache
def all_fits() -> tuple[Sample, dict[str, SimpleFit]]:
    part = one(random_dataset(1200, symbols=("A", "B")))
    return part, {name: fit_simple(name, part) for name in SIMPLE}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SIMPLE))
def test_every_simple_forecast_fits_every_symbol_and_an_unknown_one(name: str) -> None:
    part, fits = all_fits()
    fit = fits[name]
    assert len(fit.fitted) == part.symbols + 1
    assert len(fit.choices) == part.symbols
    for fitted in fit.fitted:
        assert fitted.inputs in SIMPLE[name]
        assert np.isfinite(fitted.coefficients).all()
        assert len(fitted.coefficients) == len(fitted.inputs) + 1
    # Each row was forecast by a fit that had not seen it.
    assert not np.isnan(fit.validated).any()


def test_har_is_a_corsi_regression_on_three_windows() -> None:
    (inputs,) = SIMPLE["har"]
    assert [i.feature for i in inputs] == [f"realised_volatility_{w}s" for w in (60, 300, 900)]


@pytest.mark.slow
@pytest.mark.parametrize("half_life", HALF_LIVES)
def test_the_right_half_life_is_found(half_life: int) -> None:
    data = market(f"ewma_volatility_{half_life}s")
    found = fit_simple("ewma", one(data))
    assert found.choices[0].variant == HALF_LIVES.index(half_life)
    # The guard inside the logarithm keeps the slope a little from one.
    assert found.fitted[0].coefficients[0] == pytest.approx(1.0, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("window", [60, 300, 900])
def test_what_persists_is_forecast_by_its_own_persistence(window: int) -> None:
    data = market(f"realised_volatility_{window}s")
    losses = {w: loss(f"persistence_{w}s", data) for w in (60, 300, 900)}
    assert min(losses, key=lambda w: losses[w]) == window
    assert loss("har", data) < min(v for w, v in losses.items() if w != window)


def test_the_constant_is_the_mean() -> None:
    data = market(noise=2.0)
    found = fit_simple("constant", one(data))
    assert np.exp(found.fitted[0].coefficients) == pytest.approx([data.variance.mean()])


def test_a_daily_cycle_needs_days() -> None:
    rows = 6 * 86_400 // (STRIDE * 20)
    data = market(rows=rows, noise=20.0)
    time = (START + 20 * STRIDE * np.arange(rows)) * SECOND
    angle = 2.0 * np.pi * (time / SECOND % 86_400) / 86_400
    values = data.rows.copy()
    values[:, INDEX["time_of_day_sin"]] = np.sin(angle)
    values[:, INDEX["time_of_day_cos"]] = np.cos(angle)
    variance = 1e-8 * np.exp(0.8 * np.sin(angle))[:, None] * data.variance / data.variance.mean()
    cyclic = Dataset(data.symbols, data.horizons, data.symbol, time, values, variance)
    found = fit_simple("time_of_day", one(cyclic))
    assert found.fitted[0].coefficients[0] == pytest.approx(0.8, abs=0.1)
    half = cyclic.take(np.arange(rows // 2))
    flat = fit_simple("time_of_day", one(half))
    assert flat.fitted[0].coefficients[:2].tolist() == [0.0, 0.0]


# --- garch --------------------------------------------------------------------------------


def test_garch_finds_its_parameters_and_half_life() -> None:
    data = market("ewma_volatility_10s", constant=4e-9, weight=0.6)
    found = fit_simple("garch", one(data))
    assert found.choices[0].variant == HALF_LIVES.index(10)
    constant, weight = found.fitted[0].garch
    assert constant == pytest.approx(4e-9, rel=0.2)
    assert weight == pytest.approx(0.6, rel=0.1)


@pytest.mark.slow
def test_symbols_that_interleave_each_get_the_garch_that_they_would_alone() -> None:
    """Finding 6: rows of two symbols in turn are two markets, and no recursion runs across."""
    calm = market("ewma_volatility_10s", constant=4e-9, weight=0.3, seed=1)
    wild = market("ewma_volatility_300s", constant=1e-7, weight=1.0, scale=20.0, seed=2)
    both = fit_simple("garch", one(interleave(calm, wild)))
    for place, part in enumerate((calm, wild)):
        alone = fit_simple("garch", one(part))
        assert both.choices[place].variant == alone.choices[0].variant
        assert not both.choices[place].pooled
        assert both.fitted[place].garch == alone.fitted[0].garch
        column = SIMPLE["garch"][alone.choices[0].variant][0].column
        direct = fit_garch(part.rows[:, column] ** 2, part.variance[:, 0])
        assert both.fitted[place].garch == direct


@pytest.mark.slow
def test_a_shared_garch_is_in_units_of_each_symbol() -> None:
    """A symbol that moves a thousand times less is forecast a thousand times less."""
    loud = market(constant=4e-9, weight=0.6, seed=3)
    few = market(constant=4e-15, weight=0.6, scale=1e-3, seed=4, rows=LEAST_ROWS - 1)
    fit = fit_simple("garch", one(interleave(loud, few)))
    constants = [fitted.garch[0] for fitted in fit.fitted]
    weights = [fitted.garch[1] for fitted in fit.fitted]
    assert constants[1] == pytest.approx(1e-6 * constants[0], rel=0.3)
    assert weights[1] == pytest.approx(weights[0], rel=0.3)
    assert constants[1] < constants[2] < constants[0]
    assert fit.fitted[0].inputs[0].kind == GARCH


# --- pooling ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_symbol_with_few_rows_shares_slopes_and_keeps_its_level() -> None:
    loud = market(seed=5)
    few = market(scale=0.01, seed=6, rows=LEAST_ROWS - 1)
    fit = fit_simple("ewma", one(interleave(loud, few)))
    assert fit.fitted[1].coefficients[0] == pytest.approx(1.0, abs=0.2)
    inputs = inputs_of(fit.fitted[1].inputs, few.rows, np.zeros(len(few)))
    ratio = few.variance[:, 0] / np.exp(fit.fitted[1].log_variance(inputs))
    assert ratio.mean() == pytest.approx(1.0, abs=0.2)


@pytest.mark.slow
def test_symbols_that_differ_are_fitted_alone() -> None:
    up = market("realised_volatility_60s", seed=7)
    other = market("realised_volatility_900s", seed=8)
    found = fit_simple("har", one(interleave(up, other)))
    assert [choice.pooled for choice in found.choices] == [False, False]
    slopes = np.array([fitted.coefficients for fitted in found.fitted])
    assert slopes[0, 0] > 0.8 > 0.2 > abs(slopes[0, 2])
    assert slopes[1, 2] > 0.8 > 0.2 > abs(slopes[1, 0])


@pytest.mark.slow
def test_one_symbol_has_no_one_to_share_with() -> None:
    found = fit_simple("har", one(market()))
    assert not found.choices[0].pooled
    assert np.array_equal(found.fitted[0].coefficients, found.fitted[-1].coefficients)


# --- the best of them ----------------------------------------------------------------------


def best(data: Dataset) -> str:
    part = one(data)
    names = ("constant", "persistence_60s", "ewma", "har")
    return best_simple(part, {name: [fit_simple(name, part)] for name in names})


@pytest.mark.slow
def test_har_is_preferred_unless_another_is_better_by_a_standard_error() -> None:
    # HAR sees this feature too, and a part of the guard; the two are near equals.
    assert best(market("realised_volatility_60s", rows=2400)) == HAR
    # It does not see this one.
    assert best(market("ewma_volatility_10s", rows=2400)) == "ewma"
    # Nothing to see: the constant is right, and HAR hardly worse.
    flat = market("realised_volatility_60s", rows=2400, constant=1e-8, weight=0.0)
    assert best(flat) == HAR


@pytest.mark.slow
def test_with_too_few_rows_to_look_ahead_it_is_har() -> None:
    part = one(market(rows=150))
    assert part.forward_folds == []
    fits = {name: [fit_simple(name, part)] for name in ("constant", "har")}
    assert best_simple(part, fits) == HAR


@pytest.mark.slow
def test_looking_ahead_each_block_is_forecast_from_the_past_alone() -> None:
    data = market(rows=2400)
    part = one(data)
    fit = fit_simple("ewma", part)
    found = forecast_forward("ewma", part, fit.choices)
    first = part.forward_folds[0].test[0]
    assert np.isnan(found[:first]).all()
    assert not np.isnan(found[first:]).any()
    # What comes later changes nothing before it.
    last = part.forward_folds[-1].test[0]
    variance = data.variance.copy()
    variance[last:] *= 7.0
    changed = Dataset(data.symbols, data.horizons, data.symbol, data.time, data.rows, variance)
    again = forecast_forward("ewma", one(changed), fit.choices)
    assert again.tobytes() == found.tobytes()


@pytest.mark.slow
def test_silent_windows_break_no_simple_forecast() -> None:
    data = random_dataset(800)
    variance = data.variance.copy()
    variance[::2] = 0.0
    silent = Dataset(data.symbols, HORIZONS, data.symbol, data.time, data.rows, variance)
    for name in SIMPLE:
        found = fit_simple(name, one(silent))
        assert all(np.isfinite(fitted.coefficients).all() for fitted in found.fitted)
        assert np.isfinite(found.validated).all()
