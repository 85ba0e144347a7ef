"""Measure models on the same labelled rows of live predictions."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict

import numpy as np
from msgspec.structs import replace

from volatility.dataset import runs
from volatility.evaluation.blocks import effective_windows
from volatility.evaluation.bootstrap import Draws, Precision, difference, mean_draws
from volatility.evaluation.live_results import (
    LiveDifference,
    LiveHorizon,
    LiveModel,
    LivePerformance,
    LiveVersus,
    RollingPoint,
)
from volatility.evaluation.live_rows import Live
from volatility.evaluation.predictions import BASELINE, Predictions
from volatility.evaluation.resampled import (
    Resampled,
    losses,
    precision,
    resample,
    spikes_of,
)
from volatility.evaluation.results import without_nan
from volatility.evaluation.scores import brier, calibration_error, roc_auc
from volatility.models import alert_metrics
from volatility.settings import Settings
from volatility.units import Bools, Floats, iso

LEAST_WINDOWS = 30  # independent windows: with fewer, an interval is meaningless
ROLLING_POINTS = 24
ROLLING_SHARE = 0.25  # share of the measured period that each point covers


def measure_skill(
    found: LivePerformance,
    predictions: Predictions,
    compared: Sequence[Live],
    streamed: Collection[str],
    settings: Settings,
) -> LivePerformance:
    """Add the skill of every model on the same labelled rows to what is known of the rows.

    Parameters
    ----------
    found : LivePerformance
        What is known already.
    predictions : Predictions
        The labelled rows, with the forecasts of every model.
    compared : sequence of Live
        The models, each with its own alert threshold.
    streamed : collection of str
        Names of the models whose forecasts were captured.
    """
    rows, drawn = predictions.data, resample(predictions, settings)
    spikes = spikes_of(predictions)
    windows = effective_windows(rows.time, rows.horizons[0])
    areas = {
        name: precision(spikes, said.score[:, 0], drawn) for name, said in predictions.said.items()
    }
    models = {
        model.name: _model(
            predictions,
            model,
            "stream" if model.name in streamed else "feature rows",
            areas[model.name].point,
            drawn,
            settings,
        )
        for model in compared
    }
    versus: dict[str, LiveVersus] = {}
    if windows >= LEAST_WINDOWS:
        loss = {
            name: Precision(
                _mean(losses(predictions, name), drawn.weight),
                mean_draws(losses(predictions, name), drawn.weight, drawn.block, drawn.draws),
            )
            for name in models
        }
        models = {
            name: replace(
                model,
                qlike_interval=difference(0.0, loss[name].drawn).interval,
                pr_auc_interval=difference(0.0, areas[name].drawn).interval,
            )
            for name, model in models.items()
        }
        versus = {
            name: LiveVersus(
                qlike=_difference(loss[name], loss[BASELINE]),
                pr_auc=_difference(areas[name], areas[BASELINE]),
            )
            for name in models
            if name != BASELINE and BASELINE in models
        }
    levels, present = predictions.spike_level_bps[:, 0], np.unique(rows.symbol)
    return without_nan(
        replace(
            found,
            reason=None if spikes.any() else "no spike has happened yet",
            start=iso(rows.time[0]),
            stop=iso(rows.time[-1]),
            symbols=tuple(rows.symbols[place] for place in present),
            spike_levels_bps={
                rows.symbols[place]: float(levels[rows.symbol == place][0]) for place in present
            },
            rows_labelled=len(rows),
            effective_windows=windows,
            base_rate=float(np.average(spikes, weights=drawn.weight)),
            models=models,
            versus_baseline=versus,
            rolling=_rolling(predictions, spikes, drawn),
        )
    )


def _model(
    predictions: Predictions,
    model: Live,
    source: str,
    pr_auc: float,
    drawn: Resampled,
    settings: Settings,
) -> LiveModel:
    """Measure one model, with alerts at its own threshold."""
    rows, spikes, weight = predictions.data, spikes_of(predictions), drawn.weight
    score, threshold = predictions.said[model.name].score[:, 0], model.bundle.threshold
    horizon, stride = rows.horizons[0], settings.train.stride_seconds
    run, hours = runs(rows, max(horizon, stride)), len(rows) * stride / 3600.0
    alerts = alert_metrics(score - threshold, 0.0, spikes, run, rows.time, horizon, hours)
    loss = [losses(predictions, model.name, place) for place in range(len(rows.horizons))]
    return LiveModel(
        model_version=model.version,
        source=source,
        qlike=_mean(loss[0], weight),
        horizons={
            f"{seconds}s": LiveHorizon(rows=int(np.sum(~np.isnan(one))), qlike=_mean(one, weight))
            for seconds, one in zip(rows.horizons, loss, strict=True)
        },
        pr_auc=pr_auc,
        roc_auc=roc_auc(spikes, score, weight),
        brier=float(np.average(brier(spikes, score), weights=weight)),
        calibration_error=calibration_error(spikes, score, weight),
        **(asdict(alerts) | {"threshold": threshold}),
    )


def _mean(values: Floats, weight: Floats) -> float:
    """Return the weighted mean of the known values; NaN if there are none."""
    known = ~np.isnan(values)
    return float(np.average(values[known], weights=weight[known])) if known.any() else math.nan


def _difference(one: Precision, other: Precision) -> LiveDifference:
    found = difference(one.point - other.point, one.drawn - other.drawn)
    return LiveDifference(difference=found.difference, interval=found.interval)


def _rolling(predictions: Predictions, spikes: Bools, drawn: Resampled) -> tuple[RollingPoint, ...]:
    """Measure skill over time in periods that slide over the rows."""
    time = predictions.data.time
    loss = {name: losses(predictions, name) for name in predictions.said}
    once = Draws(drawn.draws.counts[:1])
    first, last = int(time[0]), int(time[-1])
    width = int(ROLLING_SHARE * (last - first))
    result = []
    for stop in np.linspace(first + width, last, ROLLING_POINTS).astype(np.int64):
        low, high = np.searchsorted(time, [stop - width, stop + 1])
        part, some = slice(int(low), int(high)), high > low
        mine = Resampled(drawn.block[part], drawn.weight[part], drawn.stratum[part], once)
        result.append(
            RollingPoint(
                time=iso(stop),
                rows=int(high - low),
                base_rate=float(np.average(spikes[part], weights=mine.weight)) if some else None,
                qlike={
                    name: _mean(one[part], mine.weight) if some else None
                    for name, one in loss.items()
                },
                pr_auc={
                    name: precision(spikes[part], said.score[part, 0], mine).point if some else None
                    for name, said in predictions.said.items()
                },
            )
        )
    return tuple(result)
