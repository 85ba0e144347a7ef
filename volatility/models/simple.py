"""Fit the simple forecasts that a model has to beat, all under equal conditions.

Each is fitted with the same loss on the same rows, separately for each symbol and jointly over all
symbols; blocked validation within those rows chooses between the two, and among the half-lives of
the exponential averages.

* ``constant``: the mean;
* ``persistence``: the next window is like the last 60, 300 or 900 s, up to scale and power;
* ``ewma``: an exponentially weighted average; in ``ewma_level`` it reverts to the level;
* ``har``: heterogeneous autoregression on three windows (Corsi, Journal of Financial
  Econometrics, 2009); ``har_time_of_day`` adds a daily cycle;
* ``garch``: GARCH(1,1) (Bollerslev, Journal of Econometrics, 1986). Its filtered variance is
  an exponential average of squared returns, and its forecast over any horizon is linear in it
  (see ``docs/adr``), so the feature row contains its state;
* ``time_of_day``: the mean of the hour, as a daily cycle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from volatility.models.inputs import GARCH, LOG, RAW, Input, design
from volatility.models.regression import fit_gamma, fit_garch, qlike
from volatility.models.sample import Sample
from volatility.units import Floats, Integers

LEAST_ROWS = 100  # of a symbol, for a separate fit
LEAST_DAYS = 4.0  # for a daily cycle
PENALTY_WINDOWS = 1.0  # a minimal penalty, so that a fit on few rows has a unique solution
HALF_LIVES = (10, 60, 300)

_VOLATILITY_900 = Input(LOG, "realised_volatility_900s")
_CYCLE = (Input(RAW, "time_of_day_sin"), Input(RAW, "time_of_day_cos"))
_HAR = (
    Input(LOG, "realised_volatility_60s"),
    Input(LOG, "realised_volatility_300s"),
    _VOLATILITY_900,
)


def _ewma(half_life: int, *others: Input) -> tuple[Input, ...]:
    return (Input(LOG, f"ewma_volatility_{half_life}s"), *others)


SIMPLE: dict[str, tuple[tuple[Input, ...], ...]] = {
    "constant": ((),),
    **{
        f"persistence_{window}s": ((Input(LOG, f"realised_volatility_{window}s"),),)
        for window in (60, 300, 900)
    },
    "ewma": tuple(_ewma(half_life) for half_life in HALF_LIVES),
    "ewma_level": tuple(_ewma(half_life, _VOLATILITY_900) for half_life in HALF_LIVES),
    "har": (_HAR,),
    "har_time_of_day": ((*_HAR, *_CYCLE),),
    "garch": tuple((Input(GARCH, f"ewma_volatility_{half_life}s"),) for half_life in HALF_LIVES),
    "time_of_day": (_CYCLE,),
}
"""Inputs of each variant, by simple forecast."""


@dataclass(frozen=True)
class Fitted:
    """Represent one fitted variant for one symbol.

    ``coefficients`` is float64[K + 1], the intercept last; ``garch`` is (constant, weight).
    """

    inputs: tuple[Input, ...]
    coefficients: Floats
    garch: tuple[float, float] = (1.0, 0.0)

    def log_variance(self, inputs: Floats) -> Floats:
        """Forecast from float64[n, K] inputs; a GARCH input is a filtered variance."""
        if self.inputs and self.inputs[0].kind == GARCH:
            constant, weight = self.garch
            variance: Floats = np.log(constant + weight * inputs[:, 0])
            return variance
        result: Floats = inputs @ self.coefficients[:-1] + self.coefficients[-1]
        return result


def inputs_of(inputs: tuple[Input, ...], rows: Floats, level: Floats) -> Floats:
    """Compute float64[n, K] inputs; a GARCH input is the filtered variance itself."""
    if inputs and inputs[0].kind == GARCH:
        x = rows[:, inputs[0].column]
        return np.square(np.where(np.isnan(x), level, x))[:, None]
    kinds = np.array([i.kind for i in inputs], dtype=np.int64)
    columns = np.array([i.column for i in inputs], dtype=np.int64)
    result: Floats = design(rows, kinds, columns, 0.0)
    return result


@dataclass(frozen=True)
class Choice:
    """Represent how to fit a symbol's forecast: which variant, separately or jointly."""

    variant: int = 0
    pooled: bool = False


@dataclass(frozen=True)
class SimpleFit:
    """Represent a simple forecast for every symbol at one horizon.

    ``fitted`` has one entry per symbol and one for an unknown symbol; ``choices`` has one per
    symbol; ``validated`` is float64[n]: log variances of the sample's rows from fits that had not
    seen them (NaN if no block could be left out).
    """

    fitted: tuple[Fitted, ...]
    choices: tuple[Choice, ...]
    validated: Floats


def fit_simple(name: str, sample: Sample) -> SimpleFit:
    """Choose each symbol's variant by blocked validation, then fit it on all rows."""
    variants = SIMPLE[name]
    flat = _is_flat(name, sample)
    prepared = [_prepare(variant, sample, flat) for variant in variants]
    alone = sample.symbols == 1
    every = [
        Choice(v, p) for v in range(len(variants)) for p in ((False,) if alone else (False, True))
    ]
    validated = {choice: np.full(len(sample), np.nan) for choice in every}
    outcomes = sample.outcomes()
    for fold in sample.folds:
        train = outcomes.take(fold.train)
        for choice in every:
            inputs = prepared[choice.variant]
            fits = _fit(variants[choice.variant], inputs[fold.train], train, pooled=choice.pooled)
            place = sample.symbol[fold.test]
            for symbol in np.unique(place):
                mine = fold.test[place == symbol]
                validated[choice][mine] = fits[symbol].log_variance(inputs[mine])
    losses = {choice: qlike(v, sample.realised) for choice, v in validated.items()}
    chosen = []
    for symbol in range(sample.symbols):
        mine = sample.of(symbol)
        known = mine[~np.isnan(losses[every[0]][mine])]
        means = [float(losses[c][known].mean()) if len(known) else 0.0 for c in every]
        chosen.append(every[int(np.argmin(means))])
    complete = {
        choice: _fit(
            variants[choice.variant], prepared[choice.variant], sample, pooled=choice.pooled
        )
        for choice in {*chosen, Choice(chosen[0].variant, not alone)}
    }
    fitted = [complete[choice][symbol] for symbol, choice in enumerate(chosen)]
    fitted.append(complete[Choice(chosen[0].variant, not alone)][-1])
    together = np.full(len(sample), np.nan)
    for symbol, choice in enumerate(chosen):
        mine = sample.of(symbol)
        together[mine] = validated[choice][mine]
    return SimpleFit(tuple(fitted), tuple(chosen), together)


def forecast_forward(name: str, sample: Sample, choices: tuple[Choice, ...]) -> Floats:
    """Forecast each block with fits on earlier blocks: float64[n] log variances, NaN at first.

    Used to choose among simple forecasts: fits on both sides of a block would favour forecasts
    that revert to the mean of all blocks.
    """
    result = np.full(len(sample), np.nan)
    flat = _is_flat(name, sample)
    for fold in sample.forward_folds:
        train = sample.take(fold.train)
        for choice in set(choices):
            inputs = _prepare(SIMPLE[name][choice.variant], sample, flat)
            fits = _fit(
                SIMPLE[name][choice.variant], inputs[fold.train], train, pooled=choice.pooled
            )
            for symbol, mine_choice in enumerate(choices):
                mine = fold.test[sample.symbol[fold.test] == symbol]
                if mine_choice == choice and len(mine):
                    result[mine] = fits[symbol].log_variance(inputs[mine])
    return result


def _is_flat(name: str, sample: Sample) -> bool:
    """Return whether there are too few days for the daily cycle of this forecast."""
    cyclic = any(i.kind == RAW for variant in SIMPLE[name] for i in variant)
    return cyclic and sample.days < LEAST_DAYS


def _prepare(variant: tuple[Input, ...], sample: Sample, flat: bool) -> Floats:
    inputs = inputs_of(variant, sample.rows, sample.level)
    if flat:
        inputs[:, [i.kind == RAW for i in variant]] = 0.0
    return inputs


def _fit(
    inputs: tuple[Input, ...], values: Floats, sample: Sample, *, pooled: bool
) -> tuple[Fitted, ...]:
    """Fit a variant for all symbols and an unknown one; symbols with few rows use the joint fit."""
    places = [sample.of(symbol) for symbol in range(sample.symbols)]
    shared = _shared(inputs, values, sample) if pooled or sample.symbols > 1 else None
    result = []
    for symbol, mine in enumerate(places):
        few = len(mine) < LEAST_ROWS and sample.symbols > 1
        if shared is not None and (pooled or few):
            result.append(shared[symbol])
        else:
            result.append(_alone(inputs, values[mine], sample, mine))
    return (*result, shared[-1] if shared is not None else result[0])


def _alone(inputs: tuple[Input, ...], values: Floats, sample: Sample, mine: Integers) -> Fitted:
    realised = sample.realised[mine]
    if inputs and inputs[0].kind == GARCH:
        return Fitted(inputs, np.array([1.0, 0.0]), fit_garch(values[:, 0], realised))
    penalty = PENALTY_WINDOWS / max(sample.windows(mine), 1)
    return Fitted(inputs, fit_gamma(values, realised, np.zeros(len(mine)), penalty=penalty))


def _shared(inputs: tuple[Input, ...], values: Floats, sample: Sample) -> tuple[Fitted, ...]:
    """Fit one slope for all symbols and a level for each; the last entry has the mean level."""
    weight = sample.weight
    if inputs and inputs[0].kind == GARCH:
        # In units of each symbol's mean variance, one pair of parameters fits all symbols.
        count = np.maximum(np.bincount(sample.symbol, minlength=sample.symbols), 1)
        mean = np.bincount(sample.symbol, sample.realised, minlength=sample.symbols) / count
        mean = np.maximum(np.where(mean > 0.0, mean, sample.realised.mean()), 1e-300)
        unit = mean[sample.symbol]
        constant, share = fit_garch(values[:, 0] / unit, sample.realised / unit)
        scales = (*mean.tolist(), float(np.exp(np.log(mean).mean())))
        return tuple(Fitted(inputs, np.array([1.0, 0.0]), (constant * m, share)) for m in scales)
    dummies = np.eye(sample.symbols)[sample.symbol][:, 1:]
    penalty = PENALTY_WINDOWS / max(sample.windows(np.arange(len(sample))), 1)
    found = fit_gamma(
        np.column_stack([values, dummies]), sample.realised, np.zeros(len(sample)),
        penalty=penalty, weight=weight,
    )  # fmt: skip
    slopes, levels = found[: len(inputs)], np.append(0.0, found[len(inputs) : -1]) + found[-1]
    return tuple(
        Fitted(inputs, np.append(slopes, level)) for level in (*levels, float(levels.mean()))
    )
