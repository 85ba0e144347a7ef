"""Compare live predictions with their outcomes.

A prediction for step t is evaluated once its windows are complete, with the labels used in
training and on the grid of training rows. A row counts only if none of the compared models was
trained on anything near it. All models are measured on the same rows by the functions used in an
evaluation, so live and offline figures for the same rows are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from volatility.dataset import Dataset, assemble, runs
from volatility.evaluation import live_rows
from volatility.evaluation.blocks import effective_windows
from volatility.evaluation.bootstrap import Draws, Precision, difference, mean_draws
from volatility.evaluation.live_rows import Live, Streamed
from volatility.evaluation.predictions import Predictions, Said, unseen
from volatility.evaluation.resampled import (
    Resampled,
    block_gains,
    losses,
    precision,
    resample,
    spikes_of,
)
from volatility.evaluation.scores import brier, calibration_error, roc_auc
from volatility.features import FeatureFrame, newest_step, read_features
from volatility.files import Json, plain
from volatility.models import alert_metrics
from volatility.settings import Settings
from volatility.units import SECOND, Bools, Floats, Integers, iso

LEAST_WINDOWS = 30  # independent windows: with fewer, an interval is meaningless
COMPARED_SHARE = 0.5  # of the serving model's rows; a newer challenger would shorten the window
ROLLING_POINTS = 24
ROLLING_SHARE = 0.25  # share of the measured period that each point covers
BASELINE = "baseline"


@dataclass(frozen=True)
class Gains:
    """Represent how much lower a champion's live QLIKE was than its baseline's, by clock block.

    ``end_ns`` int64[B] are the ends of the blocks, ``gain`` float64[B] their means with equal
    weight per symbol; both in time order and only for complete blocks.
    """

    version: str
    recipe: str
    end_ns: Integers
    gain: Floats


@dataclass(frozen=True)
class Measured:
    """Represent live performance: the content of ``latest.json``, and the champion's gains."""

    report: Json
    gains: Gains | None = None


@dataclass(frozen=True)
class _Forecast:
    """Represent one model's forecasts of n rows: score float64[n], volatility float64[n, H]."""

    score: Floats
    volatility_bps: Floats

    def take(self, chosen: Integers) -> _Forecast:
        return _Forecast(self.score[chosen], self.volatility_bps[chosen])


def measure_captured(
    settings: Settings, features: Path, predictions: Path, models: Callable[[], Sequence[Live]]
) -> Measured:
    """Measure the newest hours of captured predictions, which end at the newest feature row.

    ``models`` loads the live models, the serving one first; it is called only if there are
    predictions.

    Raises
    ------
    FeaturesError, LakeError
        If there are no features, or files are damaged; also the errors of ``models``. Missing
        predictions or outcomes are not errors but reported as ``reason``.
    """
    hours = settings.performance.hours
    if not live_rows.captured(predictions):
        return Measured(nothing(hours, "no prediction has been captured yet"))
    live = models()
    horizons = live[0].bundle.specification.horizons
    start_ns = live_rows.window_start(newest_step(features), hours)
    frames = read_features(features, start_ns)
    tables = live_rows.read_captured(predictions, frames, start_ns, horizons)
    return measure(frames, tables, live, settings)


def nothing(hours: float, reason: str) -> Json:
    """Return the content of ``latest.json`` if there is nothing to measure."""
    return {
        "hours": hours,
        "reason": reason,
        "symbols": [],
        "serving": None,
        "horizon_seconds": None,
        "horizons_seconds": [],
        "spike_levels_bps": {},
        "rows_labelled": 0,
        "base_rate": None,
        "models": {},
        "versus_baseline": {},
        "rolling": [],
        "live_evidence": None,
        "demotion": None,
    }


def measure(
    frames: Sequence[FeatureFrame],
    predictions: Mapping[str, pa.Table],
    models: Sequence[Live],
    settings: Settings,
) -> Measured:
    """Measure the live models on the rows with a known outcome that all of them scored.

    Parameters
    ----------
    frames : sequence of FeatureFrame
        Feature rows of the newest hours.
    predictions : mapping
        Result of ``read_captured`` for the same hours and the serving model's horizons.
    models : sequence of Live
        The serving model first; its spike levels and horizons are used for all models.
    """
    serving, *others = models
    spec = serving.bundle.specification
    reason = f"no prediction of {serving.name} version {serving.version} has an outcome yet"
    report = nothing(settings.performance.hours, reason) | {
        "symbols": [frame.symbol for frame in frames],
        "serving": {"model": serving.name, "model_version": serving.version},
        "horizon_seconds": spec.horizons[0],
        "horizons_seconds": list(spec.horizons),
    }
    if spec.features != settings.features:
        report["reason"] = (
            f"{serving.name} version {serving.version} was trained with feature settings that "
            "differ from params.yaml: its rows cannot be rebuilt; train again"
        )
        return Measured(report)
    stride = settings.train.stride_seconds
    streamed = {
        model.name: live_rows.streamed(frames, predictions, model, spec.horizons, stride)
        for model in models
    }
    report["parity"] = asdict(live_rows.parity(frames, models, streamed, spec.horizons))
    data = assemble(frames, _with_horizons(settings, spec.horizons))
    said = {name: _gathered(data, frames, one) for name, one in streamed.items()}
    usable = {
        model.name: _flags(len(data), unseen(model.bundle, data.time))
        & ~np.isnan(said[model.name].score)
        for model in models
    }
    waiting = _waiting(usable, serving, others)
    compared = [model for model in models if waiting is None or model.name != waiting["model"]]
    report["waiting"] = waiting
    kept = np.flatnonzero(np.all([usable[model.name] for model in compared], axis=0))
    report["left_out"] = _left_out(frames, data, streamed, said, compared, kept, stride) | {
        "of_other_models": live_rows.others(predictions, models)
    }
    gains = _gains(serving, data, said[serving.name], usable[serving.name], streamed, settings)
    if not len(kept):
        return Measured(report, gains)
    rows = data.take(kept)
    forecasts = {model.name: said[model.name].take(kept) for model in compared}
    baseline = _baseline(serving)
    if baseline is not None:
        forecasts[BASELINE] = _rebuilt(baseline, rows)
        compared.append(baseline)
    evaluated = _as_predictions(serving, rows, forecasts)
    return Measured(report | _measured(evaluated, compared, streamed, settings), gains)


def _with_horizons(settings: Settings, horizons: tuple[int, ...]) -> Settings:
    forecast = msgspec.structs.replace(settings.forecast, horizons=horizons)
    return msgspec.structs.replace(settings, forecast=forecast)


def _gathered(data: Dataset, frames: Sequence[FeatureFrame], one: Streamed) -> _Forecast:
    return _Forecast(
        live_rows.gather(data, frames, one.scores),
        live_rows.gather(data, frames, one.volatility_bps),
    )


def _flags(count: int, chosen: Integers) -> Bools:
    result = np.zeros(count, dtype=np.bool_)
    result[chosen] = True
    return result


def _baseline(serving: Live) -> Live | None:
    """Return the serving model's best simple forecast, unless that is itself serving."""
    if serving.name == BASELINE or BASELINE not in serving.bundle.variants:
        return None
    return Live(BASELINE, serving.version, serving.bundle.as_variant(BASELINE))


def _rebuilt(model: Live, rows: Dataset) -> _Forecast:
    """Forecast the rebuilt feature rows with a model that is not run on the stream."""
    made = model.bundle.forecast(rows.rows, model.bundle.places(rows.symbols)[rows.symbol])
    return _Forecast(made.exceedance[:, 0], made.volatility_bps)


def _waiting(usable: Mapping[str, Bools], serving: Live, others: Sequence[Live]) -> Json | None:
    """Return a challenger that has not scored enough of the serving model's rows yet."""
    mine = usable[serving.name]
    for model in others:
        both = int(np.sum(mine & usable[model.name]))
        if not both or both < COMPARED_SHARE * mine.sum():
            return {"model": model.name, "model_version": model.version, "rows": both}
    return None


def _left_out(
    frames: Sequence[FeatureFrame],
    data: Dataset,
    streamed: Mapping[str, Streamed],
    said: Mapping[str, _Forecast],
    compared: Sequence[Live],
    kept: Integers,
    stride_seconds: int,
) -> Json:
    """Count the serving model's predictions on the grid that are excluded, by reason."""
    name = compared[0].name
    mine = streamed[name]
    made = sum(
        int(np.sum(~np.isnan(scores) & live_rows.on_grid(frame.time, stride_seconds)))
        for frame, scores in zip(frames, mine.scores, strict=True)
    )
    known = ~np.isnan(said[name].score)
    seen = ~np.all([_flags(len(data), unseen(m.bundle, data.time)) for m in compared], axis=0)
    return {
        "outcome_not_known": made - int(known.sum()) + mine.pending,
        "seen_in_training": int(np.sum(known & seen)),
        "not_scored_by_all": int(np.sum(known & ~seen)) - len(kept),
        "without_forecast": mine.without_forecast,
    }


def _gains(
    serving: Live,
    data: Dataset,
    said: _Forecast,
    usable: Bools,
    streamed: Mapping[str, Streamed],
    settings: Settings,
) -> Gains | None:
    """Compare the champion with its baseline, block by block, since the end of its training.

    Only complete blocks count: a block that was counted early is never completed.
    """
    baseline, spec = _baseline(serving), serving.bundle.specification
    chosen = np.flatnonzero(usable & (data.time > spec.train_stop))
    if serving.name != "champion" or baseline is None or not len(chosen):
        return None
    rows = data.take(chosen)
    forecasts = {"ml": said.take(chosen), BASELINE: _rebuilt(baseline, rows)}
    predictions = _as_predictions(serving, rows, forecasts)
    end, gain = block_gains(predictions, settings, "ml", BASELINE)
    known_to = int(data.time[-1]) + spec.horizons[0] * SECOND
    over = end <= min(known_to, streamed[serving.name].newest)
    return Gains(serving.version, spec.recipe, end[over], gain[over])


def _as_predictions(
    serving: Live, rows: Dataset, forecasts: Mapping[str, _Forecast]
) -> Predictions:
    """Convert live forecasts to ``Predictions``; values that were not captured are NaN."""
    count = len(rows)
    none, table = np.full(count, np.nan), np.full((count, 1), np.nan)
    said = {
        name: Said(
            volatility_bps=one.volatility_bps,
            score=one.score[:, None],
            crps_bps=table,
            quantiles_bps=table,
            exceedance=table,
            pit=none,
            threshold=none,
        )
        for name, one in forecasts.items()
    }
    place = serving.bundle.places(rows.symbols)[rows.symbol]
    levels = np.array(serving.bundle.specification.spike_levels_bps)[place]
    return Predictions(rows, np.zeros(count, dtype=np.int64), levels, table, said, ())


def _measured(
    predictions: Predictions,
    compared: Sequence[Live],
    streamed: Mapping[str, Streamed],
    settings: Settings,
) -> Json:
    """Measure every model on the same labelled rows."""
    rows, drawn = predictions.data, resample(predictions, settings)
    spikes = spikes_of(predictions)
    windows = effective_windows(rows.time, rows.horizons[0])
    areas = {
        name: precision(spikes, said.score[:, 0], drawn) for name, said in predictions.said.items()
    }
    models: Json = {
        model.name: {
            "model_version": model.version,
            "source": "stream" if model.name in streamed else "feature rows",
            **_model(predictions, model, areas[model.name].point, drawn, settings),
            "qlike_interval": None,
            "pr_auc_interval": None,
        }
        for model in compared
    }
    versus: Json = {}
    if windows >= LEAST_WINDOWS:
        means = {
            name: mean_draws(losses(predictions, name), drawn.weight, drawn.block, drawn.draws)
            for name in predictions.said
        }
        for name, found in models.items():
            found["qlike_interval"] = _bounds(means[name])
            found["pr_auc_interval"] = _bounds(areas[name].drawn)
            if name != BASELINE and BASELINE in models:
                simple = Precision(models[BASELINE]["qlike"], means[BASELINE])
                versus[name] = {
                    "qlike": _difference(Precision(found["qlike"], means[name]), simple),
                    "pr_auc": _difference(areas[name], areas[BASELINE]),
                }
    levels = predictions.spike_level_bps[:, 0]
    measured: Json = plain(
        {
            "reason": None if spikes.any() else "no spike has happened yet",
            "start": iso(rows.time[0]),
            "stop": iso(rows.time[-1]),
            "symbols": [rows.symbols[place] for place in np.unique(rows.symbol)],
            "spike_levels_bps": {
                rows.symbols[place]: float(levels[rows.symbol == place][0])
                for place in np.unique(rows.symbol)
            },
            "rows_labelled": len(rows),
            "effective_windows": windows,
            "base_rate": float(np.average(spikes, weights=drawn.weight)),
            "models": models,
            "versus_baseline": versus,
            "rolling": _rolling(predictions, spikes, drawn),
        }
    )
    return measured


def _model(
    predictions: Predictions, model: Live, pr_auc: float, drawn: Resampled, settings: Settings
) -> Json:
    """Measure one model, with alerts at its own threshold."""
    rows, spikes, weight = predictions.data, spikes_of(predictions), drawn.weight
    score, threshold = predictions.said[model.name].score[:, 0], model.bundle.threshold
    horizon, stride = rows.horizons[0], settings.train.stride_seconds
    run, hours = runs(rows, max(horizon, stride)), len(rows) * stride / 3600.0
    alerts = alert_metrics(score - threshold, 0.0, spikes, run, rows.time, horizon, hours)
    loss = [losses(predictions, model.name, place) for place in range(len(rows.horizons))]
    return {
        "qlike": _mean(loss[0], weight),
        "horizons": {
            f"{seconds}s": {"rows": int(np.sum(~np.isnan(one))), "qlike": _mean(one, weight)}
            for seconds, one in zip(rows.horizons, loss, strict=True)
        },
        "pr_auc": pr_auc,
        "roc_auc": roc_auc(spikes, score, weight),
        "brier": float(np.average(brier(spikes, score), weights=weight)),
        "calibration_error": calibration_error(spikes, score, weight),
        **asdict(alerts),
        "threshold": threshold,
    }


def _mean(values: Floats, weight: Floats) -> float:
    """Return the weighted mean of the known values; NaN if there are none."""
    known = ~np.isnan(values)
    return float(np.average(values[known], weights=weight[known])) if known.any() else math.nan


def _difference(one: Precision, other: Precision) -> Json:
    found = difference(one.point - other.point, one.drawn - other.drawn)
    return {"difference": found.difference, "interval": list(found.interval)}


def _bounds(drawn: Floats) -> list[float]:
    return list(difference(0.0, drawn).interval)


def _rolling(predictions: Predictions, spikes: Bools, drawn: Resampled) -> list[Json]:
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
            {
                "time": iso(stop),
                "rows": int(high - low),
                "base_rate": float(np.average(spikes[part], weights=mine.weight)) if some else None,
                "qlike": {
                    name: _mean(one[part], mine.weight) if some else None
                    for name, one in loss.items()
                },
                "pr_auc": {
                    name: precision(spikes[part], said.score[part, 0], mine).point if some else None
                    for name, said in predictions.said.items()
                },
            }
        )
    return result
