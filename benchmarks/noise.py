"""Measure what the usual evaluations find in a market where there is nothing to find.

Run ``python -m benchmarks.noise`` (or ``make bench-noise``). On simulated markets of pure noise
it evaluates a random forest in the usual wrong ways and in the right one, and then this project's
own path. It writes ``benchmarks/results/noise.json`` and the picture ``docs/images/noise.png``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace
from sklearn.ensemble import RandomForestClassifier
from tqdm import tqdm

from benchmarks import noise_plot, results
from benchmarks.results import Row, compare
from volatility.bundle import INPUT_COLUMNS
from volatility.dataset import Dataset, assemble
from volatility.feature_table import INDEX, LONGEST_WINDOW_SECONDS
from volatility.features import FeatureFrame, feature_batches
from volatility.metrics import average_precision
from volatility.placebo import STANDARD_ERRORS, START_NS, run_placebo
from volatility.settings import Settings
from volatility.simulate import noise
from volatility.splits import Fold, walk_forward

RESULTS = Path(__file__).parent / "results" / "noise.json"
PICTURE = Path("docs/images/noise.png")
TREES = 100
TEST_SHARE = 0.2
PAST_SECONDS = 30  # how far the overlapping label reaches back over its features

INPUT_LABEL = "label is a threshold on an input"
OVERLAP = "label window overlaps the features'"
RANDOM = "random split of overlapping windows"
PURGED = "the same, split purged and walk-forward"
OURS = "this project's path"

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """Hold the outcomes bool[n] and the scores float64[n] of one evaluation's test rows."""

    spikes: Bools
    scores: Floats

    @property
    def pr_auc(self) -> float:
        """Area under precision against recall."""
        return average_precision(self.spikes, self.scores)

    @property
    def base_rate(self) -> float:
        """Share of spikes: the PR-AUC of a score that knows nothing."""
        return float(self.spikes.mean())


def market(settings: Settings, seed: int) -> Dataset:
    """Label the rows of a market of pure noise, as the project does."""
    batches = noise("NOISE-USD", START_NS, settings.evaluate.placebo_hours, seed)
    parts = [(t.copy(), r.copy()) for t, r in feature_batches(batches, settings.features)]
    frame = FeatureFrame(
        "NOISE-USD", np.concatenate([t for t, _ in parts]), np.concatenate([r for _, r in parts])
    )
    return assemble([frame], settings.label)


def random_split(count: int, seed: int) -> Fold:
    """Shuffle the rows before they are split, as ``train_test_split`` does."""
    order = np.random.default_rng(seed).permutation(count)
    first = int(count * (1.0 - TEST_SHARE))
    return Fold(np.sort(order[:first]), np.sort(order[first:]))


def forest(data: Dataset, values: Floats, folds: Sequence[Fold], quantile: float) -> Found:
    """Fit a random forest on each fold's training rows and score its test rows.

    A spike is a value of at least the training rows' quantile. The inputs are the project's own.
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
    """Evaluate the forest on one market, by the name of the way."""
    data, label = market(settings, seed), settings.label
    past = data.rows[:, INDEX["volatility_ratio_60s"]]
    both = np.sqrt(data.values**2 + data.rows[:, INDEX["volatility_ratio_30s"]] ** 2)
    purged = walk_forward(
        data.time, settings.train.folds, label.horizon_seconds, LONGEST_WINDOW_SECONDS
    )
    ways = {
        INPUT_LABEL: (past, purged),
        OVERLAP: (both, purged),
        RANDOM: (data.values, [random_split(len(data), seed)]),
        PURGED: (data.values, purged),
    }
    return {
        name: forest(data, np.nan_to_num(values), folds, label.quantile)
        for name, (values, folds) in ways.items()
    }


def rows(found: Sequence[Mapping[str, Found]], placebos: Sequence[tuple[float, ...]]) -> list[Row]:
    """Make the rows: mean PR-AUC beside the mean base rate, and what is promised of ours."""
    number = len(found)
    made = []
    for name in found[0]:
        mean = float(np.mean([one[name].pr_auc for one in found]))
        base = float(np.mean([one[name].base_rate for one in found]))
        made.append(_row(name, number, mean, base))
    areas, bases, errors = (np.array(column) for column in zip(*placebos, strict=True))
    made.append(_row(OURS, number, float(areas.mean()), float(bases.mean())))
    distance = float((np.abs(areas - bases) / errors).max())
    return [
        *made,
        compare(
            f"{OURS}, greatest distance of {number} placebos from the base rate",
            "standard errors",
            distance,
            target=STANDARD_ERRORS,
        ),
    ]


def _row(name: str, number: int, area: float, base: float) -> Row:
    measure = f"{name}, mean of {number} markets of noise"
    return compare(measure, "PR-AUC", area, better="higher", peer=base, peer_name="base rate")


def main() -> None:
    """Measure, print the table, write it and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markets", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--hours", type=float, default=12.0, help="of each (%(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON (%(default)s)")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="(%(default)s)")
    options = parser.parse_args()
    settings = _settings(options.hours)
    began = time.monotonic()
    found, placebos = [], []
    for seed in tqdm(range(options.markets), unit=" market", disable=None):
        found.append(evaluations(settings, seed))
        ours = run_placebo(settings, seed=seed)
        placebos.append((ours.pr_auc, ours.base_rate, ours.standard_error))
    measured = rows(found, placebos)
    results.write(measured, options.output)
    areas = {name: [one[name].pr_auc for one in found] for name in found[0]}
    areas[OURS] = [area for area, _, _ in placebos]
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
