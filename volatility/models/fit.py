"""Fit a bundle: every simple forecast, the model, and the residual law of each."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from volatility.dataset import Dataset, runs
from volatility.features import MODEL_INPUTS, table_digest
from volatility.models.alerts import threshold_for_budget
from volatility.models.boosting import INPUT_COLUMNS, usable_inputs
from volatility.models.bundle import (
    FORMAT,
    LEVEL_QUANTILES,
    Bundle,
    Provenance,
    Specification,
    Variant,
)
from volatility.models.forecaster import Forecaster, Linear, pack, without_trees
from volatility.models.law import Law
from volatility.models.ml import INPUTS as ML_INPUTS
from volatility.models.ml import MlFit, fit_ml
from volatility.models.prior import Prior
from volatility.models.regression import qlike
from volatility.models.residuals import residual_law
from volatility.models.sample import Sample, gain, sample
from volatility.models.simple import SIMPLE, SimpleFit, fit_simple, forecast_forward
from volatility.settings import Settings
from volatility.units import Floats

logger = logging.getLogger(__name__)

RECIPE_VERSION = 1  # increase when a change of this package's code changes forecasts
PACKAGES = ("numpy", "numba", "scikit-learn", "pyarrow", "pandas", "mlflow", "bentoml", "evidently")
LARGEST = float(np.finfo(np.float64).max)  # JSON has no infinity
EXAMPLES = 8  # rows stored with their scores, for the self-test at loading
LEAST_ROWS = 60
HAR = "har"


class TrainingError(ValueError):
    """Report why rows cannot train a model."""


def fit_bundle(data: Dataset, settings: Settings, prior: Prior) -> Bundle:
    """Fit forecasts, residual laws, spike levels and thresholds on all labelled rows.

    Half-lives, pooling, the number of trees and the best simple forecast are chosen by blocked
    validation within the rows. The residual laws and thresholds come from forecasts of rows by
    fits that had not seen them.

    Raises
    ------
    TrainingError
        If a horizon has too few rows, or the market never moves.
    """
    samples = _samples(data)
    levels = _levels(samples)
    # One thread: on a busy machine, several threads wait for each other (19 ms for 1 ms of work),
    # and another summation order would result in another model.
    start = prior.at(data.horizons)
    with threadpool_limits(1):
        simple = {name: [fit_simple(name, one) for one in samples] for name in SIMPLE}
        pooled = [
            start.log_variance(one.rows, np.full(len(one), -1), place)
            for place, one in enumerate(samples)
        ]
        ml = [fit_ml(one, logs, settings.train) for one, logs in zip(samples, pooled, strict=True)]
        best = best_simple(samples[0], simple)
    validated = {name: [fit.validated for fit in fits] for name, fits in simple.items()}
    validated["ml"] = [fit.validated for fit in ml]
    forecasters = {
        name: _simple_forecaster(fits, levels, residual_law(samples, validated[name]))
        for name, fits in simple.items()
    }
    forecasters["ml"] = _ml_forecaster(ml, start, levels, residual_law(samples, validated["ml"]))
    forecasters["prior"] = start
    draft = _draft(data, settings, prior, forecasters, best)
    rows = np.flatnonzero(~np.isnan(validated["ml"][0]))
    seen = data.take(np.flatnonzero(~np.isnan(data.variance[:, 0]))[rows])
    levels_of = draft.spike_levels[seen.symbol, 0]
    thresholds: dict[str, float] = {}
    said: dict[Variant, Floats] = {
        "ml": validated["ml"][0],
        "prior": pooled[0],
        "baseline": validated[best][0],
    }
    for variant, logs in said.items():
        forecaster = draft.as_variant(variant).forecaster
        scores = forecaster.exceedance_of(seen.rows, seen.symbol, 0, logs[rows], levels_of)
        thresholds[variant] = threshold(scores, seen, settings)
    spec = msgspec.structs.replace(draft.specification, thresholds=thresholds)
    return example_fields(replace(draft, specification=spec), data)


def _samples(data: Dataset) -> list[Sample]:
    """Return the rows to fit each horizon on.

    If gaps leave too few complete windows for a horizon, those of the next shorter horizon are
    used: variance per second is comparable over both.
    """
    result: list[Sample] = []
    for place in range(len(data.horizons)):
        one = sample(data, place)
        if len(one) < LEAST_ROWS or not one.folds:
            if not result:
                raise TrainingError(
                    f"{len(one)} rows with a full window of {one.horizon_seconds} s are too few "
                    "to fit and validate on: record or simulate at least an hour of ticks"
                )
            one = result[-1]
        result.append(one)
    if not result[0].realised.any():
        raise TrainingError(
            "the price does not move in the training rows: there is no volatility to learn from"
        )
    return result


def example_fields(bundle: Bundle, data: Dataset) -> Bundle:
    """Return the bundle with example rows from the data and their scores, for its self-test."""
    chosen = np.linspace(0, len(data) - 1, EXAMPLES).astype(int)
    spec = msgspec.structs.replace(
        bundle.specification,
        example_rows=tuple(
            tuple(None if np.isnan(v) else float(v) for v in row) for row in data.rows[chosen]
        ),
        example_symbols=tuple(data.symbols[place] for place in data.symbol[chosen]),
    )
    bundle = replace(bundle, specification=spec)
    scores = bundle.score(*bundle.examples())
    spec = msgspec.structs.replace(spec, example_scores=tuple(scores.tolist()))
    return replace(bundle, specification=spec)


def recipe_digest(settings: Settings, prior: Prior, symbols: tuple[str, ...]) -> str:
    """Return a digest of the recipe: code version, features, parameters, data rule and prior."""
    parts = {
        "version": RECIPE_VERSION,
        "features": table_digest(),
        "prior": prior.digest,
        "symbols": symbols,
        "parameters": msgspec.to_builtins(
            {"features": settings.features, "forecast": settings.forecast, "train": settings.train}
        ),
    }
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def best_simple(one: Sample, simple: dict[str, list[SimpleFit]]) -> str:
    """Choose the simple forecast that serves as baseline, by its loss on later blocks.

    HAR is chosen unless another is better by a standard error: among near equals, the one with
    several time scales is the most robust when the market changes.
    """
    made = {name: forecast_forward(name, one, fits[0].choices) for name, fits in simple.items()}
    losses = {name: qlike(logs, one.realised) for name, logs in made.items()}
    known = np.flatnonzero(~np.isnan(losses[HAR]))
    if not len(known):
        return HAR
    means = {
        name: float(np.average(loss[known], weights=one.weight[known]))
        for name, loss in losses.items()
    }
    best = min(means, key=lambda name: means[name])
    mean, error = gain(one, known, losses[best], losses[HAR])
    return best if mean > error else HAR


def spike_levels(data: Dataset, settings: Settings) -> Floats:
    """Return the spike levels of each symbol and of an unknown one: float64[S + 1, H] in bps.

    A horizon without complete windows uses the level of the shorter one, scaled by the square root
    of time.
    """
    columns: list[Floats] = []
    for place, horizon in enumerate(data.horizons):
        if columns and np.isnan(data.variance[:, place]).all():
            columns.append(columns[-1] * np.sqrt(horizon / data.horizons[place - 1]))
        else:
            quantile = settings.forecast.spike_quantile
            columns.append(quantile_levels(data, place, (quantile,))[:, 0])
    result = np.column_stack(columns)
    for place, symbol in enumerate(data.symbols):
        given = settings.forecast.spike_levels_bps.get(symbol)
        result[place, 0] = result[place, 0] if given is None else given
    return result


def quantile_levels(data: Dataset, place: int, quantiles: tuple[float, ...]) -> Floats:
    """Return quantiles of each symbol's forward volatility at a horizon's index, in bps.

    Returns
    -------
    float64[S + 1, Q]
        The last row, for an unknown symbol, is the median of the others, as is the row of a symbol
        whose price never moves.
    """
    moves = np.sqrt(data.variance[:, place] * data.horizons[place]) * 1e4
    result = np.full((len(data.symbols), len(quantiles)), np.nan)
    for symbol in range(len(data.symbols)):
        mine = moves[(data.symbol == symbol) & ~np.isnan(moves)]
        if len(mine):
            result[symbol] = np.quantile(mine, quantiles)
    result[~(result > 0.0)] = np.nan
    known = [column[~np.isnan(column)] for column in result.T]
    middle = np.array([float(np.median(column)) if len(column) else 1.0 for column in known])
    levels: Floats = np.vstack([np.where(np.isnan(result), middle, result), middle])
    return levels


def _draft(
    data: Dataset, settings: Settings, prior: Prior, forecasters: dict[str, Forecaster], best: str
) -> Bundle:
    """Return the bundle without thresholds and examples, which are computed from it."""
    levels = spike_levels(data, settings)
    inputs = data.rows[:, INPUT_COLUMNS]
    missing = np.isnan(inputs)
    usable = set(usable_inputs(data.rows).tolist())
    volatility = levels[data.symbol, 0] / 1e4 / np.sqrt(data.horizons[0])
    return Bundle(
        Specification(
            format=FORMAT,
            recipe=recipe_digest(settings, prior, data.symbols),
            feature_digest=table_digest(),
            features=settings.features,
            horizons=data.horizons,
            symbols=data.symbols,
            models=tuple(sorted(forecasters)),
            best_simple=best,
            inputs=tuple(
                name
                for name, column in zip(MODEL_INPUTS, INPUT_COLUMNS, strict=True)
                if column in usable
            ),
            spike_levels_bps=tuple(tuple(row) for row in levels.tolist()),
            quantile_levels_bps=tuple(
                tuple(row) for row in quantile_levels(data, 0, LEVEL_QUANTILES).tolist()
            ),
            thresholds={},
            base_rate=float(np.mean(np.sqrt(data.variance[:, 0]) >= volatility)),
            # An input that is always missing has an empty range and is ignored.
            lowest=tuple(np.where(missing, LARGEST, inputs).min(axis=0).tolist()),
            highest=tuple(np.where(missing, -LARGEST, inputs).max(axis=0).tolist()),
            may_be_missing=tuple(bool(column.any()) for column in missing.T),
            train_start=int(data.time[0]),
            train_stop=int(data.time[-1]),
            train_rows=len(data),
            data_digest=data.digest(),
            prior_digest=prior.digest,
            parameters=msgspec.to_builtins(
                {
                    "features": settings.features,
                    "forecast": settings.forecast,
                    "train": settings.train,
                }
            ),
            example_rows=(),
            example_symbols=(),
            example_scores=(),
            provenance=provenance(),
        ),
        forecasters,
    )


def threshold(scores: Floats, data: Dataset, settings: Settings) -> float:
    """Return the threshold at which float64[n] scores of rows meet the alert budget."""
    stride, horizon = settings.train.stride_seconds, data.horizons[0]
    found = threshold_for_budget(
        scores,
        runs(data, max(horizon, stride)),
        data.time,
        settings.train.alerts_per_hour,
        horizon,
        len(data) * stride / 3600.0,
    )
    if found.raises_alerts:
        return found.threshold
    logger.warning(
        "an alert budget of %g per hour is less than one alert in the %.1f hours of rows: only a "
        "score as high as their maximum raises an alert",
        settings.train.alerts_per_hour,
        len(data) * stride / 3600.0,
    )
    return float(scores.max())


def _levels(samples: list[Sample]) -> Floats:
    """Return the usual level of each symbol and of an unknown one: float64[S + 1]."""
    one = samples[0]
    logs = np.log(one.level)
    own = [
        float(logs[one.of(s)].mean()) if len(one.of(s)) else float(logs.mean())
        for s in range(one.symbols)
    ]
    result: Floats = np.exp(np.array([*own, float(np.mean(own))]))
    return result


def _simple_forecaster(fits: list[SimpleFit], levels: Floats, law: Law) -> Forecaster:
    """Build the forecaster of a simple forecast; inputs unused by a symbol get zero weight."""
    symbols, horizons = len(levels) - 1, len(fits)
    most = max(len(fitted.inputs) for fit in fits for fitted in fit.fitted)
    kinds = np.zeros((symbols + 1, horizons, most), dtype=np.int64)
    columns = np.zeros_like(kinds)
    coefficients = np.zeros((symbols + 1, horizons, most + 1))
    garch = np.zeros((symbols + 1, horizons, 2))
    for h, fit in enumerate(fits):
        for s, fitted in enumerate(fit.fitted):
            count = len(fitted.inputs)
            kinds[s, h, :count] = [i.kind for i in fitted.inputs]
            columns[s, h, :count] = [i.column for i in fitted.inputs]
            coefficients[s, h, :count] = fitted.coefficients[:-1]
            coefficients[s, h, -1] = fitted.coefficients[-1]
            garch[s, h] = fitted.garch
    pooled, packed = without_trees(horizons, symbols)
    return Forecaster(Linear(kinds, columns, coefficients, garch, levels), pooled, packed, law)


def _ml_forecaster(fits: list[MlFit], prior: Forecaster, levels: Floats, law: Law) -> Forecaster:
    symbols, horizons = len(levels) - 1, len(fits)
    shape = (symbols + 1, horizons, len(ML_INPUTS))
    linear = Linear(
        kinds=np.broadcast_to([i.kind for i in ML_INPUTS], shape).astype(np.int64),
        columns=np.broadcast_to([i.column for i in ML_INPUTS], shape).astype(np.int64),
        coefficients=np.stack([fit.coefficients for fit in fits], axis=1),
        garch=np.zeros((symbols + 1, horizons, 2)),
        level=levels,
    )
    own = tuple(fit.trees for fit in fits)
    used = np.stack([fit.own for fit in fits], axis=1)
    pooled = prior.pooled
    return Forecaster(linear, pooled, pack(pooled, own, used), law, own)


def provenance() -> Provenance:
    """Return the time, the commit and the package versions of this training."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        git_commit=commit,
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )
