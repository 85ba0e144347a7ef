"""The evaluation measures every model on the same rows, and says all that others read."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import msgspec
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tests.examples import SMALL, SYMBOLS, dataset, trained, walked
from volatility.evaluation import (
    BASELINE,
    EvaluationError,
    Predictions,
    block_gains,
    evaluate,
    evaluate_bundle,
    predict,
    unseen,
)
from volatility.evaluation.blocks import symbol_weights
from volatility.evaluation.importances import permutation_importances
from volatility.evaluation.resampled import losses, resample, spikes_of
from volatility.evaluation.versus import versus
from volatility.features.table import INDEX, LONGEST_WINDOW_SECONDS, MODEL_INPUTS
from volatility.files import Json, plain
from volatility.models.bundle import Bundle
from volatility.models.simple import SIMPLE
from volatility.units import SECOND

BLOCK_NS = SMALL.evaluate.block_seconds * SECOND
MARGIN = SMALL.forecast.horizons[-1] + LONGEST_WINDOW_SECONDS
MODELS = {*SIMPLE, "ml", "prior", BASELINE}


@cache
def result() -> Json:
    """Return the content of ``evaluation.json``."""
    found = evaluate(
        walked().predictions, SMALL, trained(), source="walk-forward", folds=walked().folds
    )
    content: Json = plain(found)
    return content


def last_fold() -> Predictions:
    predictions = walked().predictions
    return predictions.take(np.flatnonzero(predictions.fold == 2))


@pytest.mark.slow
def test_the_keys_that_others_read_are_there() -> None:
    found = result()
    assert {
        "rows", "effective_windows", "base_rate", "models", "ml_vs_best_simple", "per_symbol",
        "per_day", "folds", "confidence_set", "days", "importances", "model",
    } <= set(found)  # fmt: skip
    assert set(found["models"]) == MODELS
    for metrics in found["models"].values():
        assert {"qlike", "crps_bps", "pr_auc", "brier", "calibration_error"} <= set(metrics)
        assert set(metrics["horizons"]) == {"60s", "300s", "900s"}
        assert set(metrics["levels"]) == {"0.8", "0.9", "0.95", "0.99"}
    against = found["ml_vs_best_simple"]
    assert against["baseline"] == ", ".join(dict.fromkeys(walked().predictions.simple))
    for measure in ("qlike", "crps_bps", "pr_auc", "brier"):
        assert {"difference", "interval"} <= set(against[measure])
        low, high = against[measure]["interval"]
        assert low <= against[measure]["difference"] <= high
    assert found["block_seconds"] >= 1200


def test_it_is_json_without_nan() -> None:
    assert json.loads(json.dumps(result(), allow_nan=False)) == result()


def test_the_figures_are_those_of_the_rows() -> None:
    found, predictions = result(), walked().predictions
    data, spikes = predictions.data, spikes_of(predictions)
    weight = symbol_weights(data.symbol)
    assert found["rows"] == len(data)
    assert found["base_rate"] == pytest.approx(np.average(spikes, weights=weight))
    # Two symbols share the clock: a window of both is one.
    minutes = {t // (60 * SECOND) for t in data.time.tolist()}
    assert found["effective_windows"] == len(minutes)
    assert found["blocks"] == len({t // BLOCK_NS for t in data.time.tolist()})
    for name, said in predictions.said.items():
        metrics = found["models"][name]
        forecast, real = said.volatility_bps[:, 0], predictions.realised_bps[:, 0]
        loss = 2.0 * np.log(forecast) + (real / forecast) ** 2
        assert metrics["qlike"] == pytest.approx(np.average(loss, weights=weight))
        low, high = metrics["qlike_interval"]
        assert low < metrics["qlike"] < high
        squares = (said.score[:, 0] - spikes) ** 2
        assert metrics["brier"] == pytest.approx(np.average(squares, weights=weight))


def test_pr_auc_ranks_each_symbol_and_fold_apart() -> None:
    predictions = walked().predictions
    data, spikes = predictions.data, spikes_of(predictions)
    for name, said in predictions.said.items():
        areas, rows = [], []
        for fold in (1, 2):
            for symbol in range(len(SYMBOLS)):
                mine = (predictions.fold == fold) & (data.symbol == symbol)
                areas.append(average_precision_score(spikes[mine], said.score[mine, 0]))
                rows.append(mine.sum())
        assert len(set(rows)) <= 2  # both symbols have as many rows, so that rows are weights
        expected = np.average(areas, weights=rows)
        assert result()["models"][name]["pr_auc"] == pytest.approx(expected)


def test_parts_add_up_to_the_whole() -> None:
    found = result()
    for parts in ("per_symbol", "per_day", "folds"):
        assert sum(part["rows"] for part in found[parts]) == found["rows"]
    assert [part["name"] for part in found["per_symbol"]] == list(SYMBOLS)
    assert [part["date"] for part in found["per_day"]] == ["2026-01-05"]
    for name in MODELS:
        mean = np.mean([part["models"][name]["qlike"] for part in found["per_symbol"]])
        assert found["models"][name]["qlike"] == pytest.approx(mean)
        whole = found["per_day"][0]["models"][name]
        assert whole["pr_auc"] == pytest.approx(found["models"][name]["pr_auc"])
    assert [fold["best_simple"] for fold in found["folds"]] == list(walked().predictions.simple)


def doubled(predictions: Predictions) -> Predictions:
    """Return the same rows with every symbol there a second time, under another name."""
    data = predictions.data
    count = len(data.symbols)
    twice = predictions.take(np.repeat(np.arange(len(data)), 2))
    symbol = twice.data.symbol + count * np.tile([0, 1], len(data))
    names = (*data.symbols, *(f"{name}-AGAIN" for name in data.symbols))
    return replace(twice, data=replace(twice.data, symbols=names, symbol=symbol))


def test_a_symbol_under_another_name_is_no_more_evidence() -> None:
    once, twice = walked().predictions, doubled(walked().predictions)
    first, second = (
        plain(versus(each, resample(each, SMALL), "ml", BASELINE)) for each in (once, twice)
    )
    for measure in ("qlike", "crps_bps", "pr_auc", "brier"):
        assert second[measure]["difference"] == pytest.approx(first[measure]["difference"])
        assert second[measure]["interval"] == pytest.approx(first[measure]["interval"])
    assert second["diebold_mariano"] == pytest.approx(first["diebold_mariano"])
    for mine, theirs in zip(block_gains(once, SMALL), block_gains(twice, SMALL), strict=True):
        np.testing.assert_allclose(mine, theirs)


def test_a_busy_symbol_counts_no_more_than_a_quiet_one() -> None:
    predictions = walked().predictions
    thin = (predictions.data.symbol == 0) | (predictions.data.time // SECOND % 300 == 0)
    some = predictions.take(np.flatnonzero(thin))
    _, first = block_gains(some, SMALL)
    alone = [
        block_gains(some.take(np.flatnonzero(some.data.symbol == place)), SMALL)[1]
        for place in range(2)
    ]
    assert first == pytest.approx((alone[0] + alone[1]) / 2.0)


def test_block_gains_by_hand() -> None:
    predictions = walked().predictions
    ends, gains = block_gains(predictions, SMALL)
    data = predictions.data
    assert (np.diff(ends) > 0).all()
    assert set((ends // BLOCK_NS - 1).tolist()) == {t // BLOCK_NS for t in data.time.tolist()}
    gain = losses(predictions, BASELINE) - losses(predictions, "ml")
    block = int(ends[2]) // BLOCK_NS - 1
    # Rows whose minute reaches into the next block belong to no block.
    inside = (data.time // BLOCK_NS == block) & ((data.time + 60 * SECOND) // BLOCK_NS == block)
    each = [gain[inside & (data.symbol == place)].mean() for place in range(2)]
    assert gains[2] == pytest.approx(np.mean(each))
    reverse = block_gains(predictions, SMALL, BASELINE, "ml")[1]
    np.testing.assert_allclose(reverse, -gains)


def test_rows_that_reach_into_the_next_block_do_not_count() -> None:
    predictions = walked().predictions
    crossing = predictions.data.time % BLOCK_NS >= BLOCK_NS - 60 * SECOND
    assert crossing.any()
    variance = predictions.data.variance.copy()
    variance[crossing] *= 100.0
    other = replace(predictions, data=replace(predictions.data, variance=variance))
    np.testing.assert_array_equal(block_gains(other, SMALL)[1], block_gains(predictions, SMALL)[1])
    inside = np.flatnonzero(~crossing)[-1]
    variance[inside] *= 100.0
    assert (block_gains(other, SMALL)[1] != block_gains(predictions, SMALL)[1]).any()


def test_no_rows_have_no_blocks() -> None:
    none = walked().predictions.take(np.empty(0, dtype=np.int64))
    ends, gains = block_gains(none, SMALL)
    assert len(ends) == len(gains) == 0
    with pytest.raises(EvaluationError, match="no rows"):
        evaluate(none, SMALL, trained(), source="model")


def test_alerts_are_measured_at_each_fold_s_own_threshold() -> None:
    predictions, metrics = walked().predictions, result()["models"]["ml"]
    said, spikes = predictions.said["ml"], spikes_of(predictions)
    alerts = said.score[:, 0] >= said.threshold
    assert metrics["precision"] == pytest.approx(spikes[alerts].mean())
    assert metrics["recall"] == pytest.approx(alerts[spikes].mean())
    assert metrics["threshold"] == said.threshold[-1]
    for name in SIMPLE:
        # What never serves gets the threshold that meets the budget on these very rows.
        assert result()["models"][name]["alerts_per_hour"] <= SMALL.train.alerts_per_hour


def test_a_model_like_the_baseline_is_told_apart_by_nothing() -> None:
    predictions = walked().predictions
    same = replace(predictions, said={**predictions.said, "ml": predictions.said[BASELINE]})
    found = plain(versus(same, resample(same, SMALL), "ml", BASELINE))
    for measure in ("qlike", "crps_bps", "pr_auc", "brier"):
        assert found[measure]["difference"] == 0.0
        assert found[measure]["interval"] == [0.0, 0.0]
    assert found["diebold_mariano"] == {"statistic": 0.0, "p_value": 1.0}
    assert not block_gains(same, SMALL)[1].any()


@pytest.mark.slow
def test_a_better_model_is_told_apart() -> None:
    predictions = walked().predictions
    best = predictions.said["ml"]
    worse = replace(best, volatility_bps=3.0 * best.volatility_bps)
    both = replace(predictions, said={**predictions.said, "worse": worse})
    found = plain(versus(both, resample(both, SMALL), "ml", "worse"))
    assert found["qlike"]["interval"][1] < 0.0
    assert found["diebold_mariano"]["statistic"] < 0.0
    assert found["horizons"]["900s"]["qlike"]["interval"][1] < 0.0
    whole = plain(evaluate(both, SMALL, trained(), source="model"))
    ranked = whole["confidence_set"]
    assert set(ranked["p_values"]) == {*both.said} - {BASELINE}  # it is one of the others
    assert "worse" not in ranked["included"]
    best = min(ranked["p_values"], key=lambda name: whole["models"][name]["qlike"])
    assert best in ranked["included"]


def test_the_reliability_can_be_drawn() -> None:
    for metrics in result()["models"].values():
        bins = metrics["reliability"]
        assert sum(bins["weight"]) == pytest.approx(1.0)
        assert bins["score"] == sorted(bins["score"])


def test_days_show_forecast_and_outcome() -> None:
    days = result()["days"]
    assert [day["title"] for day in days] == ["best", "median", "worst"]
    assert days[0]["gain"] >= days[1]["gain"] >= days[2]["gain"]
    for day in days:
        lengths = {len(day[key]) for key in day if key.endswith("_bps") or key == "time"}
        assert len(lengths) == 1
        assert day["symbol"] in SYMBOLS


def test_importances_find_the_informative_and_leave_the_rows_as_they_were() -> None:
    found = result()["importances"]
    rises = [row["importance"] for row in found]
    assert rises == sorted(rises, reverse=True)
    assert rises[0] > 0.01
    held_out, bundle = last_fold(), trained()
    before = held_out.data.digest()
    place = bundle.places(held_out.data.symbols)[held_out.data.symbol]
    real = held_out.realised_bps[:, 0]
    again = permutation_importances(bundle, held_out.data.rows, place, real, SMALL.train.seed)
    assert [one.feature for one in again] == [row["feature"] for row in found]
    assert held_out.data.digest() == before
    assert "midprice" not in {one.feature for one in again}  # no model reads the price itself


def test_a_feature_that_is_not_read_has_no_importance() -> None:
    held_out, bundle = last_fold(), trained()
    data = held_out.data
    place = bundle.places(data.symbols)[data.symbol]
    said = bundle.forecast(data.rows, place).volatility_bps
    real = held_out.realised_bps[:, 0]
    found = {one.feature for one in permutation_importances(bundle, data.rows, place, real, 0)}
    for name in set(MODEL_INPUTS) - found:
        rows = data.rows.copy()
        rows[:, INDEX[name]] = np.random.default_rng(0).permutation(rows[:, INDEX[name]])
        again = bundle.forecast(rows[::3], place[::3]).volatility_bps
        np.testing.assert_array_equal(again, said[::3])


def moved(train_start: int, train_stop: int) -> Bundle:
    bundle = trained()
    spec = msgspec.structs.replace(
        bundle.specification, train_start=train_start, train_stop=train_stop
    )
    return replace(bundle, specification=spec)


def test_rows_whose_windows_touch_the_training_rows_are_seen() -> None:
    start, stop = 1_000_000, 1_010_000
    seconds = np.array(
        [start - MARGIN - 1, start - MARGIN, start, stop, stop + MARGIN, stop + MARGIN + 1]
    )
    found = unseen(moved(start * SECOND, stop * SECOND), seconds * SECOND)
    assert found.tolist() == [0, 5]


@pytest.mark.slow
def test_a_bundle_is_evaluated_on_unseen_rows_alone() -> None:
    found = plain(evaluate_bundle(trained(), dataset(), SMALL))
    later = dataset().time > trained().specification.train_stop + MARGIN * SECOND
    assert found["source"] == "model"
    assert found["rows"] == later.sum()
    assert found["excluded_rows"] == len(dataset()) - later.sum()
    assert found["folds"] == []
    own = evaluate(predict(trained(), dataset().take(later)), SMALL, trained(), source="model")
    assert plain(own.models) == found["models"]


def test_seen_rows_alone_cannot_be_evaluated() -> None:
    seen = dataset().take(dataset().time <= trained().specification.train_stop)
    with pytest.raises(EvaluationError, match="ticks that it has not seen"):
        evaluate_bundle(trained(), seen, SMALL)


@pytest.mark.slow
@pytest.mark.parametrize(("level", "base_rate"), [(0.0, 1.0), (1e9, 0.0)])
def test_rows_of_one_kind_are_still_evaluated(level: float, base_rate: float) -> None:
    rows = last_fold()
    one_kind = replace(rows, spike_level_bps=np.full(rows.spike_level_bps.shape, level))
    found = plain(evaluate(one_kind, SMALL, trained(), source="model"))
    assert found["base_rate"] == pytest.approx(base_rate)
    assert found["models"]["ml"]["roc_auc"] is None
    assert found["models"]["ml"]["pr_auc"] == (pytest.approx(1.0) if base_rate else None)
    assert found["models"]["ml"]["qlike"] == pytest.approx(
        np.average(losses(rows, "ml"), weights=symbol_weights(rows.data.symbol))
    )
    json.dumps(found, allow_nan=False)
