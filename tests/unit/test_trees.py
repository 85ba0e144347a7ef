from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from volatility.trees import Trees, from_arrays, from_classifier, sigmoid

INPUTS = 6


def rows_of(seed: int, count: int, missing: float) -> np.ndarray:
    """Rows with what a market has: ties, zeros, heavy tails, missing values."""
    random = np.random.default_rng(seed)
    rows = random.standard_t(2, (count, INPUTS))
    rows[:, 1] = random.integers(0, 4, count)
    rows[:, 2] = np.exp(5.0 * rows[:, 2].clip(-100, 100))
    rows[random.random(rows.shape) < missing] = np.nan
    return rows


def fit(seed: int, missing: float, **options: Any) -> HistGradientBoostingClassifier:
    random = np.random.default_rng(seed)
    rows = rows_of(seed, 300, missing)
    target = np.nan_to_num(rows[:, 0]) + random.normal(0.0, 1.0, len(rows)) > 0.5
    model = HistGradientBoostingClassifier(early_stopping=False, random_state=seed, **options)
    return model.fit(rows, target)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31 - 1),
    missing=st.sampled_from([0.0, 0.05, 0.5]),
    missing_later=st.sampled_from([0.0, 0.3, 1.0]),
    depth=st.sampled_from([None, 1, 2, 5]),
    leaves=st.integers(2, 31),
    rate=st.floats(1e-3, 2.0),
    iterations=st.integers(1, 15),
    least=st.integers(1, 40),
)
def test_raw_scores_are_those_of_scikit_learn_to_the_bit(
    seed: int,
    missing: float,
    missing_later: float,
    depth: int | None,
    leaves: int,
    rate: float,
    iterations: int,
    least: int,
) -> None:
    with threadpool_limits(1):
        model = fit(
            seed, missing, max_depth=depth, max_leaf_nodes=leaves, learning_rate=rate,
            max_iter=iterations, min_samples_leaf=least,
        )  # fmt: skip
        trees = from_classifier(model)
        rows = np.concatenate(
            [rows_of(seed, 300, missing), rows_of(seed + 1, 100, missing_later), edges(trees)]
        )
        raw = trees.raw(rows)
        assert raw.tobytes() == model.decision_function(rows).tobytes()
        assert sigmoid(raw, 1.0, 0.0).tobytes() == model.predict_proba(rows)[:, 1].tobytes()
    one_by_one = np.array([trees.raw(row[None])[0] for row in rows])
    assert one_by_one.tobytes() == raw.tobytes()
    stored = from_arrays(trees.arrays(), INPUTS)
    assert stored.raw(rows).tobytes() == raw.tobytes()


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.0, 0.3]), st.integers(2, 15))
def test_contributions_and_the_mean_add_up_to_the_raw_score(
    seed: int, missing: float, leaves: int
) -> None:
    with threadpool_limits(1):
        trees = from_classifier(fit(seed, missing, max_iter=8, max_leaf_nodes=leaves))
    rows = rows_of(seed + 1, 50, missing)
    parts = trees.contributions(rows)
    np.testing.assert_allclose(trees.expected + parts.sum(axis=1), trees.raw(rows), atol=1e-12)
    unused = sorted(set(range(INPUTS)) - set(trees.feature.tolist()))
    assert not parts[:, unused].any()
    # What is left of a row of which nothing is known: the mean of the training rows.
    training = rows_of(seed, 300, missing)
    assert trees.expected == pytest.approx(trees.raw(training).mean())


def test_a_contribution_is_the_step_between_the_means_of_the_leaves() -> None:
    """One tree by hand: 4 rows left at -1, 12 right, of which 3 at 2 and 9 at 6."""
    arrays = {
        "start": np.array(0.5),
        "roots": np.array([0], np.int32),
        "feature": np.array([0, -1, 1, -1, -1], np.int32),
        "threshold": np.array([0.0, 0.0, 10.0, 0.0, 0.0]),
        "left": np.array([1, 0, 3, 0, 0], np.int32),
        "right": np.array([2, 0, 4, 0, 0], np.int32),
        "missing_left": np.zeros(5, bool),
        "value": np.array([3.5, -1.0, 5.0, 2.0, 6.0]),  # (4 * -1 + 3 * 2 + 9 * 6) / 16 is 3.5
    }
    trees = from_arrays(arrays, 2)
    parts = trees.contributions(np.array([[-1.0, 0.0], [1.0, 5.0], [1.0, 20.0], [1.0, np.nan]]))
    assert parts.tolist() == [[-4.5, 0.0], [1.5, -3.0], [1.5, 1.0], [1.5, 1.0]]
    assert trees.expected == 4.0


def edges(trees: Trees) -> np.ndarray:
    """Rows exactly on the thresholds, and one step of the number line beside them."""
    split = trees.feature >= 0
    rows = np.zeros((3 * int(split.sum()), INPUTS))
    for place, (feature, threshold) in enumerate(
        zip(trees.feature[split], trees.threshold[split], strict=True)
    ):
        for k, value in enumerate(
            (threshold, np.nextafter(threshold, -np.inf), np.nextafter(threshold, np.inf))
        ):
            rows[3 * place + k, feature] = value
    return np.where(np.isinf(rows), 0.0, rows)


@given(st.floats(-800, 800), st.floats(1e-3, 10), st.floats(-10, 10))
def test_the_sigmoid_stays_a_probability(raw: float, slope: float, intercept: float) -> None:
    score = sigmoid(np.array([raw]), slope, intercept)[0]
    assert 0.0 <= score <= 1.0
    expected = 0.5 * (1.0 + np.tanh(0.5 * (slope * raw + intercept)))
    assert score == pytest.approx(expected, abs=1e-12)


@cache
def arrays() -> dict[str, np.ndarray]:
    return from_classifier(fit(0, 0.1, max_iter=5)).arrays()


def changed(name: str, change: Any) -> dict[str, np.ndarray]:
    found = {key: value.copy() for key, value in arrays().items()}
    found[name] = change(found[name])
    return found


def put(value: Any, where: int) -> Any:
    def change(array: np.ndarray) -> np.ndarray:
        array[where] = value
        return array

    return change


COUNT = len(arrays()["feature"])
ROOT = 0  # a node that splits
NAMES = sorted(arrays())

CORRUPT = {
    "a node that is its own child": ("left", put(ROOT, ROOT)),
    "a child before its parent": ("right", put(ROOT, int(arrays()["left"][ROOT]))),
    "a left child out of bounds": ("left", put(COUNT, ROOT)),
    "a right child out of bounds": ("right", put(2**31 - 1, ROOT)),
    "a negative child": ("left", put(-1, ROOT)),
    "an input that is not there": ("feature", put(INPUTS, ROOT)),
    "a root out of bounds": ("roots", put(COUNT, 0)),
    "a negative root": ("roots", put(-1, 0)),
    "a leaf that is NaN": ("value", put(np.nan, COUNT - 1)),
    "a leaf that is infinite": ("value", put(np.inf, COUNT - 1)),
    "a start that is NaN": ("start", lambda _: np.array(np.nan)),
    "a start that is a list": ("start", lambda a: a.reshape(1)),
    "a threshold that is NaN": ("threshold", put(np.nan, ROOT)),
    **{f"{name} in two dimensions": (name, lambda a: a.reshape(-1, 1)) for name in NAMES},
    **{
        f"{name} one short": (name, lambda a: a[:-1])
        for name in NAMES
        if name not in ("roots", "start")
    },
    **{f"{name} as text": (name, lambda a: a.astype(str)) for name in NAMES},
    **{f"{name} as float32": (name, lambda a: a.astype(np.float32)) for name in NAMES},
}


@pytest.mark.parametrize("kind", CORRUPT)
def test_corrupt_arrays_are_refused(kind: str) -> None:
    name, change = CORRUPT[kind]
    with pytest.raises(ValueError, match=r"^(a )?tree "):
        from_arrays(changed(name, change), INPUTS)


def test_a_child_before_its_parent_is_a_split_in_the_example() -> None:
    # Else the case above would change a leaf, whose children nobody follows.
    assert arrays()["feature"][arrays()["left"][ROOT]] >= 0


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_array_is_refused(name: str) -> None:
    left = {key: value for key, value in arrays().items() if key != name}
    with pytest.raises(ValueError, match=name):
        from_arrays(left, INPUTS)


@settings(max_examples=100)
@given(st.data())
def test_whatever_is_accepted_can_be_walked(data: st.DataObject) -> None:
    """Random damage is either refused or harmless: every walk ends, at a finite number."""
    found = {key: value.copy() for key, value in arrays().items()}
    for _ in range(data.draw(st.integers(1, 4))):
        name = data.draw(st.sampled_from(["roots", "feature", "left", "right"]))
        array = found[name]
        array[data.draw(st.integers(0, len(array) - 1))] = data.draw(
            st.integers(-3, COUNT + 3) | st.integers(-(2**31), 2**31 - 1)
        )
    try:
        trees = from_arrays(found, INPUTS)
    except ValueError:
        return
    assert every_walk_ends(trees)  # else the next line would not
    assert np.isfinite(trees.raw(rows_of(1, 50, 0.2))).all()


def every_walk_ends(trees: Trees) -> bool:
    walks = [(int(root), 0) for root in trees.roots]
    while walks:
        node, depth = walks.pop()
        if depth > len(trees.feature) or not 0 <= node < len(trees.feature):
            return False
        if trees.feature[node] >= 0:
            walks += [(int(side[node]), depth + 1) for side in (trees.left, trees.right)]
    return True
