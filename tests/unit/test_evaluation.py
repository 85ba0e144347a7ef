from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import msgspec
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tests.examples import SMALL, dataset, trained
from volatility.baselines import NAMES
from volatility.bundle import Bundle
from volatility.evaluation import (
    EvaluationError,
    Json,
    against_baselines,
    clean,
    effective_windows,
    evaluate,
    evaluate_bundle,
    importances,
    unseen,
)
from volatility.feature_table import LONGEST_WINDOW_SECONDS, MODEL_INPUTS
from volatility.metrics import Bootstrap
from volatility.training import MODELS, Predictions

SECOND = 1_000_000_000
MARGIN = 60 + LONGEST_WINDOW_SECONDS


def last_fold() -> Predictions:
    predictions = trained().predictions
    return predictions.take(np.flatnonzero(predictions.fold == 2))


@cache
def result() -> Json:
    return evaluate(
        trained().predictions,
        SMALL,
        trained().bundle,
        source="walk-forward",
        folds=trained().folds,
    )


def test_the_keys_that_others_read_are_there() -> None:
    found = result()
    assert {
        "rows", "effective_windows", "base_rate", "models", "ml_vs_best_baseline", "per_day",
    } <= set(found)  # fmt: skip
    assert set(found["models"]) == {"ml", "persistence", "ewma", "har", "garch"}
    for metrics in found["models"].values():
        assert {
            "pr_auc", "roc_auc", "brier", "calibration_error", "pr_auc_interval", "threshold",
            "precision", "recall", "alerts_per_hour", "event_recall", "lead_seconds", "events",
        } == set(metrics)  # fmt: skip
    assert set(found["ml_vs_best_baseline"]) == {"baseline", "difference", "interval"}
    assert found["block_seconds"] >= 600


def test_it_is_json_without_nan() -> None:
    assert json.loads(json.dumps(result(), allow_nan=False)) == result()


def test_the_figures_are_those_of_the_rows() -> None:
    found, predictions = result(), trained().predictions
    spikes = predictions.data.values >= predictions.tau
    assert found["rows"] == len(predictions.data)
    assert found["base_rate"] == spikes.mean()
    for name in MODELS:
        expected = average_precision_score(spikes, predictions.scores[name])
        assert found["models"][name]["pr_auc"] == pytest.approx(expected, abs=1e-12)
        low, high = found["models"][name]["pr_auc_interval"]
        assert 0.0 < low < expected < high < 1.0
    assert sum(day["rows"] for day in found["per_day"]) == found["rows"]
    assert [day["date"] for day in found["per_day"]] == ["2026-01-05"]
    assert sum(fold["test_rows"] for fold in found["folds"]) == found["rows"]
    weighted = sum(fold["base_rate"] * fold["test_rows"] for fold in found["folds"])
    assert weighted / found["rows"] == pytest.approx(found["base_rate"])


def test_the_model_is_measured_at_its_own_thresholds() -> None:
    predictions, metrics = trained().predictions, result()["models"]["ml"]
    alerts = predictions.scores["ml"] >= predictions.threshold
    assert metrics["precision"] == pytest.approx(predictions.spikes[alerts].mean())
    assert metrics["recall"] == pytest.approx(alerts[predictions.spikes].mean())
    assert metrics["threshold"] == trained().bundle.threshold
    for name in NAMES:
        # Each baseline gets the threshold that meets the budget on these very rows.
        assert result()["models"][name]["alerts_per_hour"] <= SMALL.train.alerts_per_hour


def test_the_reliability_and_the_curves_can_be_drawn() -> None:
    for name in MODELS:
        bins = result()["reliability"][name]
        assert sum(bins["rows"]) == result()["rows"]
        assert bins["score"] == sorted(bins["score"])
        curve = result()["curves"][name]
        assert len(curve["recall"]) == len(curve["precision"]) <= 200
        assert (curve["recall"][0], curve["recall"][-1]) == (1.0, 0.0)


def test_importances_name_every_input_and_find_the_informative() -> None:
    found = result()["importances"]
    assert sorted(row["feature"] for row in found) == sorted(MODEL_INPUTS)
    drops = [row["importance"] for row in found]
    assert drops == sorted(drops, reverse=True)
    assert drops[0] > 0.01
    used = {MODEL_INPUTS[k] for k in set(trained().bundle.trees.feature.tolist()) if k >= 0}
    assert all(row["importance"] == 0.0 for row in found if row["feature"] not in used)
    assert found == importances(trained().bundle, last_fold(), SMALL.train.seed)


def test_importances_leave_the_rows_as_they_were() -> None:
    before = last_fold().data.digest()
    held_out = last_fold()
    importances(trained().bundle, held_out, 0)
    assert held_out.data.digest() == before
    calm = replace(held_out, tau=np.full(len(held_out.data), 1e9))
    assert importances(trained().bundle, calm, 0) == []


def test_the_best_baseline_is_the_one_with_the_highest_area() -> None:
    points = {"ml": 0.5, "persistence": 0.2, "ewma": 0.45, "har": 0.3, "garch": 0.44}
    drawn = {name: np.full(10, point) for name, point in points.items()}
    found = against_baselines(Bootstrap(points | {"champion": 0.9}, drawn))
    assert found["baseline"] == "ewma"
    assert found["difference"] == pytest.approx(0.05)
    assert found["interval"] == pytest.approx([0.05, 0.05])
    best = max(NAMES, key=lambda name: result()["models"][name]["pr_auc"])
    assert result()["ml_vs_best_baseline"]["baseline"] == best


def test_windows_that_overlap_count_once() -> None:
    data = dataset()
    assert effective_windows(data, 60) == pytest.approx(len(data) / 60, abs=2)
    assert effective_windows(data.take(np.arange(0, len(data), 60)), 60) == pytest.approx(
        len(data) / 60, abs=2
    )
    first = data.take(np.flatnonzero(data.time // (60 * SECOND) == data.time[600] // (60 * SECOND)))
    assert len(first) == 60
    assert effective_windows(first, 60) == 1
    both = replace(first, symbol=np.arange(60) % 2)
    assert effective_windows(both, 60) == 2


def moved(train_start: int, train_stop: int) -> Bundle:
    bundle = trained().bundle
    return replace(
        bundle,
        specification=msgspec.structs.replace(
            bundle.specification, train_start=train_start, train_stop=train_stop
        ),
    )


def test_rows_whose_windows_touch_the_training_rows_are_seen() -> None:
    start, stop = 1_000_000 * SECOND, 1_010_000 * SECOND
    seconds = np.array(
        [
            1_000_000 - MARGIN - 1,
            1_000_000 - MARGIN,
            1_000_000,
            1_005_000,
            1_010_000,
            1_010_000 + MARGIN,
            1_010_000 + MARGIN + 1,
        ]
    )
    assert unseen(moved(start, stop), seconds * SECOND).tolist() == [0, 6]


def test_a_bundle_is_evaluated_on_unseen_rows_alone() -> None:
    found = evaluate_bundle(trained().bundle, dataset(), SMALL)
    spec = trained().bundle.specification
    later = dataset().time > spec.train_stop + MARGIN * SECOND
    assert found["source"] == "model"
    assert found["rows"] == later.sum()
    assert found["excluded_rows"] == len(dataset()) - later.sum()
    assert found["folds"] == []
    # The rows after the embargo are those that the last fold was tested on.
    expected = average_precision_score(last_fold().spikes, last_fold().scores["ml"])
    assert found["models"]["ml"]["pr_auc"] == pytest.approx(expected, abs=0.01)


def test_seen_rows_alone_cannot_be_evaluated() -> None:
    spec = trained().bundle.specification
    seen = dataset().take(np.flatnonzero(dataset().time <= spec.train_stop))
    with pytest.raises(EvaluationError, match="ticks that it has not seen"):
        evaluate_bundle(trained().bundle, seen, SMALL)


@pytest.mark.parametrize("tau", [0.0, 1e9])
def test_rows_of_one_kind_cannot_be_evaluated(tau: float) -> None:
    one_kind = replace(last_fold(), tau=np.full(len(last_fold().data), tau))
    with pytest.raises(EvaluationError, match="evaluate on more ticks"):
        evaluate(one_kind, SMALL, trained().bundle, source="model")


def test_a_day_without_spikes_has_no_area() -> None:
    predictions = trained().predictions
    days = np.where(predictions.fold == 1, 0, 86_400) * SECOND
    calm = predictions.fold == 1
    split = replace(
        predictions,
        data=replace(predictions.data, time=predictions.data.time + days),
        tau=np.where(calm, 1e9, predictions.tau),
    )
    found = evaluate(split, SMALL, trained().bundle, source="walk-forward")
    assert [day["date"] for day in found["per_day"]] == ["2026-01-05", "2026-01-06"]
    assert found["per_day"][0]["pr_auc"] == dict.fromkeys(MODELS)
    assert found["per_day"][0]["base_rate"] == 0.0
    json.dumps(found, allow_nan=False)


def test_clean_turns_what_json_lacks_into_null() -> None:
    value = {"a": [float("nan"), 1.0, (float("inf"),)], "b": {"c": -float("inf")}, "d": "NaN"}
    assert clean(value) == {"a": [None, 1.0, [None]], "b": {"c": None}, "d": "NaN"}
    assert clean({"e": np.float64("nan")}) == {"e": None}
