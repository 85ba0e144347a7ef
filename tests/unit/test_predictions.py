"""Out-of-sample predictions are out of sample, and are read back as they were written."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from tests.bundles import random_dataset, small_bundle
from tests.examples import SMALL, dataset, walked
from volatility.dataset import Dataset
from volatility.evaluation.predictions import (
    BASELINE,
    LEAST_ROWS,
    Predictions,
    Said,
    concatenate,
    predict,
    read_predictions,
    realised_bps,
    walk_forward_predictions,
    write_predictions,
)
from volatility.features.table import LONGEST_WINDOW_SECONDS
from volatility.models.fit import TrainingError
from volatility.models.prior import shipped
from volatility.models.simple import SIMPLE
from volatility.units import SECOND


def assert_same(one: Predictions, two: Predictions) -> None:
    assert one.data.digest() == two.data.digest()
    assert one.simple == two.simple
    for name in ("fold", "spike_level_bps", "quantile_level_bps"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert list(one.said) == list(two.said)
    for name in one.said:
        for field in fields(Said):
            mine, theirs = (getattr(x.said[name], field.name) for x in (one, two))
            np.testing.assert_array_equal(mine, theirs, err_msg=f"{name} {field.name}")


def test_every_model_says_something_of_every_row() -> None:
    found = walked().predictions
    assert set(found.said) == {*SIMPLE, "ml", "prior", BASELINE}
    for name, said in found.said.items():
        assert (said.volatility_bps > 0.0).all(), name
        assert ((said.score >= 0.0) & (said.score <= 1.0)).all()
        assert (np.diff(said.quantiles_bps, axis=1) >= 0.0).all()
        assert (np.diff(said.exceedance, axis=1) <= 0.0).all()  # of rising levels
        assert np.isfinite(said.crps_bps[:, 0]).all()
        assert ((said.pit >= 0.0) & (said.pit <= 1.0)).all()
        known = name in {"ml", "prior", BASELINE}
        assert np.isfinite(said.threshold).all() == known


def test_no_fold_saw_what_it_predicts() -> None:
    found = walked()
    margin = (SMALL.forecast.horizons[-1] + LONGEST_WINDOW_SECONDS) * SECOND
    assert [fold.fold for fold in found.folds] == sorted(set(found.predictions.fold.tolist()))
    for fold in found.folds:
        time = found.predictions.data.time[found.predictions.fold == fold.fold]
        assert fold.train_stop + margin <= time.min()
    pairs = np.column_stack([found.predictions.data.time, found.predictions.data.symbol])
    assert len(np.unique(pairs, axis=0)) == len(pairs)


def test_levels_are_those_of_the_training_rows() -> None:
    found = walked().predictions
    first = found.data.time[found.fold == 2].min()
    data = dataset()
    margin = (SMALL.forecast.horizons[-1] + LONGEST_WINDOW_SECONDS) * SECOND
    for place in range(len(data.symbols)):
        train = (data.time + margin <= first) & (data.symbol == place)
        level = np.quantile(realised_bps(data)[train, 0], SMALL.forecast.spike_quantile)
        mine = (found.fold == 2) & (found.data.symbol == place)
        assert found.spike_level_bps[mine, 0] == pytest.approx(level)
        assert found.quantile_level_bps[mine, 1] == pytest.approx(level)


def test_the_baseline_is_what_each_fold_chose() -> None:
    found = walked()
    assert found.predictions.simple == tuple(fold.best_simple for fold in found.folds)
    for fold in found.folds:
        mine = found.predictions.fold == fold.fold
        chosen, baseline = (
            found.predictions.said[name].volatility_bps[mine]
            for name in (fold.best_simple, BASELINE)
        )
        np.testing.assert_array_equal(chosen, baseline)


def test_the_baseline_is_chosen_before_the_rows_are_seen() -> None:
    bundle = small_bundle()
    data = random_dataset(200, seed=9)
    # Rows on which another simple forecast would be perfect change nothing.
    said = predict(bundle, data).said["persistence_900s"].volatility_bps / 1e4
    other = replace(data, variance=np.square(said) / np.array(data.horizons))
    for rows in (data, other):
        found = predict(bundle, rows)
        assert found.simple == (bundle.specification.best_simple,)
        best = found.said[bundle.specification.best_simple]
        np.testing.assert_array_equal(found.said[BASELINE].score, best.score)


@pytest.mark.slow
def test_a_row_is_predicted_the_same_among_others_and_alone() -> None:
    bundle, data = small_bundle(symbols=("A-USD", "B-USD")), random_dataset(60, 3, ("B-USD", "C"))
    chosen = np.array([3, 8, 41])
    assert_same(predict(bundle, data).take(chosen), predict(bundle, data.take(chosen)))


def test_an_unknown_symbol_is_predicted_by_the_pooled_levels() -> None:
    bundle = small_bundle(symbols=("A-USD", "B-USD"))
    found = predict(bundle, random_dataset(20, 3, ("B-USD", "C-USD")))
    levels = np.array(bundle.specification.spike_levels_bps)
    assert found.spike_level_bps[0] == pytest.approx(levels[1])
    assert found.spike_level_bps[1] == pytest.approx(levels[2])


def test_parts_are_joined_in_order() -> None:
    bundle, data = small_bundle(), random_dataset(60, 3)
    one, two = data.take(np.arange(25)), data.take(np.arange(25, 60))
    joined = concatenate(data, [predict(bundle, one, 1), predict(bundle, two, 1)])
    whole = predict(bundle, data, 1)
    assert_same(joined, replace(whole, simple=whole.simple * 2))


def test_too_few_rows_are_refused() -> None:
    few = random_dataset(LEAST_ROWS - 1)
    with pytest.raises(TrainingError, match="too few to train on"):
        walk_forward_predictions(few, SMALL, shipped(), progress=False)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "predictions.parquet"
    write_predictions(walked().predictions, path)
    return path


def read(path: Path, data: Dataset) -> Predictions:
    return read_predictions(path, data, walked().predictions.simple)


def test_what_is_written_is_read_back(stored: Path) -> None:
    assert_same(read(stored, dataset()), walked().predictions)


def test_rows_that_came_since_do_not_matter(stored: Path) -> None:
    data = dataset()
    later = replace(
        data,
        symbol=np.append(data.symbol, 0),
        time=np.append(data.time, data.time[-1] + 30 * SECOND),
        rows=np.vstack([data.rows, data.rows[-1:]]),
        variance=np.vstack([data.variance, data.variance[-1:]]),
    )
    assert_same(read(stored, later), walked().predictions)


def test_labels_that_came_to_be_known_since_are_not_judged(stored: Path) -> None:
    before = walked().predictions
    unknown = np.isnan(before.data.variance)
    assert unknown[:, 2].any()  # the last quarter of an hour, when it was written
    data = dataset()
    now = replace(data, variance=np.where(np.isnan(data.variance), 1e-9, data.variance))
    found = read(stored, now)
    np.testing.assert_array_equal(np.isnan(found.data.variance), unknown)
    assert_same(found, before)


def changed(data: Dataset, way: str) -> Dataset:
    if way == "outcome":
        variance = data.variance.copy()
        variance[-1, 0] *= 1.001
        return replace(data, variance=variance)
    if way == "row gone":
        return data.take(np.arange(len(data) - 1))
    if way == "outcome unknown":
        variance = data.variance.copy()
        variance[-1, 0] = np.nan
        return replace(data, variance=variance)
    if way == "symbol":
        return replace(data, symbols=("BTC-USD", "SOL-USD"))
    if way == "horizons":
        return replace(data, horizons=(60, 300, 600))
    return data.take(np.empty(0, dtype=np.int64))


@pytest.mark.parametrize(
    "way", ["outcome", "row gone", "outcome unknown", "symbol", "horizons", "nothing"]
)
def test_features_that_changed_since_are_refused(stored: Path, way: str) -> None:
    with pytest.raises(TrainingError, match="features have changed since training"):
        read(stored, changed(dataset(), way))


def test_no_predictions_and_damaged_ones_are_refused(stored: Path) -> None:
    with pytest.raises(TrainingError, match="does not exist; run `volatility train`"):
        read(stored.with_name("other.parquet"), dataset())
    stored.write_bytes(stored.read_bytes()[:100])
    with pytest.raises(TrainingError, match="damaged"):
        read(stored, dataset())
