"""Run the stages of the pipeline: what the command line, DVC and Prefect all call.

Each stage reads files and writes files; a stage that fails leaves what was there before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
from msgspec.structs import replace
from tqdm import tqdm

from volatility import registry
from volatility.dataset import assemble, read_dataset
from volatility.evaluation import (
    Evaluation,
    FoldSummary,
    LivePerformance,
    Placebo,
    Placebos,
    Verdict,
    WalkForward,
    evaluate_bundle,
    read_predictions,
    require_rows,
    run_placebo,
    walk_forward_predictions,
    write_predictions,
)
from volatility.evaluation import drift as drifts
from volatility.evaluation import evaluate as evaluate_predictions
from volatility.features import FeatureFrame, build_features, read_features, update_features
from volatility.files import locked, write_json
from volatility.lake import ImportReport, Lake, import_files, open_lake
from volatility.models import Bundle, TrainingError, fit_bundle, shipped
from volatility.models import bundle as bundles
from volatility.records import LAKE_SCHEMA
from volatility.registry import measure_and_judge
from volatility.reports import drift as drift_pages
from volatility.reports import drift_line, leaderboard, plots, write_performance
from volatility.reports import evaluation as report
from volatility.reports import index as report_index
from volatility.settings import Settings, SettingsError
from volatility.simulation import simulate
from volatility.sources import Mapping
from volatility.units import parse_iso


@dataclass(frozen=True)
class Paths:
    """Represent where the stages read and write."""

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
        start_ns = parse_iso(options.start)
    except ValueError as error:
        raise SettingsError(f"simulate.start: {error}; write it as 2026-01-05") from error
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


def import_ticks(
    sources: list[Path],
    paths: Paths,
    *,
    mapping: Mapping | None = None,
    dry_run: bool = False,
    progress: bool = True,
) -> ImportReport:
    """Import recordings into the lake."""
    lake = Lake(paths.ticks)
    return import_files(sources, lake, progress, mapping=mapping, dry_run=dry_run)


def make_ticks(settings: Settings, paths: Paths, *, progress: bool = True) -> int:
    """Fill the lake from what ``ticks.source`` names: the simulator or recordings."""
    if settings.ticks.source == "simulate":
        return simulate_ticks(settings, paths, progress=progress)
    return import_ticks([Path(settings.ticks.source)], paths, progress=progress).rows


def make_features(settings: Settings, paths: Paths, *, progress: bool = True) -> dict[str, int]:
    """Build the features of what is new in the lake; give the rows that there are, and new ones."""
    return update_features(Lake(paths.ticks), paths.features, settings.features, progress=progress)


@dataclass(frozen=True)
class Trained:
    """Represent the last training: what evaluation and promotion need of it.

    ``product`` is the bundle fitted on all rows, ``walked`` what the folds said out of sample,
    ``placebo`` the skills by market and model.
    """

    product: Bundle
    walked: WalkForward
    placebo: Placebos


class Training(msgspec.Struct, frozen=True):
    """Represent ``training.json``."""

    folds: tuple[FoldSummary, ...]
    placebo: Placebos


@dataclass(frozen=True)
class Registration:
    """Represent a training that has just been registered, and its evaluation without a verdict."""

    trained: Trained
    evaluation: Evaluation
    version: registry.Registered


def train(settings: Settings, paths: Paths, *, progress: bool = True) -> Registration:
    """Judge the recipe walk-forward, run the placebo, fit the product on all rows, register it.

    Raises
    ------
    TrainingError
        When the placebo is beaten: then the path leaks, and nothing is registered.
    """
    prior = shipped()
    data = read_dataset(paths.features, settings)
    require_rows(data)
    # The folds decide whether the recipe is good, not which rows the product may see. It is
    # fitted first, because the predictions of the folds need as much memory as it does.
    product = fit_bundle(data, settings, prior)
    walked = walk_forward_predictions(data, settings, prior, progress=progress)
    with tqdm(total=1, desc="placebo", disable=_quiet(progress)) as bar:
        placebo = run_placebo(settings, prior)
        bar.update()
    if placebo.beaten:
        raise TrainingError(_beaten(placebo))
    product.save(paths.model)
    write_predictions(walked.predictions, paths.predictions)
    trained = Trained(product, walked, placebo.results())
    write_json(paths.training, Training(walked.folds, trained.placebo))
    evaluation = _evaluation(settings, trained)
    version = registry.register(
        paths.model,
        parameters=product.specification.parameters,
        metrics=_metrics(evaluation),
        artifacts=plots.write_plots(evaluation, paths.model / "plots"),
        tags={"symbols": ",".join(data.symbols), "recipe": product.specification.recipe},
    )
    return Registration(trained, evaluation, version)


def _beaten(placebo: Placebo) -> str:
    market, model, skill = placebo.beaten[0]
    return (
        f"on the placebo market {market} the forecast {model} beats the market's true forecast "
        f"(QLIKE by {skill.skill:.4f}, standard error {skill.standard_error:.4f}; PR-AUC by "
        f"{skill.pr_auc_skill:.4f}, {skill.pr_auc_standard_error:.4f}): something leaks the "
        "future; nothing was registered"
    )


def evaluate(
    settings: Settings,
    paths: Paths,
    *,
    model: str | None = None,
    ticks: Path | None = None,
    done: Registration | None = None,
    verdict: Verdict | None = None,
) -> Evaluation:
    """Evaluate and write ``evaluation.json`` and ``evaluation.html``.

    Without ``model`` and ``ticks``: the out-of-sample predictions of the last training, and
    whether its recipe has earned promotion. With ``ticks``: the recipe, walk-forward on those
    ticks. With ``model``: that model, on the rows of the ticks, or of the features, that it has
    not seen. ``done`` and ``verdict`` are what this process knows of the last training already.
    """
    if model is not None:
        chosen = registry.resolve(model).bundle
        settings = _settings_of(chosen, settings)
        if ticks is None:
            data = read_dataset(paths.features, settings)
        else:
            data = assemble(_features_of(ticks, settings), settings)
        result = replace(
            evaluate_bundle(chosen, data, settings),
            placebo=run_placebo(settings, shipped()).results(),
        )
    elif ticks is not None:
        data = assemble(_features_of(ticks, settings), settings)
        walked = walk_forward_predictions(data, settings, shipped())
        product = fit_bundle(data, settings, shipped())
        placebo = run_placebo(settings, shipped()).results()
        result = _evaluation(settings, Trained(product, walked, placebo))
    else:
        trained = done.trained if done else read_trained(settings, paths)
        result = replace(
            done.evaluation if done else _evaluation(settings, trained),
            gate=verdict or registry.judge(trained.product, trained.walked.predictions, settings),
        )
    report.write_evaluation(result, paths.reports)
    plots.write_plots(result, paths.reports / "plots")
    report_index.write_index(paths.reports)
    return result


def promote(
    settings: Settings, paths: Paths, trained: Trained | None = None
) -> tuple[str, Verdict]:
    """Make the last trained version champion if the gate passes; return version and verdict."""
    last = trained or read_trained(settings, paths)  # before a lock file is left behind
    lock = paths.model.with_name(f"{paths.model.name}.lock")
    lock.touch()
    with locked(lock):
        return registry.promote_if_earned(last.product, last.walked.predictions, settings)


def drift(settings: Settings, paths: Paths, *, model: str | None = None) -> drifts.DriftResult:
    """Compare the newest hours with the training rows; write ``drift.html`` and ``drift.json``.

    Each run is kept under ``drift/`` too, its page for a while.
    """
    chosen = registry.resolve(model).bundle if model else bundles.load(paths.model)
    spec = chosen.specification
    frames = drifts.read_thinned(paths.features, spec.train_start, settings.train.stride_seconds)
    result = drifts.compare(frames, spec.train_start, spec.train_stop, settings.drift, spec.inputs)
    drift_pages.write_drift(result, paths.reports)
    keep = settings.monitoring.keep_html
    drift_pages.archive_drift(result, paths.reports, datetime.now(UTC), keep)
    report_index.write_index(paths.reports)
    return result


def performance(
    settings: Settings, paths: Paths, predictions: Path = Path("data/predictions")
) -> LivePerformance:
    """Compare captured predictions with the outcome; demote a champion that they refute.

    The hours end with the newest feature row, so build the features first.

    Raises
    ------
    RegistryError, FeaturesError, LakeError
        When the registry cannot be reached, or there are no features, or files are damaged. That
        nothing has been predicted yet, or no outcome is known, is reported as ``reason``.
    """
    result = measure_and_judge(settings, paths.features, predictions)
    write_performance(result, paths.reports, datetime.now(UTC))
    report_index.write_index(paths.reports)
    return result


def run_chain(settings: Settings, paths: Paths, tell: Callable[[str], None]) -> None:
    """Run the stages from a lake to the registry and the reports, each once.

    ``tell`` is called with a line or a table for each stage.
    """
    built = make_features(settings, paths)
    tell(f"features   {built['rows']:,} rows")
    done = train(settings, paths)
    new = "new" if done.version.created else "already registered"
    tell(f"train      {done.version.name} version {done.version.version}, {new}")
    version, verdict = promote(settings, paths, done.trained)
    result = evaluate(settings, paths, done=done, verdict=verdict)
    tell(
        f"placebo    {len(done.trained.placebo)} markets, no model beats the true forecast\n\n"
        f"{leaderboard(result)}\n"
    )
    outcome = "is champion" if verdict.earned else "not promoted: "
    tell(f"promote    version {version} {outcome}{'; '.join(verdict.reasons)}")
    tell(
        f"evidence   e-value {verdict.evidence.e_value:.3g} after {verdict.evidence.blocks} "
        f"blocks against {verdict.best_simple} (25 promotes)"
    )
    tell(f"drift      {drift_line(drift(settings, paths))}")
    tell(f"reports    {paths.reports / 'index.html'}")


def read_trained(settings: Settings, paths: Paths) -> Trained:
    """Read the last training back.

    Raises
    ------
    TrainingError
        When there is none, it is damaged, or the features have changed since.
    """
    product = bundles.load(paths.model)
    try:
        stored = msgspec.json.decode(paths.training.read_bytes(), type=Training)
    except (OSError, msgspec.MsgspecError) as error:
        raise TrainingError(
            f"{paths.training} is damaged ({error}); run `volatility train`"
        ) from error
    start_ns = product.specification.train_start
    data = read_dataset(paths.features, _settings_of(product, settings), start_ns=start_ns)
    predictions = read_predictions(
        paths.predictions, data, [fold.best_simple for fold in stored.folds]
    )
    return Trained(product, WalkForward(predictions, stored.folds), stored.placebo)


def _evaluation(settings: Settings, trained: Trained) -> Evaluation:
    walked = trained.walked
    result = evaluate_predictions(
        walked.predictions, settings, trained.product, source="walk-forward", folds=walked.folds
    )
    return replace(result, placebo=trained.placebo)


def _features_of(ticks: Path, settings: Settings) -> list[FeatureFrame]:
    """Build the features of another lake, or of recordings, and leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="volatility-") as scratch:
        lake = open_lake(ticks, Path(scratch) / "ticks")
        build_features(lake, Path(scratch) / "features", settings.features)
        return read_features(Path(scratch) / "features")


def _settings_of(trained: Bundle, settings: Settings) -> Settings:
    """Return the settings under which a bundle's rows are built and labelled."""
    spec = trained.specification
    train = replace(settings.train, stride_seconds=spec.parameters["train"]["stride_seconds"])
    forecast = replace(settings.forecast, horizons=spec.horizons)
    return replace(settings, features=spec.features, forecast=forecast, train=train)


def _with_offsets(batch: pa.RecordBatch, partition: int, offset: int) -> pa.Table:
    count = len(batch)
    columns = [
        *batch.columns,
        pa.array([partition] * count, pa.int32()),
        pa.array(range(offset, offset + count), pa.int64()),
    ]
    return pa.Table.from_arrays(columns, schema=LAKE_SCHEMA)


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    """Return the figures that MLflow keeps of a version, by name."""
    flat: dict[str, object] = {
        f"{name}.{metric}": value
        for name, figures in evaluation.models.items()
        for metric, value in msgspec.structs.asdict(figures).items()
    }
    flat |= {"base_rate": evaluation.base_rate, "rows": evaluation.rows}
    if evaluation.ml_vs_best_simple is not None:
        flat["ml_vs_best_simple.qlike"] = evaluation.ml_vs_best_simple.qlike.difference
        flat["ml_vs_best_simple.pr_auc"] = evaluation.ml_vs_best_simple.pr_auc.difference
    return {key: float(value) for key, value in flat.items() if isinstance(value, int | float)}


def _quiet(progress: bool) -> bool | None:
    return None if progress else True
