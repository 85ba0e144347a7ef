"""Evaluate out-of-sample predictions: one leaderboard, with the same rows for every model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import msgspec
import numpy as np

from volatility.dataset import Dataset, runs
from volatility.evaluation.blocks import effective_windows, symbol_weights
from volatility.evaluation.bootstrap import Draws, mean_draws
from volatility.evaluation.comparison import model_confidence_set
from volatility.evaluation.days import drawn_days
from volatility.evaluation.importances import Importance, permutation_importances
from volatility.evaluation.predictions import (
    BASELINE,
    FoldSummary,
    Predictions,
    Said,
    predict,
    unseen,
)
from volatility.evaluation.resampled import (
    ML,
    Resampled,
    by_block,
    exceeds,
    losses,
    precision,
    resample,
    restricted,
    spikes_of,
    without_draws,
)
from volatility.evaluation.results import (
    ConfidenceSet,
    DayPart,
    EvaluatedModel,
    Evaluation,
    FoldPart,
    HorizonFigures,
    LevelFigures,
    ModelFigures,
    Part,
    PartFigures,
    Reliability,
    SymbolPart,
    without_nan,
)
from volatility.evaluation.scores import (
    brier,
    calibration_error,
    log_score,
    pinball,
    pit_error,
    qlike_bps,
    reliability,
    roc_auc,
)
from volatility.evaluation.versus import versus
from volatility.models import (
    LEVEL_QUANTILES,
    QUANTILES,
    AlertMetrics,
    Bundle,
    alert_metrics,
    threshold_for_budget,
)
from volatility.settings import Settings
from volatility.units import DAY_NS, Bools, Floats, Integers, iso

CONFIDENCE_SET_SIZE = 0.1  # probability that the set does not contain the best model


class EvaluationError(ValueError):
    """Report why rows cannot be evaluated."""


def evaluate(
    predictions: Predictions,
    settings: Settings,
    bundle: Bundle,
    *,
    source: str,
    folds: Sequence[FoldSummary] = (),
) -> Evaluation:
    """Measure every model on the same rows.

    Parameters
    ----------
    predictions : Predictions
        Out-of-sample predictions of every model.
    bundle : Bundle
        Model whose importances and provenance are reported.
    source : str
        ``walk-forward`` or ``model``.

    Returns
    -------
    Evaluation
        Without ``placebo`` and ``gate``.
    """
    data = predictions.data
    if not len(data):
        raise EvaluationError("there are no rows to evaluate; record more ticks")
    horizon = data.horizons[0]
    drawn = resample(predictions, settings)
    spikes = spikes_of(predictions)
    models = {
        name: _model(predictions, name, said, drawn, settings)
        for name, said in predictions.said.items()
    }
    ranked = [name for name in predictions.said if name != BASELINE]
    compared = None
    if ML in predictions.said and BASELINE in predictions.said:
        simple = ", ".join(dict.fromkeys(predictions.simple))
        compared = versus(predictions, drawn, ML, BASELINE, baseline=simple)
    result = Evaluation(
        source=source,
        rows=len(data),
        effective_windows=effective_windows(data.time, horizon),
        blocks=int(drawn.block.max()) + 1,
        base_rate=float(np.average(spikes, weights=drawn.weight)),
        symbols=tuple(data.symbols),
        start=iso(data.time.min()),
        stop=iso(data.time.max()),
        horizon_seconds=horizon,
        horizons_seconds=tuple(data.horizons),
        level_quantiles=tuple(LEVEL_QUANTILES),
        spike_levels_bps={
            name: float(np.median(predictions.spike_level_bps[data.symbol == place, 0]))
            for place, name in enumerate(data.symbols)
            if (data.symbol == place).any()
        },
        block_seconds=settings.evaluate.block_seconds,
        resamples=settings.evaluate.resamples,
        models=models,
        per_symbol=_per_symbol(predictions),
        per_day=_per_day(predictions),
        folds=_folds(predictions, folds),
        confidence_set=_confidence_set(predictions, ranked, drawn, settings),
        days=drawn_days(predictions),
        importances=_importances(bundle, predictions, settings),
        model=_evaluated(bundle),
        ml_vs_best_simple=compared,
    )
    return without_nan(result)


def evaluate_bundle(bundle: Bundle, data: Dataset, settings: Settings) -> Evaluation:
    """Evaluate one bundle on the rows that it has not been trained on."""
    kept = unseen(bundle, data.time)
    if not len(kept):
        raise EvaluationError(
            "every row lies in the model's training window; use ticks that it has not seen"
        )
    result = evaluate(predict(bundle, data.take(kept)), settings, bundle, source="model")
    return msgspec.structs.replace(result, excluded_rows=len(data) - len(kept))


def _model(
    predictions: Predictions, name: str, said: Said, drawn: Resampled, settings: Settings
) -> ModelFigures:
    data, weight = predictions.data, drawn.weight
    spikes, score = spikes_of(predictions), said.score[:, 0]
    real = predictions.realised_bps
    loss = losses(predictions, name)
    ranked = precision(spikes, score, drawn)
    quantiles = pinball(said.quantiles_bps, np.array(QUANTILES), real[:, 0], weight)
    binned = reliability(spikes, score, weight)
    return ModelFigures(
        qlike=float(np.average(loss, weights=weight)),
        qlike_interval=_bounds(mean_draws(loss, weight, drawn.block, drawn.draws)),
        crps_bps=float(np.average(said.crps_bps[:, 0], weights=weight)),
        pinball_bps=dict(
            zip((f"{level:g}" for level in QUANTILES), quantiles.tolist(), strict=True)
        ),
        pr_auc=ranked.point,
        pr_auc_interval=_bounds(ranked.drawn),
        roc_auc=roc_auc(spikes, score, weight),
        brier=float(np.average(brier(spikes, score), weights=weight)),
        log_score=float(np.average(log_score(spikes, score), weights=weight)),
        calibration_error=calibration_error(spikes, score, weight),
        pit_error=pit_error(said.pit, weight),
        reliability=Reliability(
            score=tuple(binned.probability.tolist()),
            share=tuple(binned.share.tolist()),
            weight=tuple(binned.weight.tolist()),
        ),
        levels={
            f"{level:g}": _level(exceeds(predictions, k), said.exceedance[:, k], drawn)
            for k, level in enumerate(LEVEL_QUANTILES)
        },
        horizons={
            f"{horizon}s": _horizon(predictions, said, place, drawn)
            for place, horizon in enumerate(data.horizons)
        },
        **asdict(_alerts(predictions, said, spikes, settings)),
    )


def _alerts(
    predictions: Predictions, said: Said, spikes: Bools, settings: Settings
) -> AlertMetrics:
    """Measure alerts at the model's own threshold, if it has one.

    A model that never serves has none. Its threshold is fitted to the alert budget on these same
    rows, which favours it.
    """
    data, horizon = predictions.data, predictions.data.horizons[0]
    stride = settings.train.stride_seconds
    run, hours = runs(data, max(horizon, stride)), len(data) * stride / 3600.0
    score, threshold = said.score[:, 0], said.threshold
    if np.isnan(threshold).any():
        budget = settings.train.alerts_per_hour
        found = threshold_for_budget(score, run, data.time, budget, horizon, hours)
        threshold = np.full(len(score), found.threshold)
    measured = alert_metrics(score - threshold, 0.0, spikes, run, data.time, horizon, hours)
    return replace(measured, threshold=float(threshold[-1]))


def _level(exceeds: Bools, probability: Floats, drawn: Resampled) -> LevelFigures:
    weight = drawn.weight
    return LevelFigures(
        base_rate=float(np.average(exceeds, weights=weight)),
        pr_auc=precision(exceeds, probability, without_draws(drawn)).point,
        brier=float(np.average(brier(exceeds, probability), weights=weight)),
        log_score=float(np.average(log_score(exceeds, probability), weights=weight)),
        calibration_error=calibration_error(exceeds, probability, weight),
    )


def _horizon(predictions: Predictions, said: Said, place: int, drawn: Resampled) -> HorizonFigures:
    real = predictions.realised_bps[:, place]
    known = ~np.isnan(real)
    if not known.any():
        return HorizonFigures(rows=0)
    mine, real = drawn.weight[known], real[known]
    spikes = real >= predictions.spike_level_bps[known, place]
    loss = qlike_bps(said.volatility_bps[known, place], real)
    some = without_draws(restricted(drawn, known))
    return HorizonFigures(
        rows=int(known.sum()),
        qlike=float(np.average(loss, weights=mine)),
        crps_bps=float(np.average(said.crps_bps[known, place], weights=mine)),
        pr_auc=precision(spikes, said.score[known, place], some).point,
        base_rate=float(np.average(spikes, weights=mine)),
    )


def _confidence_set(
    predictions: Predictions, names: Sequence[str], drawn: Resampled, settings: Settings
) -> ConfidenceSet:
    loss = {name: by_block(losses(predictions, name), drawn) for name in names}
    found = model_confidence_set(loss, seed=settings.train.seed)
    return ConfidenceSet(
        included=tuple(found.included), p_values=dict(found.p_values), size=CONFIDENCE_SET_SIZE
    )


def _parts(predictions: Predictions, part: Integers, count: int) -> Iterator[tuple[int, Part]]:
    """Measure each part of the rows that has any: the base rate and every model's main figures."""
    bare = replace(predictions, said={})  # of which models, one copy at a time is enough
    for number in range(count):
        rows = np.flatnonzero(part == number)
        if not len(rows):
            continue
        mine = bare.take(rows)
        weight = symbol_weights(mine.data.symbol)
        spikes = spikes_of(mine)
        stratum = mine.fold * len(mine.data.symbols) + mine.data.symbol
        block = np.zeros(len(weight), dtype=np.int64)
        once = Resampled(block, weight, stratum, Draws(np.ones((1, 1))))
        figures = {
            model: _part_figures(replace(bare, said={model: said}).take(rows), model, spikes, once)
            for model, said in predictions.said.items()
        }
        yield (
            number,
            Part(
                rows=len(mine.data),
                effective_windows=effective_windows(mine.data.time, mine.data.horizons[0]),
                base_rate=float(np.average(spikes, weights=weight)),
                models=figures,
            ),
        )


def _part_figures(
    predictions: Predictions, model: str, spikes: Bools, once: Resampled
) -> PartFigures:
    said = predictions.said[model]
    score = said.score[:, 0]
    return PartFigures(
        qlike=float(np.average(losses(predictions, model), weights=once.weight)),
        crps_bps=float(np.average(said.crps_bps[:, 0], weights=once.weight)),
        pr_auc=precision(spikes, score, once).point,
        brier=float(np.average(brier(spikes, score), weights=once.weight)),
    )


def _per_symbol(predictions: Predictions) -> tuple[SymbolPart, ...]:
    data = predictions.data
    return tuple(
        SymbolPart(name=data.symbols[place], **msgspec.structs.asdict(part))
        for place, part in _parts(predictions, data.symbol, len(data.symbols))
    )


def _per_day(predictions: Predictions) -> tuple[DayPart, ...]:
    dates, part_of = np.unique(predictions.data.time // DAY_NS, return_inverse=True)
    return tuple(
        DayPart(date=iso(int(dates[place]) * DAY_NS)[:10], **msgspec.structs.asdict(part))
        for place, part in _parts(predictions, part_of, len(dates))
    )


def _folds(predictions: Predictions, folds: Sequence[FoldSummary]) -> tuple[FoldPart, ...]:
    if not folds:
        return ()
    return tuple(
        FoldPart(
            fold=folds[place].fold,
            train_rows=folds[place].train_rows,
            train_stop=iso(folds[place].train_stop),
            best_simple=folds[place].best_simple,
            **msgspec.structs.asdict(part),
        )
        for place, part in _parts(predictions, predictions.fold - folds[0].fold, len(folds))
    )


def _importances(
    bundle: Bundle, predictions: Predictions, settings: Settings
) -> tuple[Importance, ...]:
    """Measure how much QLIKE rises when one feature is permuted among the last fold's rows."""
    last = np.flatnonzero(predictions.fold == predictions.fold.max())
    mine = predictions.take(last)
    place = bundle.places(mine.data.symbols)[mine.data.symbol]
    found = permutation_importances(
        bundle, mine.data.rows, place, mine.realised_bps[:, 0], settings.train.seed
    )
    return tuple(found)


def _evaluated(bundle: Bundle) -> EvaluatedModel:
    spec = bundle.specification
    return EvaluatedModel(
        digest=bundle.digest,
        recipe=spec.recipe,
        train_start=iso(spec.train_start),
        train_stop=iso(spec.train_stop),
        train_rows=spec.train_rows,
        best_simple=spec.best_simple,
        threshold=bundle.threshold,
        git_commit=spec.provenance.git_commit,
    )


def _bounds(drawn: Floats) -> tuple[float, float]:
    known = drawn[~np.isnan(drawn)]
    if len(known) < 2:
        return math.nan, math.nan
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)
