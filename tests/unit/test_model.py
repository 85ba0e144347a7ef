from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from tests.examples import SMALL, dataset, trained
from volatility import model
from volatility.bundle import Bundle
from volatility.dataset import Dataset
from volatility.feature_table import LONGEST_WINDOW_SECONDS, MODEL_INPUTS, table_digest
from volatility.features import FeatureFrame
from volatility.metrics import average_precision
from volatility.model import TrainingError, _calibrate, fit_trees, provenance
from volatility.settings import Settings
from volatility.splits import SplitError, calibration_split, walk_forward
from volatility.training import (
    MODELS,
    concatenate,
    read_predictions,
    score_all,
    train,
    write_predictions,
)

SECOND = 1_000_000_000


def fit_bundle(data: Dataset, settings: Settings) -> Bundle:
    """Fit as ``train`` does: sums in the order of several threads would be another model."""
    with threadpool_limits(1):
        return model.fit_bundle(data, settings)


def folds() -> list[Any]:
    return walk_forward(dataset().time, 2, 60, LONGEST_WINDOW_SECONDS)


def test_every_row_is_scored_by_a_model_that_ended_before_it() -> None:
    predictions, summaries = trained().predictions, trained().folds
    assert [summary.fold for summary in summaries] == [1, 2]
    assert set(predictions.scores) == set(MODELS)
    for summary in summaries:
        mine = predictions.take(np.flatnonzero(predictions.fold == summary.fold))
        gap = int(mine.data.time.min()) - summary.train_stop
        assert gap >= (60 + LONGEST_WINDOW_SECONDS) * SECOND
    assert (np.diff(predictions.data.time) > 0).all()


def test_tau_is_that_of_the_fold_s_training_rows() -> None:
    predictions = trained().predictions
    for number, fold in enumerate(folds(), start=1):
        expected = np.quantile(dataset().values[fold.train], 0.9)
        assert set(predictions.tau[predictions.fold == number]) == {expected}
    assert len(set(predictions.tau)) == 2


def test_the_last_fold_s_model_is_the_product() -> None:
    bundle, predictions = trained().bundle, trained().predictions
    last = np.flatnonzero(predictions.fold == 2)
    rows = predictions.data.rows[last]
    assert predictions.scores["ml"][last].tobytes() == bundle.score(rows).tobytes()
    assert set(predictions.threshold[last]) == {bundle.threshold}
    assert bundle.specification.train_stop == trained().folds[-1].train_stop
    assert bundle.specification.train_rows == trained().folds[-1].train_rows


def changed_after(data: Dataset, time_ns: int) -> Dataset:
    """Change every row and label after a time, and the frames they come from."""
    later = data.time > time_ns
    (source,) = data.frames
    rows = source.rows.copy()
    rows[source.time > time_ns] *= 1.7
    return replace(
        data,
        rows=np.where(later[:, None], data.rows * 1.7, data.rows),
        values=np.where(later, data.values * 1.7, data.values),
        frames=(FeatureFrame(source.symbol, source.time, rows),),
    )


def test_nothing_after_the_training_rows_reaches_a_model() -> None:
    data, fold = dataset(), folds()[0]
    before = fit_bundle(data.take(fold.train), SMALL)
    changed = changed_after(data, int(data.time[fold.train[-1]]))
    assert fit_bundle(changed.take(fold.train), SMALL).digest == before.digest


def test_the_trees_see_nothing_of_the_calibration_rows() -> None:
    data = dataset().take(folds()[1].train)
    before = fit_bundle(data, SMALL)
    split = calibration_split(data.time, 0.25, 60, LONGEST_WINDOW_SECONDS)
    rows, values = data.rows.copy(), data.values.copy()
    rows[split.test] *= 1.7
    values[split.test] = np.roll(values[split.test], 300)  # tau stays what it is
    after = fit_bundle(replace(data, rows=rows, values=values), SMALL)
    assert after.specification.tau == before.specification.tau
    for name, array in before.trees.arrays().items():
        assert array.tobytes() == after.trees.arrays()[name].tobytes(), name
    fitted = zip(before.specification.baselines, after.specification.baselines, strict=True)
    assert all(a == b for a, b in fitted)
    assert after.specification.slope != before.specification.slope
    assert after.threshold != before.threshold


def test_the_specification_describes_the_training_rows() -> None:
    data = dataset().take(folds()[0].train)
    bundle = fit_bundle(data, SMALL)
    spec = bundle.specification
    assert spec.feature_digest == table_digest()
    assert (spec.train_start, spec.train_stop) == (data.time[0], data.time[-1])
    assert spec.train_rows == len(data)
    assert spec.symbols == ("BTC-USD",)
    assert spec.data_digest == data.digest()
    assert spec.base_rate == pytest.approx(0.1, abs=0.001)
    assert spec.parameters["train"]["folds"] == 2
    assert not bundle.out_of_distribution(data.rows).any()
    assert len(spec.lowest) == len(MODEL_INPUTS)
    bundle.verify()
    best = {
        b.name: b.score(data.rows) for b in spec.baselines if b.name != "garch"
    }  # chosen among those that one row is enough for
    assert spec.best_baseline in best


def test_training_reports_each_lack() -> None:
    data = dataset()
    with pytest.raises(TrainingError, match=r"1000 labelled rows are too few .*simulate"):
        train(data.take(np.arange(1000)), SMALL, progress=False)
    calm = replace(data, values=np.where(np.arange(len(data)) < 4000, data.values, 0.0))
    with pytest.raises(TrainingError, match=r"for calibration hold 0 spikes; both kinds"):
        fit_bundle(calm, SMALL)
    with pytest.raises(SplitError, match="record more ticks"):
        fit_bundle(data.take(np.arange(1800)), SMALL)


def test_an_absolute_label_trains_too() -> None:
    label = msgspec.structs.replace(SMALL.label, kind="absolute", absolute_threshold=4e-5)
    settings: Settings = msgspec.structs.replace(SMALL, label=label)
    forward = dataset().values * dataset().rows[:, 9]
    bundle = fit_bundle(replace(dataset(), values=forward), settings)
    assert bundle.specification.tau == 4e-5
    assert bundle.specification.label_kind == "absolute"
    assert average_precision(forward >= 4e-5, bundle.score(dataset().rows)) > 0.4


def test_calibration_keeps_the_order_and_meets_the_rate() -> None:
    random = np.random.default_rng(0)
    raw = random.normal(-2.0, 1.5, 20_000)
    spikes = random.random(len(raw)) < 1.0 / (1.0 + np.exp(-(0.5 * raw - 0.3)))
    assert _calibrate(raw, spikes) == pytest.approx((0.5, -0.3), abs=0.05)
    # Where the scores point the wrong way, hardly any of them is left, but in the same order.
    slope, intercept = _calibrate(-raw, spikes)
    assert 0.0 < slope <= 1e-3
    rate = np.mean(1.0 / (1.0 + np.exp(-(slope * -raw + intercept))))
    assert rate == pytest.approx(spikes.mean(), abs=0.002)


def test_the_tree_parameters_are_the_settings() -> None:
    data = dataset().take(np.arange(3000))
    spikes = data.values > 1.5
    options = msgspec.structs.replace(SMALL.train, iterations=7, max_leaf_nodes=3)
    trees = fit_trees(data.rows[:, 20:], spikes, options)
    assert len(trees.roots) == 7
    assert len(trees.feature) <= 7 * 5  # three leaves and two splits a tree
    slower = fit_trees(
        data.rows[:, 20:], spikes, msgspec.structs.replace(options, learning_rate=0.01)
    )
    leaves = [np.abs(found.value[found.feature < 0]).max() for found in (slower, trees)]
    assert leaves[0] < leaves[1]


def test_provenance_says_commit_and_versions() -> None:
    found = provenance()
    assert found.created.endswith("+00:00")
    assert {"numpy", "scikit-learn"} <= set(found.versions)
    assert found.git_commit


def test_stored_predictions_read_back_onto_their_rows(tmp_path) -> None:
    predictions, path = trained().predictions, tmp_path / "new" / "predictions.parquet"
    write_predictions(predictions, path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    found = read_predictions(path, dataset())
    for name in MODELS:
        assert found.scores[name].tobytes() == predictions.scores[name].tobytes()
    assert found.data.digest() == predictions.data.digest()
    assert found.spikes.tolist() == predictions.spikes.tolist()
    assert found.fold.tolist() == predictions.fold.tolist()
    assert found.threshold.tolist() == predictions.threshold.tolist()


def test_predictions_of_other_features_are_refused(tmp_path) -> None:
    path = tmp_path / "predictions.parquet"
    with pytest.raises(TrainingError, match="run `volatility train`"):
        read_predictions(path, dataset())
    write_predictions(trained().predictions, path)
    values = dataset().values.copy()
    values[-1] *= 1.0001
    for other in (
        replace(dataset(), values=values),
        dataset().take(np.arange(len(dataset()) - 10)),
        replace(dataset(), symbols=("ETH-USD",)),
    ):
        with pytest.raises(TrainingError, match="features have changed"):
            read_predictions(path, other)


def test_parts_join_in_order() -> None:
    bundle, data = trained().bundle, dataset()
    parts = [score_all(bundle, data.take(np.arange(a, a + 50)), a) for a in (0, 50, 100)]
    whole = concatenate(parts)
    assert whole.data.digest() == data.take(np.arange(150)).digest()
    assert whole.fold.tolist() == np.repeat([0, 50, 100], 50).tolist()
    assert whole.scores["garch"].tobytes() == (
        score_all(bundle, data.take(np.arange(150))).scores["garch"].tobytes()
    )
