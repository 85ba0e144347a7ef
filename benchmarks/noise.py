"""Measure the skill that common evaluations find in a market of pure noise.

Run ``python -m benchmarks.noise`` (or ``make bench-noise``). On simulated markets of pure noise
it evaluates a random forest with common mistakes and correctly, and then this project's own
evaluation. It writes ``benchmarks/results/noise.json`` and the figure ``docs/images/noise.png``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from sklearn.ensemble import RandomForestClassifier
from tqdm import tqdm

from benchmarks import noise_plot, results
from benchmarks.results import Row, compare
from volatility.dataset import Dataset, Fold, assemble, walk_forward
from volatility.evaluation import (
    STANDARD_ERRORS,
    PlaceboMarket,
    average_precision,
    placebo_markets,
    precision,
    resample,
    run_placebo,
    spikes_of,
    walk_forward_predictions,
)
from volatility.features import INDEX, LONGEST_WINDOW_SECONDS
from volatility.models import INPUT_COLUMNS, shipped
from volatility.settings import Settings
from volatility.units import Bools, Floats

RESULTS = Path(__file__).parent / "results" / "noise.json"
PICTURE = Path("docs/images/noise.png")
TREES = 100
TEST_SHARE = 0.2
PAST_SECONDS = 30  # how far the overlapping label extends back into its features

INPUT_LABEL = "label is a threshold on an input"
OVERLAP = "label window overlaps the features'"
RANDOM = "random split of overlapping windows"
PURGED = "the same, split purged and walk-forward"
OURS = "this project's path"
LEAST_SKILL = 0.1  # standard errors: the results table needs a positive figure


@dataclass(frozen=True)
class Found:
    """Represent the outcomes bool[n] and the scores float64[n] of one evaluation's test rows."""

    spikes: Bools
    scores: Floats

    @property
    def pr_auc(self) -> float:
        """Area under the precision-recall curve."""
        return average_precision(self.spikes, self.scores)

    @property
    def base_rate(self) -> float:
        """Share of spikes: the PR-AUC of an uninformative score."""
        return float(self.spikes.mean())


@dataclass(frozen=True)
class Ours:
    """Represent the results of this project's evaluation on the placebo markets of one seed.

    ``skill`` is the largest skill of its model over all markets, in QLIKE or PR-AUC relative to
    the truth [standard errors]; the other fields are for the market with constant variance.
    """

    pr_auc: float
    base_rate: float
    skill: float


def market(settings: Settings, seed: int) -> PlaceboMarket:
    """Simulate a market with constant variance."""
    return next(iter(placebo_markets(settings.features, settings.evaluate.placebo_hours, seed)))


def every_second(found: PlaceboMarket, settings: Settings) -> Dataset:
    """Label a row for every second, over half the first horizon and all of it: they overlap."""
    train = replace(settings.train, stride_seconds=1)
    horizon = settings.forecast.horizons[0]
    forecast = replace(settings.forecast, horizons=(horizon - PAST_SECONDS, horizon))
    data = assemble(found.frames, replace(settings, train=train, forecast=forecast))
    return data.take(np.flatnonzero(~np.isnan(data.variance).any(axis=1)))


def random_split(count: int, seed: int) -> Fold:
    """Shuffle the rows before splitting, as ``train_test_split`` does."""
    order = np.random.default_rng(seed).permutation(count)
    first = int(count * (1.0 - TEST_SHARE))
    return Fold(np.sort(order[:first]), np.sort(order[first:]))


def forest(data: Dataset, values: Floats, folds: Sequence[Fold], quantile: float) -> Found:
    """Fit a random forest on each fold's training rows and score its test rows.

    A spike is a value at or above the training rows' quantile. The inputs are this project's.
    """
    spikes, scores = [], []
    inputs = data.rows[:, INPUT_COLUMNS]
    for fold in folds:
        tau = np.quantile(values[fold.train], quantile)
        model = RandomForestClassifier(TREES, n_jobs=-1, random_state=0)
        model.fit(inputs[fold.train], values[fold.train] >= tau)
        spikes.append(values[fold.test] >= tau)
        scores.append(model.predict_proba(inputs[fold.test])[:, 1])
    return Found(np.concatenate(spikes), np.concatenate(scores))


def evaluations(settings: Settings, seed: int) -> dict[str, Found]:
    """Evaluate the forest on one market; return results by name of the evaluation."""
    data = every_second(market(settings, seed), settings)
    horizon = data.horizons[-1]
    near, ahead = data.variance.T
    past = np.nan_to_num(data.rows[:, INDEX["realised_volatility_30s"]]) ** 2
    both = ((horizon - PAST_SECONDS) * near + PAST_SECONDS * past) / horizon
    purged = walk_forward(data.time, settings.train.folds, horizon, LONGEST_WINDOW_SECONDS)
    ways = {
        INPUT_LABEL: (np.nan_to_num(data.rows[:, INDEX["volatility_ratio_60s"]]), purged),
        OVERLAP: (both, purged),
        RANDOM: (ahead, [random_split(len(data), seed)]),
        PURGED: (ahead, purged),
    }
    quantile = settings.forecast.spike_quantile
    return {name: forest(data, *way, quantile) for name, way in ways.items()}


def ours(settings: Settings, seed: int) -> Ours:
    """Run this project's walk-forward evaluation and placebo on the same market."""
    prior = shipped()
    data = assemble(market(settings, seed).frames, settings)
    predictions = walk_forward_predictions(data, settings, prior, progress=False).predictions
    spikes = spikes_of(predictions)
    score = predictions.said["ml"].score[:, 0]
    found = run_placebo(settings, prior, seed=seed)
    skills = [models["ml"] for models in found.skills.values()]
    return Ours(
        precision(spikes, score, resample(predictions, settings)).point,
        float(spikes.mean()),
        max(
            max(one.skill / one.standard_error, one.pr_auc_skill / one.pr_auc_standard_error)
            for one in skills
        ),
    )


def rows(found: Sequence[Mapping[str, Found]], own: Sequence[Ours]) -> list[Row]:
    """Return the rows: mean PR-AUC and base rate, and this project's targets."""
    number = len(found)
    made = []
    for name in found[0]:
        mean = float(np.mean([one[name].pr_auc for one in found]))
        base = float(np.mean([one[name].base_rate for one in found]))
        made.append(_row(name, number, mean, base))
    area, base = (float(np.mean([getattr(one, k) for one in own])) for k in ("pr_auc", "base_rate"))
    return [
        *made,
        _row(OURS, number, area, base),
        compare(
            f"{OURS}, greatest skill against the truth, placebo markets of {number} seeds",
            "standard errors",
            max(LEAST_SKILL, *(one.skill for one in own)),
            target=STANDARD_ERRORS,
        ),
    ]


def _row(name: str, number: int, area: float, base: float) -> Row:
    measure = f"{name}, mean of {number} markets of noise"
    return compare(measure, "PR-AUC", area, better="higher", peer=base, peer_name="base rate")


def main() -> None:
    """Run the benchmark, print the table, and write it with the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markets", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--hours", type=float, default=12.0, help="of each (%(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON (%(default)s)")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="(%(default)s)")
    options = parser.parse_args()
    settings = _settings(options.hours)
    began = time.monotonic()
    found, own = [], []
    for seed in tqdm(range(options.markets), unit=" market", disable=None):
        found.append(evaluations(settings, seed))
        own.append(ours(settings, seed))
    measured = rows(found, own)
    results.write(measured, options.output)
    areas = {name: [one[name].pr_auc for one in found] for name in found[0]}
    areas[OURS] = [one.pr_auc for one in own]
    noise_plot.write(
        areas,
        measured[-2].peer or 0.0,
        {name: (found[0][name].spikes, found[0][name].scores) for name in (RANDOM, PURGED)},
        options.picture,
    )
    print(results.table(measured))
    print(f"{time.monotonic() - began:.0f} s; {options.picture}")


def _settings(hours: float) -> Settings:
    settings = Settings()
    return replace(settings, evaluate=replace(settings.evaluate, placebo_hours=hours))


if __name__ == "__main__":
    main()
