"""Hold what was predicted live against what then happened, once the outcome is known.

A prediction of step t is judged a horizon later, by the label that training uses: the forward
window must be covered whole. All models are measured on the same rows, by the functions that
measure an evaluation, so a live figure and an offline one of the same rows are equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from volatility import registry, settings
from volatility.bundle import Bundle
from volatility.dataset import Dataset, assemble
from volatility.evaluation import Json, clean, effective_windows, iso, resample
from volatility.events import alert_metrics
from volatility.features import FeatureFrame
from volatility.kernel_state import SECOND
from volatility.lake import Lake
from volatility.metrics import average_precision, scorecard
from volatility.prediction import PREDICTION_SCHEMA
from volatility.promotion import LEAST_WINDOWS
from volatility.settings import Label, Settings
from volatility.training import Predictions

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

COMPARED_SHARE = 0.5  # of the serving model's rows; a newer challenger would cut the window short
ROLLING_POINTS = 24
ROLLING_SHARE = 0.25  # of the measured stretch that each point looks back on
COLUMNS = ("time", "score", "model_version", "model_variant")


@dataclass(frozen=True)
class Live:
    """Hold a model that scores the stream: champion, challenger or baseline, and its bundle."""

    name: str
    version: str
    bundle: Bundle


def live_models() -> tuple[Live, ...]:
    """Give the model that serves, then the challenger in its shadow, by the registry's aliases.

    Where no version is champion, the newest version's best baseline serves, alone.

    Raises
    ------
    RegistryError
        When no model is registered, or the registry cannot be reached.
    """
    environment = settings.environment()
    places = registry.versions_by_alias()
    champion, newest = places.get(registry.CHAMPION), places.get(registry.CHALLENGER)
    version = champion or newest
    if version is None:
        raise registry.RegistryError("no model is registered; run `volatility train`")
    bundle = registry.resolve(version).bundle
    if champion is not None and environment.model_variant == "ml":
        serving = Live("champion", version, bundle)
    else:
        serving = Live("baseline", version, bundle.as_variant("baseline"))
    if champion is None or newest is None or newest == champion:
        return (serving,)
    return serving, Live("challenger", newest, registry.resolve(newest).bundle)


def captured(folder: Path) -> bool:
    """Tell whether any prediction has been captured."""
    return any(folder.glob("symbol=*/date=*/part-*"))


def read_captured(
    folder: Path, frames: Sequence[FeatureFrame], start_ns: int
) -> dict[str, pa.Table]:
    """Read the predictions of the frames' symbols from a time on."""
    lake = Lake(folder, PREDICTION_SCHEMA)
    held = set(lake.symbols())
    schema = pa.schema([PREDICTION_SCHEMA.field(name) for name in COLUMNS])
    return {
        frame.symbol: pa.Table.from_batches(
            lake.scan(frame.symbol, COLUMNS, start_ns) if frame.symbol in held else [], schema
        )
        for frame in frames
    }


def window_start(newest_ns: int, hours: float) -> int:
    """Give the first step of the measured hours, which end with the newest feature row."""
    return newest_ns - int(hours * 3600) * SECOND + SECOND


def nothing(hours: float, reason: str) -> Json:
    """Give the content of ``latest.json`` where there is nothing to measure."""
    return {
        "hours": hours,
        "reason": reason,
        "symbols": [],
        "serving": None,
        "horizon_seconds": None,
        "tau": None,
        "rows_labelled": 0,
        "base_rate": None,
        "models": {},
        "versus_baseline": {},
        "rolling": [],
    }


@dataclass(frozen=True)
class _Streamed:
    """Hold one model's live scores beside the feature rows: NaN where it made none.

    ``pending`` counts the scores that are newer than the rows, ``unmatched`` those of a step
    that has no row.
    """

    scores: list[Floats]
    pending: int
    unmatched: int


def measure(
    frames: Sequence[FeatureFrame],
    predictions: Mapping[str, pa.Table],
    models: Sequence[Live],
    label: Label,
    settings: Settings,
) -> Json:
    """Measure the live models on the rows that all of them scored and whose outcome is known.

    Parameters
    ----------
    frames : sequence of FeatureFrame
        The feature rows of the newest hours.
    predictions : mapping
        What ``read_captured`` gives, of the same hours.
    models : sequence of Live
        The one that serves first; its tau says for all of them what a spike is.
    label : Label
        What the serving model was trained for.

    Returns
    -------
    dict
        The content of ``latest.json``; a measure that is not defined is None.
    """
    serving, *others = models
    spec = serving.bundle.specification
    reason = f"no prediction of {serving.name} version {serving.version} has an outcome yet"
    result = nothing(settings.performance.hours, reason) | {
        "symbols": [frame.symbol for frame in frames],
        "serving": {"model": serving.name, "model_version": serving.version},
        "horizon_seconds": spec.horizon_seconds,
        "tau": spec.tau,
    }
    streamed = {model.name: _streamed(frames, predictions, model) for model in models}
    result["parity"] = _parity(frames, models, streamed)
    data = assemble(frames, label)
    scored = {name: data.gather(held.scores) for name, held in streamed.items()}
    kept, waiting = _same_rows(scored, serving, others)
    mine = streamed[serving.name]
    made = sum(int(np.sum(~np.isnan(scores))) for scores in mine.scores)
    known = int(np.sum(~np.isnan(scored[serving.name])))
    result["waiting"] = waiting
    result["left_out"] = {
        "outcome_not_known": made - known + mine.pending,
        "not_scored_by_all": known - len(kept),
        "of_other_models": _others(predictions, models),
    }
    if not len(kept):
        return result
    rows = data.take(kept)
    scores = {
        model.name: scored[model.name][kept]
        for model in models
        if waiting is None or model.name != waiting["model"]
    }
    compared = [model for model in models if model.name in scores]
    if serving.name != "baseline":
        rebuilt = Live("baseline", serving.version, serving.bundle.as_variant("baseline"))
        scores["baseline"] = rebuilt.bundle.score(rows.rows)
        compared.append(rebuilt)
    return result | _measured(rows, scores, compared, streamed, spec.tau, settings)


def _measured(
    rows: Dataset,
    scores: dict[str, Floats],
    compared: Sequence[Live],
    streamed: Mapping[str, _Streamed],
    tau: float,
    settings: Settings,
) -> Json:
    """Measure every model's scores on the same labelled rows."""
    spikes = rows.values >= tau
    horizon = compared[0].bundle.specification.horizon_seconds
    windows = effective_windows(rows, horizon)
    models: Json = {
        model.name: {
            "model_version": model.version,
            "source": "stream" if model.name in streamed else "feature rows",
            **asdict(scorecard(spikes, scores[model.name])),
            "pr_auc_interval": None,
            **asdict(
                alert_metrics(rows, spikes, scores[model.name], model.bundle.threshold, horizon)
            ),
        }
        for model in compared
    }
    versus: Json = {}
    if windows >= LEAST_WINDOWS and spikes.any():
        level = np.full(len(rows), tau)
        everything = Predictions(rows, np.zeros(len(rows), np.int64), level, level, scores)
        drawn = resample(everything, settings, horizon)
        for name, found in models.items():
            found["pr_auc_interval"] = list(drawn.interval(name))
            if name != "baseline":
                less = drawn.difference(name, "baseline")
                versus[name] = {"difference": less.difference, "interval": list(less.interval)}
    measured: Json = clean(
        {
            "reason": None if spikes.any() else "no spike has happened yet",
            "start": iso(rows.time[0]),
            "stop": iso(rows.time[-1]),
            "symbols": [rows.symbols[place] for place in np.unique(rows.symbol)],
            "rows_labelled": len(rows),
            "effective_windows": windows,
            "base_rate": float(spikes.mean()),
            "models": models,
            "versus_baseline": versus,
            "rolling": _rolling(rows, spikes, scores),
        }
    )
    return measured


def _streamed(
    frames: Sequence[FeatureFrame], predictions: Mapping[str, pa.Table], model: Live
) -> _Streamed:
    """Lay a model's live scores beside the rows of their steps."""
    columns, pending, unmatched = [], 0, 0
    for frame in frames:
        table = predictions[frame.symbol]
        mine = _text(table, "model_version") == model.version
        mine &= _text(table, "model_variant") == model.bundle.variant
        time = table.column("time").cast(pa.int64()).to_numpy()[mine]
        place = np.minimum(np.searchsorted(frame.time, time), len(frame.time) - 1)
        there = frame.time[place] == time
        column = np.full(len(frame.time), np.nan)
        column[place[there]] = table.column("score").to_numpy()[mine][there]
        columns.append(column)
        newer = int(np.sum(time > frame.time[-1]))
        pending += newer
        unmatched += int(np.sum(~there)) - newer
    return _Streamed(columns, pending, unmatched)


def _parity(
    frames: Sequence[FeatureFrame], models: Sequence[Live], streamed: Mapping[str, _Streamed]
) -> Json:
    """Count the live scores that are not, to the bit, those of the rebuilt feature rows."""
    rows = differ = 0
    for model in models:
        for frame, column in zip(frames, streamed[model.name].scores, strict=True):
            made = np.flatnonzero(~np.isnan(column))
            rows += len(made)
            differ += int(np.sum(model.bundle.score(frame.rows[made]) != column[made]))
    unmatched = sum(held.unmatched for held in streamed.values())
    return {"rows": rows, "differ": differ, "without_a_row": unmatched}


def _same_rows(
    scored: Mapping[str, Floats], serving: Live, others: Sequence[Live]
) -> tuple[npt.NDArray[np.int64], Json | None]:
    """Number the rows that every compared model scored; name a challenger that must wait."""
    kept = ~np.isnan(scored[serving.name])
    waiting = None
    for model in others:
        both = kept & ~np.isnan(scored[model.name])
        if both.any() and both.sum() >= COMPARED_SHARE * kept.sum():
            kept = both
        else:
            rows = int(both.sum())
            waiting = {"model": model.name, "model_version": model.version, "rows": rows}
    return np.flatnonzero(kept), waiting


def _others(predictions: Mapping[str, pa.Table], models: Sequence[Live]) -> dict[str, int]:
    """Count the predictions of versions, or of their variants, that are not live any more."""
    counts: Counter[str] = Counter()
    live = {(model.version, model.bundle.variant) for model in models}
    for table in predictions.values():
        pairs = zip(_text(table, "model_version"), _text(table, "model_variant"), strict=True)
        for (version, variant), count in Counter(pairs).items():
            if (version, variant) not in live:
                counts[f"version {version} as {variant}"] += count
    return dict(sorted(counts.items()))


def _rolling(rows: Dataset, spikes: Bools, scores: Mapping[str, Floats]) -> list[Json]:
    """Measure stretches that slide over the rows: how skill came and went."""
    first, last = int(rows.time[0]), int(rows.time[-1])
    width = int(ROLLING_SHARE * (last - first))
    result = []
    for stop in np.linspace(first + width, last, ROLLING_POINTS).astype(np.int64):
        low, high = np.searchsorted(rows.time, [stop - width, stop + 1])
        part = slice(int(low), int(high))
        result.append(
            {
                "time": iso(stop),
                "rows": int(high - low),
                "base_rate": float(spikes[part].mean()) if high > low else None,
                "pr_auc": {
                    name: average_precision(spikes[part], score[part]) if high > low else None
                    for name, score in scores.items()
                },
            }
        )
    return result


def _text(table: pa.Table, name: str) -> npt.NDArray[np.object_]:
    return np.array(table.column(name).to_pylist(), dtype=object)
