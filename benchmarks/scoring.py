"""Measure the score of one row beside scikit-learn's own prediction."""

from __future__ import annotations

from functools import partial
from statistics import median

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.results import Row, compare
from benchmarks.timing import microseconds_each
from volatility import trees
from volatility.bundle import INPUT_COLUMNS, Bundle
from volatility.dataset import assemble
from volatility.features import FeatureFrame
from volatility.model import fit_bundle
from volatility.settings import Settings, Train

SCORED_ROWS = 2000
PEER_SCORED_ROWS = 400  # it takes a millisecond a row
ROUNDS = 10

Floats = npt.NDArray[np.float64]


def measure(frame: FeatureFrame) -> list[Row]:
    """Measure the score of one row, with a model of the shipped size fitted on ``frame``.

    Raises
    ------
    RuntimeError
        When a raw score is not scikit-learn's, bit for bit: then nothing is comparable.
    """
    settings = Settings()
    data = assemble([frame], settings.label)
    bundle = fit_bundle(data, settings)
    inputs = np.ascontiguousarray(data.rows[:, INPUT_COLUMNS])
    spikes = data.values >= bundle.specification.tau
    classifier = _fit(inputs, spikes, settings.train)
    bundle = Bundle(bundle.specification, trees.from_classifier(classifier))
    if not np.array_equal(bundle.trees.raw(inputs), classifier.decision_function(inputs)):
        raise RuntimeError("the trees' raw scores are not scikit-learn's, bit for bit")

    chosen = np.linspace(0, len(data) - 1, SCORED_ROWS).astype(int)
    rows = [data.rows[i : i + 1].copy() for i in chosen]
    narrow = [inputs[i : i + 1].copy() for i in chosen]
    slope, intercept = bundle.specification.slope, bundle.specification.intercept

    def walk(row: Floats) -> Floats:
        return trees.sigmoid(bundle.trees.raw(row), slope, intercept)

    bundle.score(rows[0])  # compiled for one row: another memory layout than of several
    walk(narrow[0])
    scored, walked, peer = [], [], []
    for part in range(ROUNDS):  # in turn, so that a busy second falls on all three
        scored += microseconds_each(bundle.score, rows[part::ROUNDS])
        walked += microseconds_each(walk, narrow[part::ROUNDS])
        some = narrow[part :: ROUNDS * SCORED_ROWS // PEER_SCORED_ROWS]
        peer += microseconds_each(classifier.predict_proba, some)
    against = partial(compare, peer=median(peer), peer_name="scikit-learn predict_proba")
    name = f"score of one row, {len(bundle.trees.roots)} trees"
    return [
        against(f"{name}, Bundle.score, median (wall time)", "us", median(scored), target=10.0),
        compare(f"{name}, Bundle.score, p99 (wall time)", "us", float(np.quantile(scored, 0.99))),
        against(
            f"{name}, tree walk and sigmoid, median (wall time)", "us", median(walked), target=10.0
        ),
    ]


def _fit(
    inputs: Floats, spikes: npt.NDArray[np.bool_], options: Train
) -> HistGradientBoostingClassifier:
    """Fit scikit-learn's classifier of the shipped size."""
    return HistGradientBoostingClassifier(
        learning_rate=options.learning_rate,
        max_iter=options.iterations,
        max_leaf_nodes=options.max_leaf_nodes,
        min_samples_leaf=options.min_samples_leaf,
        l2_regularization=options.l2_regularization,
        early_stopping=False,
        random_state=options.seed,
    ).fit(inputs, spikes)
