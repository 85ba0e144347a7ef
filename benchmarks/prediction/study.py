"""Study how well volatility can be forecast: ``python -m benchmarks.prediction.study``.

On recordings from many venues, it evaluates walk-forward with a prior that has never seen the
venue; with 0, 1, 4, 16 and 48 hours of the venue's own data; with parts of the model removed; and
in comparison with a classifier. It writes ``benchmarks/results/prediction.json`` and
``reports/study.html``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from benchmarks.prediction import ablation, page, transfer
from benchmarks.prediction.recordings import DATA, read_venues
from benchmarks.prediction.rows import StudyRow, interval_row, point_row, write_rows
from volatility.dataset import Dataset, assemble
from volatility.evaluation import (
    BASELINE,
    Predictions,
    Said,
    evaluate,
    pit_error,
    resample,
    versus,
    walk_forward_predictions,
)
from volatility.features import FeatureFrame
from volatility.files import Json, plain
from volatility.models import Prior, fit_bundle, fit_prior
from volatility.settings import Settings

RESULTS = Path(__file__).parents[1] / "results" / "prediction.json"
PAGE = Path("reports/study.html")
FIVE = ("0.8", "0.9", "0.95", "0.99")


@dataclass(frozen=True)
class Venue:
    """Represent one venue's part of the study."""

    name: str
    data: Dataset
    prior: Prior
    predictions: Predictions
    result: Json


def study_venue(name: str, frames: Sequence[FeatureFrame], settings: Settings) -> Venue:
    """Evaluate a venue walk-forward with a prior that has never seen it."""
    mine = [frame for frame in frames if frame.symbol == name]
    data = assemble(mine, settings)
    prior = prior_without(mine[0], frames, settings)
    walked = walk_forward_predictions(data, settings, prior, progress=False)
    product = fit_bundle(data, settings, prior)
    result = evaluate(
        walked.predictions, settings, product, source="walk-forward", folds=walked.folds
    )
    return Venue(name, data, prior, walked.predictions, plain(result))


def prior_without(venue: FeatureFrame, frames: Sequence[FeatureFrame], settings: Settings) -> Prior:
    """Fit a prior on the other venues, excluding the hours in which this one was recorded.

    Venues move together: data of another venue from the same hours would reveal the outcomes here.
    """
    hours = np.unique(venue.time // HOUR_NS)
    kept = []
    for frame in frames:
        if frame.symbol != venue.symbol:
            apart = ~np.isin(frame.time // HOUR_NS, hours)
            kept.append(FeatureFrame(frame.symbol, frame.time[apart], frame.rows[apart]))
    return fit_prior(assemble(kept, settings), settings)


HOUR_NS = 3_600_000_000_000


def pool(venues: Sequence[Venue]) -> Predictions:
    """Combine all venues; each becomes a symbol with equal weight."""
    names = tuple(venue.name for venue in venues)
    parts = [venue.predictions for venue in venues]
    shared = [n for n in parts[0].said if all(n in part.said for part in parts)]
    data = replace(
        parts[0].data,
        symbols=names,
        symbol=np.concatenate([np.full(len(p.data), k) for k, p in enumerate(parts)]),
        time=np.concatenate([p.data.time for p in parts]),
        rows=np.concatenate([p.data.rows for p in parts]),
        variance=np.concatenate([p.data.variance for p in parts]),
    )
    said = {
        name: Said(
            *(
                np.concatenate([getattr(p.said[name], field) for p in parts])
                for field in Said.__dataclass_fields__
            )
        )
        for name in shared
    }
    return Predictions(
        data,
        np.concatenate([p.fold for p in parts]),
        np.concatenate([p.spike_level_bps for p in parts]),
        np.concatenate([p.quantile_level_bps for p in parts]),
        said,
        tuple(name for p in parts for name in p.simple),
    )


def venue_rows(venue: Venue) -> list[StudyRow]:
    """Return the measures of one venue."""
    result, where = venue.result, venue.name
    found = result["ml_vs_best_simple"]
    models = result["models"]
    hours = len(venue.data) * 15 / 3600
    about = (
        f"{where}: {hours:.0f} h, {result['effective_windows']:,} test windows, "
        f"base rate {result['base_rate']:.3f}"
    )
    never = "interval not wholly above zero"
    target = "interval below zero" if where.startswith(("BitMEX", "bitFlyer")) else never
    rows = [
        interval_row(f"{about}, QLIKE of ml less best simple", "QLIKE", models["ml"]["qlike"],
                     models[BASELINE]["qlike"], found["baseline"], found["qlike"], target),
        interval_row(f"{where}, PR-AUC at the 0.9 level, ml less best simple", "PR-AUC",
                     models["ml"]["pr_auc"], models[BASELINE]["pr_auc"], found["baseline"],
                     found["pr_auc"], None),
        interval_row(f"{where}, CRPS of ml less best simple", "bps", models["ml"]["crps_bps"],
                     models[BASELINE]["crps_bps"], found["baseline"], found["crps_bps"], None),
    ]  # fmt: skip
    for horizon, one in found["horizons"].items():
        if horizon != f"{result['horizon_seconds']}s":
            rows.append(
                interval_row(f"{where}, QLIKE over {horizon} of ml less best simple", "QLIKE",
                             models["ml"]["horizons"][horizon]["qlike"],
                             models[BASELINE]["horizons"][horizon]["qlike"],
                             found["baseline"], one["qlike"], None)
            )  # fmt: skip
    hindsight = min(
        (name for name in models if name not in ("ml", "prior", BASELINE)),
        key=lambda name: models[name]["qlike"],
    )
    drawn = resample(venue.predictions, Settings())
    strict = plain(versus(venue.predictions, drawn, "ml", hindsight))
    rows.append(
        interval_row(f"{where}, QLIKE of ml less the simple forecast that is best in hindsight",
                     "QLIKE", models["ml"]["qlike"], models[hindsight]["qlike"], hindsight,
                     strict["qlike"], None)
    )  # fmt: skip
    prior = plain(versus(venue.predictions, drawn, "prior", BASELINE))
    rows.append(
        interval_row(f"{where}, QLIKE of the prior alone less best simple", "QLIKE",
                     models["prior"]["qlike"], models[BASELINE]["qlike"], found["baseline"],
                     prior["qlike"], None)
    )  # fmt: skip
    rows += [
        point_row(f"{where}, PIT error of ml", "1", models["ml"]["pit_error"], "<= 0.03", 0.03),
        point_row(f"{where}, reliability error of ml", "1", models["ml"]["calibration_error"],
                  "<= 0.03", 0.03),
    ]  # fmt: skip
    return rows


def pool_rows(predictions: Predictions, settings: Settings) -> list[StudyRow]:
    """Return the measures of the equal-weight pool."""
    drawn = resample(predictions, settings)
    found = plain(versus(predictions, drawn, "ml", BASELINE))
    rows = []
    for measure, unit, target in (
        ("qlike", "QLIKE", "interval below zero"),
        ("pr_auc", "PR-AUC", "interval above zero"),
        ("crps_bps", "bps", None),
        ("brier", "1", None),
    ):
        rows.append(
            interval_row(f"equal-weight pool of all venues, {measure} of ml less best simple",
                         unit, None, None, "best simple", found[measure], target)
        )  # fmt: skip
    for level, one in found["levels"].items():
        rows.append(
            interval_row(f"pool, PR-AUC at the {level} level, ml less best simple", "PR-AUC", None,
                         None, "best simple", one["pr_auc"], None)
        )  # fmt: skip
    for horizon, one in found["horizons"].items():
        rows.append(
            interval_row(f"pool, QLIKE over {horizon}, ml less best simple", "QLIKE", None, None,
                         "best simple", one["qlike"], None)
        )  # fmt: skip
    rows.append(
        point_row("pool, PIT error of ml", "1",
                  pit_error(predictions.said["ml"].pit, drawn.weight), "<= 0.03", 0.03)
    )  # fmt: skip
    return rows


def main() -> None:
    """Run the study, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", help="Judge only venues whose name contains this.")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    settings = Settings()
    rows, venues = study(read_venues(options.data), settings, options.jobs, options.only)
    if not options.only:
        write_rows(rows, RESULTS)
    page.write(rows, venues, PAGE)
    print("\n".join(row.text() for row in rows))


def study(
    frames: Sequence[FeatureFrame], settings: Settings, jobs: int, only: str | None = None
) -> tuple[list[StudyRow], list[Venue]]:
    """Run the study on the rows of several venues; ``only`` judges those whose name has it."""
    started = time.monotonic()
    names = [f.symbol for f in frames if not only or only in f.symbol]
    run = Parallel(n_jobs=jobs)
    venues: list[Venue] = run(delayed(study_venue)(name, frames, settings) for name in names)
    rows = [row for venue in venues for row in venue_rows(venue)]
    everything = pool(venues)
    rows += pool_rows(everything, settings)
    print(f"walk-forward: {time.monotonic() - started:.0f} s", flush=True)
    for part in (transfer, ablation):
        found = part.rows(venues, settings, run)
        rows += found
        print(f"{part.__name__}: {time.monotonic() - started:.0f} s", flush=True)
    rows.append(
        point_row("study", "minutes", (time.monotonic() - started) / 60.0, "<= 25 minutes", 25.0)
    )
    return rows, venues


if __name__ == "__main__":
    main()
