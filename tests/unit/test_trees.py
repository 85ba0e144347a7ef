from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from volatility.models.trees import NODE, Trees, empty, from_arrays, from_sklearn

INPUTS = 6


def rows_of(seed: int, count: int, missing: float) -> np.ndarray:
    """Rows with what a market has: ties, zeros, heavy tails, missing values."""
    random = np.random.default_rng(seed)
    rows = random.standard_t(2, (count, INPUTS))
    rows[:, 1] = random.integers(0, 4, count)
    rows[:, 2] = np.exp(5.0 * rows[:, 2].clip(-100, 100))
    rows[random.random(rows.shape) < missing] = np.nan
    return rows


def fit(seed: int, missing: float, **options: Any) -> HistGradientBoostingRegressor:
    random = np.random.default_rng(seed)
    rows = rows_of(seed, 300, missing)
    mean = np.exp(0.5 * np.nan_to_num(rows[:, 0]).clip(-3.0, 3.0))
    model = HistGradientBoostingRegressor(
        loss="gamma", early_stopping=False, random_state=seed, **options
    )
    return model.fit(rows, np.maximum(mean * random.gamma(2.0, 0.5, len(rows)), 1e-9))


@pytest.mark.slow
@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31 - 1),
    missing=st.sampled_from([0.0, 0.05, 0.5]),
    missing_later=st.sampled_from([0.0, 0.3, 1.0]),
    depth=st.sampled_from([None, 1, 2, 5]),
    leaves=st.integers(2, 31),
    rate=st.floats(1e-3, 0.5),  # beyond, scikit-learn's own exponentials overflow
    iterations=st.integers(1, 15),
    least=st.integers(1, 40),
)
def test_raw_predictions_are_those_of_scikit_learn_to_the_bit(
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
        trees = from_sklearn(model)
        rows = np.concatenate(
            [rows_of(seed, 300, missing), rows_of(seed + 1, 100, missing_later), edges(trees)]
        )
        raw = trees.raw(rows)
        assert raw.tobytes() == model._raw_predict(rows)[:, 0].tobytes()
        assert np.exp(raw) == pytest.approx(model.predict(rows), rel=1e-12)
    one_by_one = np.array([trees.raw(row[None])[0] for row in rows])
    assert one_by_one.tobytes() == raw.tobytes()
    stored = from_arrays(trees.arrays(), INPUTS)
    assert stored.raw(rows).tobytes() == raw.tobytes()


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.0, 0.3]), st.integers(2, 15))
def test_contributions_and_the_mean_add_up_to_the_raw_prediction(
    seed: int, missing: float, leaves: int
) -> None:
    with threadpool_limits(1):
        trees = from_sklearn(fit(seed, missing, max_iter=8, max_leaf_nodes=leaves))
    rows = rows_of(seed + 1, 50, missing)
    parts = trees.contributions(rows)
    np.testing.assert_allclose(trees.expected + parts.sum(axis=1), trees.raw(rows), atol=1e-12)
    unused = sorted(set(range(INPUTS)) - set(trees.nodes["feature"].tolist()))
    assert not parts[:, unused].any()
    # What is left of a row of which nothing is known: the mean of the training rows.
    training = rows_of(seed, 300, missing)
    assert trees.expected == pytest.approx(trees.raw(training).mean())


def test_a_contribution_is_the_step_between_the_means_of_the_leaves() -> None:
    """One tree by hand: 4 rows left at -1, 12 right, of which 3 at 2 and 9 at 6."""
    nodes = np.zeros(5, NODE)
    nodes["feature"] = [0, -1, 1, -1, -1]
    nodes["threshold"] = [0.0, 0.0, 10.0, 0.0, 0.0]
    nodes["left"], nodes["right"] = [1, 0, 3, 0, 0], [2, 0, 4, 0, 0]
    nodes["value"] = [3.5, -1.0, 5.0, 2.0, 6.0]  # (4 * -1 + 3 * 2 + 9 * 6) / 16 is 3.5
    arrays = {"start": np.array(0.5), "roots": np.array([0], np.int32), "nodes": nodes}
    trees = from_arrays(arrays, 2)
    parts = trees.contributions(np.array([[-1.0, 0.0], [1.0, 5.0], [1.0, 20.0], [1.0, np.nan]]))
    assert parts.tolist() == [[-4.5, 0.0], [1.5, -3.0], [1.5, 1.0], [1.5, 1.0]]
    assert trees.expected == 4.0


def edges(trees: Trees) -> np.ndarray:
    """Rows exactly on the thresholds, and one step of the number line beside them."""
    split = trees.nodes[trees.nodes["feature"] >= 0]
    rows = np.zeros((3 * len(split), INPUTS))
    for place, (feature, threshold) in enumerate(
        zip(split["feature"], split["threshold"], strict=True)
    ):
        for k, value in enumerate(
            (threshold, np.nextafter(threshold, -np.inf), np.nextafter(threshold, np.inf))
        ):
            rows[3 * place + k, feature] = value
    return np.where(np.isinf(rows), 0.0, rows)


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1), st.integers(0, 8))
def test_the_first_trees_are_those_of_a_shorter_fit(seed: int, count: int) -> None:
    with threadpool_limits(1):
        trees = from_sklearn(fit(seed, 0.1, max_iter=8, max_leaf_nodes=5))
        rows = rows_of(seed + 1, 50, 0.2)
        part = trees.first(count)
        assert len(part.roots) == min(count, len(trees.roots))
        if count:
            shorter = from_sklearn(fit(seed, 0.1, max_iter=count, max_leaf_nodes=5))
            assert part.raw(rows).tobytes() == shorter.raw(rows).tobytes()
            stored = from_arrays(part.arrays(), INPUTS)
            assert stored.raw(rows).tobytes() == part.raw(rows).tobytes()
        else:
            assert (part.raw(rows) == trees.start).all()


def test_no_trees_predict_nothing() -> None:
    rows = rows_of(0, 10, 0.2)
    assert empty().raw(rows).tolist() == [0.0] * 10
    assert not empty().contributions(rows).any()
    assert empty().expected == 0.0
    assert from_arrays(empty().arrays(), 0).raw(rows).tolist() == [0.0] * 10


@pytest.mark.slow
def test_trees_move_to_the_columns_of_wider_rows() -> None:
    trees = from_sklearn(fit(0, 0.1, max_iter=5))
    narrow = rows_of(3, 100, 0.2)
    columns = np.array([9, 2, 17, 4, 11, 0])
    wide = rows_of(4, 100, 0.2)[:, np.arange(20) % INPUTS]
    wide[:, columns] = narrow
    moved = trees.on_columns(columns)
    assert moved.raw(wide).tobytes() == trees.raw(narrow).tobytes()
    assert not np.array_equal(moved.nodes["feature"], trees.nodes["feature"])
    assert (
        trees.raw(narrow).tobytes() == from_sklearn(fit(0, 0.1, max_iter=5)).raw(narrow).tobytes()
    )


@cache
def arrays() -> dict[str, np.ndarray]:
    return from_sklearn(fit(0, 0.1, max_iter=5)).arrays()


def changed(name: str, change: Any) -> dict[str, np.ndarray]:
    found = {key: value.copy() for key, value in arrays().items()}
    found[name] = change(found[name])
    return found


def put(value: Any, where: int) -> Any:
    def change(array: np.ndarray) -> np.ndarray:
        array[where] = value
        return array

    return change


def node(field: str, value: Any, where: int) -> Any:
    def change(nodes: np.ndarray) -> np.ndarray:
        nodes[field][where] = value
        return nodes

    return change


COUNT = len(arrays()["nodes"])
ROOT = 0  # a node that splits
NAMES = sorted(arrays())
AS_FLOAT32 = np.dtype([(name, "f4") for name in NODE.names or ()])

CORRUPT = {
    "a node that is its own child": ("nodes", node("left", ROOT, ROOT)),
    "a child before its parent": (
        "nodes",
        node("right", ROOT, int(arrays()["nodes"]["left"][ROOT])),
    ),
    "a left child out of bounds": ("nodes", node("left", COUNT, ROOT)),
    "a right child out of bounds": ("nodes", node("right", 2**31 - 1, ROOT)),
    "a negative child": ("nodes", node("left", -1, ROOT)),
    "an input that is not there": ("nodes", node("feature", INPUTS, ROOT)),
    "a root out of bounds": ("roots", put(COUNT, 0)),
    "a negative root": ("roots", put(-1, 0)),
    "a leaf that is NaN": ("nodes", node("value", np.nan, COUNT - 1)),
    "a leaf that is infinite": ("nodes", node("value", np.inf, COUNT - 1)),
    "a start that is NaN": ("start", lambda _: np.array(np.nan)),
    "a start that is a list": ("start", lambda a: a.reshape(1)),
    "a threshold that is NaN": ("nodes", node("threshold", np.nan, ROOT)),
    "nodes one short": ("nodes", lambda a: a[:-1]),
    "nodes as a plain table": ("nodes", lambda a: a["value"]),
    "nodes of another kind": ("nodes", lambda a: a.astype(AS_FLOAT32)),
    **{f"{name} in two dimensions": (name, lambda a: a.reshape(-1, 1)) for name in NAMES},
    **{f"{name} as text": (name, lambda a: a.astype(str)) for name in ("roots", "start")},
    **{f"{name} as float32": (name, lambda a: a.astype("f4")) for name in ("roots", "start")},
}


@pytest.mark.parametrize("kind", CORRUPT)
def test_corrupt_arrays_are_refused(kind: str) -> None:
    name, change = CORRUPT[kind]
    with pytest.raises(ValueError, match=r"^(a )?tree "):
        from_arrays(changed(name, change), INPUTS)


def test_a_child_before_its_parent_is_a_split_in_the_example() -> None:
    # Else the case above would change a leaf, whose children nobody follows.
    nodes = arrays()["nodes"]
    assert nodes["feature"][nodes["left"][ROOT]] >= 0


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
        array = found["roots"] if name == "roots" else found["nodes"][name]
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
    nodes = trees.nodes
    walks = [(int(root), 0) for root in trees.roots]
    while walks:
        place, depth = walks.pop()
        if depth > len(nodes) or not 0 <= place < len(nodes):
            return False
        if nodes["feature"][place] >= 0:
            walks += [(int(nodes[side][place]), depth + 1) for side in ("left", "right")]
    return True
