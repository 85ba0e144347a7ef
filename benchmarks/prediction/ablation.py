"""Remove parts of the model, and compare it with a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import delayed
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from benchmarks.prediction.rows import StudyRow
from benchmarks.prediction.transfer import Losses, _row, compare, split
from volatility.dataset import Dataset
from volatility.evaluation import average_precision, brier, log_score, qlike_bps, realised_bps
from volatility.features import INDEX
from volatility.models import FLOOR, INPUT_COLUMNS, boost, fit_bundle, sample
from volatility.settings import Settings, Train
from volatility.units import Bools, Floats

if TYPE_CHECKING:
    from benchmarks.prediction.study import Venue


OWN_TREES = 60
GROUPS = {
    "spread": ("spread_bps", "spread_ratio_300s", "spread_deviation_60s"),
    "jumps, ranges and volatility of volatility": (
        "bipower_ratio_60s", "bipower_ratio_300s", "range_ratio_60s", "range_ratio_300s",
        "parkinson_ratio_60s", "volatility_of_volatility_300s",
    ),
    "momentum": ("momentum_15s", "momentum_60s", "momentum_300s"),
    "order book": ("quote_imbalance", "microprice_distance_bps"),
    "arrivals": (
        "intensity_ratio_1s", "intensity_ratio_5s", "intensity_ratio_60s", "silence_ratio",
        "interarrival_dispersion_60s",
    ),
}  # fmt: skip


def parts(venue: Venue, settings: Settings) -> Losses:
    """Score the same test rows with fewer and fewer parts of the model, over the first horizon."""
    train, chosen = split(venue.data)
    data, test = venue.data.take(train), venue.data.take(chosen)
    bundle = fit_bundle(data, settings, venue.prior)
    ml, har = bundle.forecasters["ml"], bundle.forecasters["har"]
    place = np.zeros(len(test), dtype=np.int64)
    made = {
        "ml": ml.log_variance(test.rows, place, 0),
        "har": har.log_variance(test.rows, place, 0),
        "the prior alone": venue.prior.forecaster.log_variance(test.rows, place - 1, 0),
    }
    none = replace(ml.packed, own=np.zeros_like(ml.packed.own))
    made["no own trees"] = replace(ml, packed=none).log_variance(test.rows, place, 0)
    one = sample(data, 0)
    pooled = venue.prior.forecaster.log_variance(one.rows, np.full(len(one), -1), 0)
    level = np.log(np.mean(one.realised * np.exp(-pooled)))
    made["no own linear fit: the prior and one level"] = made["the prior alone"] + level
    without = replace(
        venue.prior.forecaster.packed,
        bounds=np.zeros_like(venue.prior.forecaster.packed.bounds),
        starts=np.zeros_like(venue.prior.forecaster.packed.starts),
    )
    bare = replace(venue.prior.forecaster, packed=without)
    made["the prior's linear part alone"] = bare.log_variance(test.rows, place - 1, 0)
    start = har.log_variance(one.rows, one.symbol, 0)
    with threadpool_limits(1):
        own = boost(one.rows, one.realised, start, OWN_TREES, settings.train)
    made["no prior: own trees on own HAR"] = made["har"] + own.raw(test.rows)
    with_level = _with_level(one.rows), _with_level(test.rows)
    made["no prior: own trees with level and time of day"] = made["har"] + _grown(
        *with_level, one.realised, start, settings.train
    )
    real, bps = realised_bps(test)[:, 0], 1e4 * np.sqrt(test.horizons[0])
    losses = {name: qlike_bps(np.exp(0.5 * logs) * bps, real) for name, logs in made.items()}
    return Losses(venue.name, 0, test.time, losses)


def _with_level(rows: Floats) -> Floats:
    level = np.log(np.maximum(rows[:, INDEX["realised_volatility_900s"]], FLOOR))
    ticks = np.log(np.maximum(rows[:, INDEX["mean_trade_intensity_900s"]], 1e-3))
    cycle = rows[:, [INDEX["time_of_day_sin"], INDEX["time_of_day_cos"]]]
    return np.column_stack([rows[:, INPUT_COLUMNS], level, ticks, cycle])


def _grown(train: Floats, test: Floats, realised: Floats, start: Floats, options: Train) -> Floats:
    """Boost on arbitrary columns; return what the trees add to the test rows' log variance."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    known = _varying(train)
    model = HistGradientBoostingRegressor(
        loss="gamma", learning_rate=options.learning_rate, max_iter=OWN_TREES,
        max_leaf_nodes=options.max_leaf_nodes, min_samples_leaf=options.min_samples_leaf,
        l2_regularization=options.l2_regularization, early_stopping=False,
        random_state=options.seed,
    )  # fmt: skip
    with threadpool_limits(1):
        model.fit(train[:, known], np.maximum(realised * np.exp(-start), 1e-9))
        return np.log(model.predict(test[:, known]))


def without_group(
    venue: Venue, venues: Sequence[Venue], group: str, settings: Settings
) -> tuple[str, Losses]:
    """Fit the prior's first horizon without a group of features, and score the test rows."""
    from volatility.models import fit_pooled, pooled_forecaster, to_pooled

    columns = [INDEX[name] for name in GROUPS[group]]
    _, chosen = split(venue.data)
    test = venue.data.take(chosen)
    others = _joined([other.data for other in venues if other.name != venue.name])
    scored = {}
    for name, hidden in (("ml", columns), ("all", [])):
        rows = others.rows.copy()
        rows[:, hidden] = np.nan
        one = sample(replace(others, rows=rows), 0)
        with threadpool_limits(1):
            fit = fit_pooled(one, settings.train, left_out=False)
        whole = venue.prior.forecaster
        made = pooled_forecaster(
            to_pooled([fit]),
            replace(
                whole.law, coordinates=whole.law.coordinates[:, :1], table=whole.law.table[:, :1]
            ),
            float(whole.linear.level[-1]),
        )
        seen = test.rows.copy()
        seen[:, hidden] = np.nan
        scored[name] = made.log_variance(seen, np.full(len(test), -1), 0)
    real, bps = realised_bps(test)[:, 0], 1e4 * np.sqrt(test.horizons[0])
    losses = {name: qlike_bps(np.exp(0.5 * logs) * bps, real) for name, logs in scored.items()}
    return group, Losses(venue.name, 0, test.time, losses)


def _joined(parts: Sequence[Dataset]) -> Dataset:
    return replace(
        parts[0],
        symbols=tuple(p.symbols[0] for p in parts),
        symbol=np.concatenate([np.full(len(p), k, dtype=np.int64) for k, p in enumerate(parts)]),
        time=np.concatenate([p.time for p in parts]),
        rows=np.concatenate([p.rows for p in parts]),
        variance=np.concatenate([p.variance for p in parts]),
    )


def classifier(venue: Venue, settings: Settings) -> dict[str, tuple[float, float]]:
    """Score a direct classifier of spikes and the forecast distribution on the same rows.

    Returns PR-AUC, Brier and log score, each as (distribution, classifier).
    """
    train, chosen = split(venue.data)
    data, test = venue.data.take(train), venue.data.take(chosen)
    bundle = fit_bundle(data, settings, venue.prior)
    place = np.zeros(len(test), dtype=np.int64)
    level = bundle.spike_levels[0, 0]
    spikes = np.sqrt(test.variance[:, 0]) >= level
    score = bundle.score(test.rows, place)
    one = sample(data, 0)
    hit = np.sqrt(one.realised) >= level
    inputs, unseen = _with_level(one.rows), _with_level(test.rows)
    raw = np.full(len(one), np.nan)
    for fold in one.folds:
        if hit[fold.train].any() and not hit[fold.train].all():
            raw[fold.test] = _classify(
                inputs[fold.train], hit[fold.train], inputs[fold.test], settings.train
            )
    known = ~np.isnan(raw)
    if not spikes.any() or not hit[known].any() or hit[known].all():
        return {}  # a quiet period: there is nothing to classify
    platt = LogisticRegression(C=1e6, max_iter=1000).fit(raw[known, None], hit[known])
    made = _classify(inputs, hit, unseen, settings.train)
    other = platt.predict_proba(made[:, None])[:, 1]
    return {
        "PR-AUC": (average_precision(spikes, score), average_precision(spikes, other)),
        "Brier": (float(brier(spikes, score).mean()), float(brier(spikes, other).mean())),
        "log score": (
            float(log_score(spikes, score).mean()),
            float(log_score(spikes, other).mean()),
        ),
    }


def _classify(inputs: Floats, hit: Bools, test: Floats, options: Train) -> Floats:
    """Fit the classifier; return the test rows' log odds."""
    known = _varying(inputs)
    model = HistGradientBoostingClassifier(
        learning_rate=options.learning_rate, max_iter=OWN_TREES,
        max_leaf_nodes=options.max_leaf_nodes, min_samples_leaf=options.min_samples_leaf,
        l2_regularization=options.l2_regularization, early_stopping=False,
        random_state=options.seed,
    )  # fmt: skip
    with threadpool_limits(1):
        result: Floats = model.fit(inputs[:, known], hit).decision_function(test[:, known])
    return result


def _varying(inputs: Floats) -> list[int]:
    """Return the columns with more than one value."""
    return [
        k for k in range(inputs.shape[1]) if len(np.unique(inputs[~np.isnan(inputs[:, k]), k])) > 1
    ]


def rows(venues: Sequence[Venue], settings: Settings, run: Any) -> list[StudyRow]:
    """Return the rows of the ablations, with equal weight for all venues."""
    found: list[Losses] = run(delayed(parts)(venue, settings) for venue in venues)
    result = [
        _row(f"pool, newest 40 %, QLIKE of ml less: {name}", name,
             compare(found, "ml", name, settings), None)
        for name in found[0].by_model
        if name != "ml"
    ]  # fmt: skip
    if len(venues) > 2:
        jobs = (
            delayed(without_group)(venue, venues, group, settings)
            for group in GROUPS
            for venue in venues
        )
        grouped: list[tuple[str, Losses]] = run(jobs)
        for group in GROUPS:
            mine = [losses for name, losses in grouped if name == group]
            result.append(
                _row(f"pool, newest 40 %, QLIKE of the prior without {group} less the whole prior",
                     "the whole prior", compare(mine, "ml", "all", settings), None)
            )  # fmt: skip
    both: list[dict[str, tuple[float, float]]] = run(
        delayed(classifier)(venue, settings) for venue in venues
    )
    for venue, scores in zip(venues, both, strict=True):
        for name, (ours, peer) in scores.items():
            result.append(
                StudyRow(f"{venue.name}, newest 40 %, {name} of spikes at the 0.9 level", "1",
                         ours, peer, "gradient-boosting classifier", None, None, None)
            )  # fmt: skip
    return result
