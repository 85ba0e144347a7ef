"""Run the stages of the pipeline: what the command line, DVC and Prefect all call.

Each stage reads files and writes files; a stage that fails leaves what was there before.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from tqdm import tqdm

from volatility import bundle as bundles
from volatility import drift as drifts
from volatility import drift_pages, plots, registry, report, report_index
from volatility import performance as performances
from volatility.bundle import Bundle
from volatility.dataset import assemble
from volatility.evaluation import Json, clean, evaluate_bundle
from volatility.evaluation import evaluate as evaluate_predictions
from volatility.feature_files import FeatureFrame, newest_step, read_features
from volatility.feature_update import update_features
from volatility.features import build_features
from volatility.importing import ImportReport, import_files
from volatility.kernel_state import SECOND
from volatility.lake import Lake
from volatility.model import TrainingError
from volatility.parts import locked
from volatility.performance_report import write_performance
from volatility.placebo import run_placebo
from volatility.promotion import gate
from volatility.settings import Label, Settings, SettingsError
from volatility.simulate import simulate
from volatility.tick import LAKE_SCHEMA
from volatility.training import (
    FoldSummary,
    Predictions,
    read_predictions,
    write_predictions,
)
from volatility.training import train as train_folds


@dataclass(frozen=True)
class Paths:
    """Hold where the stages read and write."""

    ticks: Path = Path("data/ticks")
    features: Path = Path("data/features")
    model: Path = Path("data/model")
    reports: Path = Path("reports")

    @property
    def predictions(self) -> Path:
        """Out-of-sample scores, beside the model that the last fold gave."""
        return self.model / "predictions.parquet"

    @property
    def training(self) -> Path:
        """What the folds were, and the placebo."""
        return self.model / "training.json"


def simulate_ticks(settings: Settings, paths: Paths, *, progress: bool = True) -> int:
    """Fill the lake with the simulated market of ``params.yaml``; give the number of rows."""
    options = settings.simulate
    try:
        start = datetime.fromisoformat(options.start).replace(tzinfo=UTC)
    except ValueError as error:
        raise SettingsError(f"simulate.start: {error}; write it as 2026-01-05") from error
    start_ns = int(start.timestamp()) * SECOND
    lake = Lake(paths.ticks)
    rows = 0
    hours = len(options.symbols) * options.hours
    with tqdm(total=round(hours, 2), unit=" h", desc="simulate", disable=_quiet(progress)) as bar:
        for partition, symbol in enumerate(options.symbols):
            # The name holds all that the market depends on: the same one again adds nothing.
            topic = f"simulate.{symbol}.{options.start}.{options.hours:g}h.{options.seed}"
            with lake.stage(topic, partition) as stage:
                offset = 0
                for batch in simulate(symbol, start_ns, options.hours, options.seed):
                    stage.append(_with_offsets(batch, partition, offset))
                    offset += len(batch)
                    bar.update(min(1.0, options.hours))
            rows += offset
    return rows


def import_ticks(sources: list[Path], paths: Paths, *, progress: bool = True) -> ImportReport:
    """Import recordings into the lake."""
    return import_files(sources, Lake(paths.ticks), progress)


def make_ticks(settings: Settings, paths: Paths, *, progress: bool = True) -> int:
    """Fill the lake from what ``ticks.source`` names: the simulator or recordings."""
    if settings.ticks.source == "simulate":
        return simulate_ticks(settings, paths, progress=progress)
    return import_ticks([Path(settings.ticks.source)], paths, progress=progress).rows


def make_features(settings: Settings, paths: Paths, *, progress: bool = True) -> dict[str, int]:
    """Build the features of what is new in the lake; give the rows that there are, and new ones."""
    return update_features(Lake(paths.ticks), paths.features, settings.features, progress=progress)


def train(settings: Settings, paths: Paths, *, progress: bool = True) -> registry.Registered:
    """Train walk-forward, run the placebo, keep the last fold's model and register it.

    Raises
    ------
    TrainingError
        When the placebo finds skill on noise: then the path leaks, and nothing is registered.
    """
    data = assemble(read_features(paths.features), settings.label)
    training = train_folds(data, settings, progress=progress)
    with tqdm(total=1, desc="placebo", disable=_quiet(progress)) as bar:
        placebo = run_placebo(settings)
        bar.update()
    if not placebo.passed:
        raise TrainingError(
            f"the placebo found skill on noise (PR-AUC {placebo.pr_auc:.3f} at a base rate of "
            f"{placebo.base_rate:.3f}): something leaks the future; nothing was registered"
        )
    training.bundle.save(paths.model)
    write_predictions(training.predictions, paths.predictions)
    summary = {
        "folds": [asdict(fold) for fold in training.folds],
        "placebo": clean(placebo.json()),
    }
    write_json(summary, paths.training)
    result = _evaluation(settings, training.bundle, training.predictions, summary)
    figures = plots.write_plots(result, paths.model / "plots")
    return registry.register(
        paths.model,
        parameters=_flat(training.bundle.specification.parameters),
        metrics=_metrics(result),
        artifacts=figures,
        tags={"symbols": ",".join(data.symbols)},
    )


def evaluate(
    settings: Settings, paths: Paths, *, model: str | None = None, ticks: Path | None = None
) -> Json:
    """Evaluate and write ``evaluation.json`` and ``evaluation.html``.

    Without ``model`` and ``ticks``: the out-of-sample predictions of the last training, and
    whether its model has earned promotion. With either: one model on the rows of a lake that
    it has not seen.
    """
    if model is None and ticks is None:
        trained, predictions, summary = _trained(settings, paths)
        result = _evaluation(settings, trained, predictions, summary)
        result["held_out"] = judge(settings, trained, predictions)
    else:
        chosen = registry.resolve(model).bundle if model else bundles.load(paths.model)
        frames = read_features(paths.features) if ticks is None else _features_of(ticks, settings)
        data = assemble(frames, _label_of(chosen, settings))
        result = evaluate_bundle(chosen, data, settings)
        result["placebo"] = clean(run_placebo(settings).json())
        result["held_out"] = None
    report.write_evaluation(result, paths.reports)
    plots.write_plots(result, paths.reports / "plots")
    report_index.write_index(paths.reports)
    return result


def judge(settings: Settings, trained: Bundle, predictions: Predictions) -> Json:
    """Run the promotion gate on the last fold's rows, against the champion if there is one."""
    last = predictions.fold.max()
    held_out = predictions.take((predictions.fold == last).nonzero()[0])
    version = registry.champion()
    champion = None
    if version is not None:
        found = registry.resolve(version).bundle
        if found.digest != trained.digest:
            champion = (version, found)
    return gate(trained, held_out, settings, champion)


def promote(settings: Settings, paths: Paths) -> tuple[str, Json]:
    """Make the last trained version champion if the gate passes; give version and verdict.

    Two processes judge one after the other: the second meets the champion that the first made.
    """
    _trained(settings, paths)  # where there is nothing to promote, no lock is left behind
    lock = paths.model.with_name(f"{paths.model.name}.lock")
    lock.touch()
    with locked(lock):
        trained, predictions, _ = _trained(settings, paths)
        version = registry.version_of(trained.digest)
        if version is None:
            raise TrainingError("the trained model is not registered; run `volatility train`")
        while True:
            champion = registry.champion()
            verdict = judge(settings, trained, predictions)
            if registry.champion() == champion:  # the lock does not reach another machine
                break
        if verdict["earned"] and champion != version:
            registry.promote(version, evidence=verdict)
    return version, verdict


def drift(settings: Settings, paths: Paths, *, model: str | None = None) -> drifts.DriftResult:
    """Compare the newest hours with the training rows; write ``drift.html`` and ``drift.json``.

    Each run is kept under ``drift/`` too, its page for a while.
    """
    chosen = registry.resolve(model).bundle if model else bundles.load(paths.model)
    spec = chosen.specification
    result = drifts.compare(
        read_features(paths.features), spec.train_start, spec.train_stop, settings.drift
    )
    drift_pages.write_drift(result, paths.reports)
    keep = settings.monitoring.keep_html
    drift_pages.archive_drift(result, paths.reports, datetime.now(UTC), keep)
    report_index.write_index(paths.reports)
    return result


def performance(
    settings: Settings, paths: Paths, predictions: Path = Path("data/predictions")
) -> Json:
    """Hold captured predictions against what then happened; write and give the live figures.

    The hours end with the newest feature row, so build the features first.

    Raises
    ------
    RegistryError, FeaturesError, LakeError
        When there is no model, or there are no features, or files are damaged. That nothing has
        been predicted yet, or nothing is known of what then happened, is told as ``reason``.
    """
    hours = settings.performance.hours
    if performances.captured(predictions):
        models = performances.live_models()
        label = _label_of(models[0].bundle, settings)
        start_ns = performances.window_start(newest_step(paths.features), hours)
        frames = read_features(paths.features, start_ns)
        tables = performances.read_captured(predictions, frames, start_ns)
        result = performances.measure(frames, tables, models, label, settings)
    else:
        result = performances.nothing(hours, "no prediction has been captured yet")
    write_performance(result, paths.reports, datetime.now(UTC))
    report_index.write_index(paths.reports)
    return result


def leaderboard(result: Json) -> str:
    """Lay out an evaluation's models as a table for a terminal, best PR-AUC first."""
    lines = [
        (
            f"{result['rows']:,} rows = {result['effective_windows']:,} independent windows, "
            f"base rate {result['base_rate']:.3f}"
        ),
        (
            f"{'model':<12} {'PR-AUC':>7} {'95 % interval':>15} {'ROC-AUC':>8} {'Brier':>7} "
            f"{'cal.err':>8} {'alerts/h':>9}"
        ),
    ]
    ranked = sorted(result["models"].items(), key=lambda item: -item[1]["pr_auc"])
    for name, m in ranked:
        low, high = m["pr_auc_interval"]
        lines.append(
            f"{name:<12} {m['pr_auc']:>7.3f} {f'{low:.3f} to {high:.3f}':>15} {m['roc_auc']:>8.3f} "
            f"{m['brier']:>7.4f} {m['calibration_error']:>8.4f} {m['alerts_per_hour']:>9.2f}"
        )
    versus = result["ml_vs_best_baseline"]
    low, high = versus["interval"]
    lines.append(
        f"ml less {versus['baseline']}: {versus['difference']:+.3f}, "
        f"95 % interval {low:+.3f} to {high:+.3f}"
    )
    return "\n".join(lines)


def drift_line(result: drifts.DriftResult) -> str:
    """Say in a line how many inputs have drifted."""
    return f"{result.drifted_features} of {result.features} model inputs have drifted: " + (
        "alert" if result.alert else "no alert"
    )


def write_json(value: Any, path: Path) -> None:
    """Write JSON atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    os.replace(temporary, path)


def _trained(settings: Settings, paths: Paths) -> tuple[Bundle, Predictions, Json]:
    """Read the last training back, and check that its model still gives its scores."""
    trained = bundles.load(paths.model)
    data = assemble(read_features(paths.features), _label_of(trained, settings))
    predictions = read_predictions(paths.predictions, data)
    last = (predictions.fold == predictions.fold.max()).nonzero()[0]
    scores = trained.score(predictions.data.rows[last])
    if (scores != predictions.scores["ml"][last]).any():
        raise TrainingError("the model and its predictions differ; run `volatility train`")
    try:
        summary = json.loads(paths.training.read_text())
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{paths.training} is damaged ({error}); run `volatility train`"
        ) from error
    return trained, predictions, summary


def _evaluation(
    settings: Settings, trained: Bundle, predictions: Predictions, summary: Json
) -> Json:
    folds = tuple(FoldSummary(**fold) for fold in summary["folds"])
    result = evaluate_predictions(
        predictions, settings, trained, source="walk-forward", folds=folds
    )
    return {**result, "placebo": summary["placebo"], "held_out": None}


def _features_of(ticks: Path, settings: Settings) -> list[FeatureFrame]:
    """Build the features of another lake, or of recordings, and leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="volatility-") as scratch:
        lake = Lake(ticks)
        if not any(ticks.glob("symbol=*")):
            lake = Lake(Path(scratch) / "ticks")
            import_files([ticks], lake)
        build_features(lake, Path(scratch) / "features", settings.features)
        return read_features(Path(scratch) / "features")


def _label_of(trained: Bundle, settings: Settings) -> Label:
    """Give the label that a bundle was trained for."""
    spec = trained.specification
    return msgspec.structs.replace(
        settings.label, kind=spec.label_kind, horizon_seconds=spec.horizon_seconds
    )


def _with_offsets(batch: pa.RecordBatch, partition: int, offset: int) -> pa.Table:
    count = len(batch)
    columns = [
        *batch.columns,
        pa.array([partition] * count, pa.int32()),
        pa.array(range(offset, offset + count), pa.int64()),
    ]
    return pa.Table.from_arrays(columns, schema=LAKE_SCHEMA)


def _metrics(result: Json) -> dict[str, float]:
    flat = {
        f"{name}.{metric}": value
        for name, metrics in result["models"].items()
        for metric, value in metrics.items()
        if isinstance(value, int | float)
    }
    flat |= {"base_rate": result["base_rate"], "rows": result["rows"]}
    versus = result["ml_vs_best_baseline"]
    flat["ml_vs_best_baseline.difference"] = versus["difference"]
    return {key: float(value) for key, value in flat.items()}


def _flat(nested: dict[str, Any]) -> dict[str, Any]:
    return dict(_pairs(nested))


def _pairs(nested: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        if isinstance(value, dict):
            yield from _pairs(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _quiet(progress: bool) -> bool | None:
    return None if progress else True
