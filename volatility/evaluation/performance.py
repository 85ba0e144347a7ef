"""Compare live predictions with their outcomes.

A prediction for step t is evaluated once its windows are complete, with the labels used in
training and on the grid of training rows. A row counts only if none of the compared models was
trained on anything near it. All models are measured on the same rows by the functions used in an
evaluation, so live and offline figures for the same rows are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from volatility.dataset import Dataset, assemble
from volatility.evaluation import live_rows
from volatility.evaluation.live_results import ExcludedRows, LivePerformance, Serving, Waiting
from volatility.evaluation.live_rows import Live, Streamed
from volatility.evaluation.live_skill import measure_skill
from volatility.evaluation.predictions import BASELINE, Predictions, Said, unseen
from volatility.evaluation.resampled import block_gains
from volatility.features import FeatureFrame, newest_step, read_features
from volatility.lake import Lake
from volatility.settings import Settings
from volatility.units import SECOND, Bools, Floats, Integers

COMPARED_SHARE = 0.5  # of the serving model's rows; a newer challenger would shorten the window


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
    """Represent live performance, and the champion's gains."""

    report: LivePerformance
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
    if not Lake(predictions).exists():
        return Measured(LivePerformance(hours=hours, reason="no prediction has been captured yet"))
    live = models()
    horizons = live[0].bundle.specification.horizons
    start_ns = live_rows.window_start(newest_step(features), hours)
    frames = read_features(features, start_ns)
    tables = live_rows.read_captured(predictions, frames, start_ns, horizons)
    return measure(frames, tables, live, settings)


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
    report = LivePerformance(
        hours=settings.performance.hours,
        reason=f"no prediction of {serving.name} version {serving.version} has an outcome yet",
        symbols=tuple(frame.symbol for frame in frames),
        serving=Serving(model=serving.name, model_version=serving.version),
        horizon_seconds=spec.horizons[0],
        horizons_seconds=spec.horizons,
    )
    if spec.features != settings.features:
        reason = (
            f"{serving.name} version {serving.version} was trained with feature settings that "
            "differ from params.yaml: its rows cannot be rebuilt; train again"
        )
        return Measured(replace(report, reason=reason))
    stride = settings.train.stride_seconds
    streamed = {
        model.name: live_rows.streamed(frames, predictions, model, spec.horizons, stride)
        for model in models
    }
    data = assemble(frames, _with_horizons(settings, spec.horizons))
    said = {name: _gathered(data, frames, one) for name, one in streamed.items()}
    usable = {
        model.name: _flags(len(data), unseen(model.bundle, data.time))
        & ~np.isnan(said[model.name].score)
        for model in models
    }
    waiting = _waiting(usable, serving, others)
    compared = [model for model in models if waiting is None or model.name != waiting.model]
    kept = np.flatnonzero(np.all([usable[model.name] for model in compared], axis=0))
    report = replace(
        report,
        parity=live_rows.parity(frames, models, streamed, spec.horizons),
        waiting=waiting,
        left_out=replace(
            _left_out(frames, data, streamed, said, compared, kept, stride),
            of_other_models=live_rows.others(predictions, models),
        ),
    )
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
    return Measured(measure_skill(report, evaluated, compared, streamed, settings), gains)


def _with_horizons(settings: Settings, horizons: tuple[int, ...]) -> Settings:
    return replace(settings, forecast=replace(settings.forecast, horizons=horizons))


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


def _waiting(usable: Mapping[str, Bools], serving: Live, others: Sequence[Live]) -> Waiting | None:
    """Return a challenger that has not scored enough of the serving model's rows yet."""
    mine = usable[serving.name]
    for model in others:
        both = int(np.sum(mine & usable[model.name]))
        if not both or both < COMPARED_SHARE * mine.sum():
            return Waiting(model=model.name, model_version=model.version, rows=both)
    return None


def _left_out(
    frames: Sequence[FeatureFrame],
    data: Dataset,
    streamed: Mapping[str, Streamed],
    said: Mapping[str, _Forecast],
    compared: Sequence[Live],
    kept: Integers,
    stride_seconds: int,
) -> ExcludedRows:
    """Count the serving model's predictions on the grid that are excluded, by reason."""
    name = compared[0].name
    mine = streamed[name]
    made = sum(
        int(np.sum(~np.isnan(scores) & live_rows.on_grid(frame.time, stride_seconds)))
        for frame, scores in zip(frames, mine.scores, strict=True)
    )
    known = ~np.isnan(said[name].score)
    seen = ~np.all([_flags(len(data), unseen(m.bundle, data.time)) for m in compared], axis=0)
    return ExcludedRows(
        outcome_not_known=made - int(known.sum()) + mine.pending,
        seen_in_training=int(np.sum(known & seen)),
        not_scored_by_all=int(np.sum(known & ~seen)) - len(kept),
        without_forecast=mine.without_forecast,
        of_other_models={},
    )


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
