"""What a trained model must do, whatever its figures are."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from tests.examples import SMALL, dataset, trained
from volatility.events import alert_metrics
from volatility.feature_table import FEATURE_NAMES, INDEX, LONGEST_WINDOW_SECONDS, MODEL_INPUTS
from volatility.metrics import average_precision
from volatility.model import fit_bundle
from volatility.splits import calibration_split, walk_forward
from volatility.training import train

RECENT = [
    *(f"volatility_ratio_{window}s" for window in (5, 15, 30, 60)),
    "ewma_ratio_10s",
    "ewma_ratio_60s",
]


def held_out() -> np.ndarray:
    predictions = trained().predictions
    return predictions.data.rows[predictions.fold == predictions.fold.max()]


def test_scores_rise_when_recent_volatility_does() -> None:
    rows, means = held_out(), []
    for factor in (0.5, 1.0, 2.0):
        louder = rows.copy()
        louder[:, [INDEX[name] for name in RECENT]] *= factor
        means.append(float(trained().bundle.score(louder).mean()))
    assert means[0] < means[1] < means[2]
    assert means[2] > 1.2 * means[0]


def test_the_model_finds_what_the_market_announces() -> None:
    predictions = trained().predictions
    last = predictions.take(np.flatnonzero(predictions.fold == predictions.fold.max()))
    assert average_precision(last.spikes, last.scores["ml"]) > 1.3 * last.spikes.mean()


def test_a_row_of_which_nothing_is_known_gets_a_score() -> None:
    nothing = np.full((1, len(FEATURE_NAMES)), np.nan)
    bundle = trained().bundle
    for variant in ("ml", "baseline"):
        score = bundle.as_variant(variant).score(nothing)[0]
        assert 0.0 < score < 1.0
    assert bundle.out_of_distribution(nothing).all()


def test_absurd_rows_get_a_probability_and_a_flag() -> None:
    rows = np.full((4, len(FEATURE_NAMES)), np.nan)
    rows[0], rows[1], rows[2], rows[3] = 1e300, -1e300, 0.0, 5e-324
    scores = trained().bundle.score(rows)
    assert ((scores >= 0.0) & (scores <= 1.0)).all()
    assert trained().bundle.out_of_distribution(rows).all()


def test_rows_like_the_training_rows_are_not_flagged_and_others_are() -> None:
    bundle = trained().bundle
    known = dataset().time <= bundle.specification.train_stop
    assert not bundle.out_of_distribution(dataset().rows[known]).any()
    likeness = bundle.out_of_distribution(held_out()).mean()
    assert likeness < bundle.out_of_distribution(held_out() * 3.0).mean()
    for name in MODEL_INPUTS:
        strange = held_out()[:1].copy()
        strange[0, INDEX[name]] = 1e6
        assert bundle.out_of_distribution(strange).all(), name


@pytest.mark.parametrize("fold", [0, 1])
def test_the_alert_budget_is_kept_on_the_calibration_rows(fold: int) -> None:
    chosen = walk_forward(dataset().time, 2, 60, LONGEST_WINDOW_SECONDS)[fold]
    data = dataset().take(chosen.train)
    with threadpool_limits(1):  # as in training; two threads on a busy machine wait for each other
        bundle = fit_bundle(data, SMALL)
    split = calibration_split(data.time, 0.25, 60, LONGEST_WINDOW_SECONDS)
    calibration = data.take(split.test)
    spikes = calibration.values >= bundle.specification.tau
    for variant in ("ml", "baseline"):
        model = bundle.as_variant(variant)
        scores = model.score(calibration.rows)
        found = alert_metrics(calibration, spikes, scores, model.threshold, 60)
        assert 0.0 < found.alerts_per_hour <= SMALL.train.alerts_per_hour


def test_trained_twice_it_is_the_same_model() -> None:
    with threadpool_limits(4):  # sums in the order of four threads would be another model
        again = train(dataset(), SMALL, progress=False).bundle
    assert again.digest == trained().bundle.digest
    assert again.score(held_out()).tobytes() == trained().bundle.score(held_out()).tobytes()
