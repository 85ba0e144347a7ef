"""Evaluate gradient-boosted trees stored as plain arrays, bit-identical to scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from volatility.compiled import njit
from volatility.units import Floats

if TYPE_CHECKING:  # not needed for forecasting; loading it takes 130 MiB and 1.4 s
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor


# Stored fields of a node.
NODE = np.dtype(
    [
        ("feature", np.int32),  # column to split on, -1 at a leaf
        ("left", np.int32),
        ("right", np.int32),
        ("missing_left", np.bool_),  # whether a missing value goes left
        ("threshold", np.float64),  # a row goes left if its value is at most this
        ("value", np.float64),  # a leaf's contribution; at a split, the mean of its leaves
    ]
)

# Fields of a node read during a walk: 16 bytes, so that a cache line fits four nodes. The left
# child directly follows its parent. From a leaf, both sides lead to itself.
STEP = np.dtype(
    [
        ("number", np.float64),  # the threshold; at a leaf, its value
        ("right", np.int32),
        ("feature", np.int16),
        ("missing_left", np.bool_),
        ("advance", np.uint8),  # from the node to its left child
    ],
    align=True,
)
UNSIGNED = np.uint64  # an index of this type is not checked for counting from the end


@dataclass(frozen=True)
class Trees:
    """Represent an ensemble as arrays, which need no unpickling.

    Parameters
    ----------
    start : float
        Raw prediction before any tree.
    roots : int32[trees]
        First node of each tree.
    nodes : NODE[nodes]
        Depth first: a left child directly follows its parent, a right child comes later.
    """

    start: float
    roots: npt.NDArray[np.int32]
    nodes: npt.NDArray[Any]

    def raw(self, rows: Floats) -> Floats:
        """Return the float64[n] raw predictions of float64[n, inputs] rows; NaN is missing."""
        result: Floats = _raw(rows, self.start, *self.for_walks())
        return result

    def for_walks(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
        """Return the root and the depth of each tree, int32[trees, 2], and STEP[nodes]."""
        nodes, leaf = self.nodes, self.nodes["feature"] < 0
        steps = np.zeros(len(nodes), STEP)
        steps["number"] = np.where(leaf, nodes["value"], nodes["threshold"])
        steps["right"] = np.where(leaf, np.arange(len(nodes)), nodes["right"])
        steps["feature"] = np.where(leaf, 0, nodes["feature"])
        steps["missing_left"] = nodes["missing_left"]
        steps["advance"] = ~leaf
        return np.column_stack([self.roots, _heights(nodes)[self.roots]]), steps

    def first(self, count: int) -> Trees:
        """Return the ensemble of the first ``count`` trees."""
        stop = int(self.roots[count]) if count < len(self.roots) else len(self.nodes)
        return replace(self, roots=self.roots[:count], nodes=self.nodes[:stop])

    def contributions(self, rows: Floats) -> Floats:
        """Return each input's contribution to the raw prediction: float64[n, inputs].

        Along a row's path through a tree, each split changes the mean of the leaves that can still
        be reached; the change is attributed to the split's input (A. Saabas, "Interpreting random
        forests", 2014). A row's contributions and ``expected`` add up to ``raw``.
        """
        result: Floats = _contributions(rows, self.roots, self.nodes)
        return result

    @property
    def expected(self) -> float:
        """Mean raw prediction over the training rows."""
        return self.start + float(self.nodes["value"][self.roots].sum())

    def on_columns(self, columns: npt.NDArray[np.int64]) -> Trees:
        """Return trees that read ``columns`` of wider rows instead of columns 0, 1, ..."""
        nodes = self.nodes.copy()
        split = nodes["feature"] >= 0
        nodes["feature"][split] = columns[nodes["feature"][split]]
        return replace(self, nodes=nodes)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by name, for storing."""
        return {"start": np.array(self.start), "roots": self.roots, "nodes": self.nodes}


def empty() -> Trees:
    """Return an ensemble without trees, which predicts 0."""
    return Trees(0.0, np.empty(0, np.int32), np.empty(0, NODE))


def from_arrays(arrays: dict[str, npt.NDArray[Any]], inputs: int) -> Trees:
    """Rebuild trees from stored arrays; check that every walk stays in bounds and ends.

    Raises
    ------
    ValueError
        If an array is missing, has the wrong type or shape, or contains an index out of bounds.
    """
    kinds = {
        "start": (np.dtype(np.float64), 0),
        "roots": (np.dtype(np.int32), 1),
        "nodes": (NODE, 1),
    }
    for name, (kind, dimensions) in kinds.items():
        if name not in arrays or arrays[name].dtype != kind or arrays[name].ndim != dimensions:
            raise ValueError(f"tree array {name!r} is missing, or not {kind} with its shape")
    nodes, roots = arrays["nodes"], arrays["roots"]
    count, place = len(nodes), np.arange(len(nodes))
    split = nodes["feature"] >= 0
    right = nodes["right"][split]
    # Children come after their parents, so every walk ends.
    if not np.all(nodes["left"][split] == place[split] + 1):
        raise ValueError("a tree node is not followed by its left child")
    if not np.all((right > place[split] + 1) & (right < count)):
        raise ValueError("a tree node points outside its tree")
    if np.any(nodes["feature"] >= inputs) or np.any((roots < 0) | (roots >= count)):
        raise ValueError("a tree node uses an input that the model does not have")
    if not (np.isfinite(nodes["value"]).all() and np.isfinite(arrays["start"])):
        raise ValueError("a tree leaf is not a finite number")
    if np.isnan(nodes["threshold"]).any():
        raise ValueError("a tree threshold is not a number")
    return Trees(float(arrays["start"]), roots, nodes)


def from_sklearn(model: HistGradientBoostingClassifier | HistGradientBoostingRegressor) -> Trees:
    """Extract the trees of a fitted single-output model without categorical features."""
    parts = [predictor[0].nodes for predictor in model._predictors]
    sizes = np.array([len(tree) for tree in parts])
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
    every = np.concatenate(parts)
    base = np.repeat(roots, sizes)
    leaf = every["is_leaf"].astype(bool)
    nodes = np.zeros(len(every), NODE)
    nodes["feature"] = np.where(leaf, -1, every["feature_idx"])
    nodes["left"] = np.where(leaf, 0, every["left"] + base)
    nodes["right"] = np.where(leaf, 0, every["right"] + base)
    nodes["missing_left"] = every["missing_go_to_left"]
    nodes["threshold"] = every["num_threshold"]
    nodes["value"] = every["value"]
    # Plain lists: access takes a tenth of the time of arrays.
    value, count = nodes["value"].tolist(), every["count"].tolist()
    left, right = nodes["left"].tolist(), nodes["right"].tolist()
    for node in np.flatnonzero(~leaf)[::-1].tolist():  # children come after their parents
        a, b = left[node], right[node]
        value[node] = (value[a] * count[a] + value[b] * count[b]) / (count[a] + count[b])
    nodes["value"] = value
    return Trees(float(np.ravel(model._baseline_prediction)[0]), roots, nodes)


@njit(nogil=True)
def _heights(nodes):  # type: ignore[no-untyped-def]
    """Return the steps from each node to the farthest leaf below it: int32[nodes]."""
    result = np.zeros(len(nodes), np.int32)
    for node in range(len(nodes) - 1, -1, -1):  # children come after their parents
        if nodes[node].feature >= 0:
            below = max(result[nodes[node].left], result[nodes[node].right])
            result[node] = below + 1
    return result


@njit(nogil=True, inline="always")
def _step(rows, i, node, steps):  # type: ignore[no-untyped-def]
    """Return the next node of row ``i``.

    The side is selected without a branch: its direction is practically random to the processor,
    and a mispredicted branch costs more than the step itself.
    """
    step = steps[node]
    x = rows[i, UNSIGNED(step.feature)]
    left = (x <= step.number) | (step.missing_left & (x != x))
    return UNSIGNED(node + UNSIGNED(step.advance)) if left else UNSIGNED(step.right)


@njit(nogil=True, inline="always")
def add_leaves(total, rows, i, first, stop, roots, steps):  # type: ignore[no-untyped-def]
    """Add to ``total`` the leaves that row ``i`` reaches in trees ``first`` to ``stop``, in order.

    Four trees are walked at a time, each for as many steps as the deepest of them needs: the
    processor then waits for four memory reads at once, and the number of steps, which depends on
    no value, is predicted. Twice as fast as one walk after another, each up to its leaf.
    """
    t = first
    while t + 4 <= stop:
        a, b = UNSIGNED(roots[t, 0]), UNSIGNED(roots[t + 1, 0])
        c, d = UNSIGNED(roots[t + 2, 0]), UNSIGNED(roots[t + 3, 0])
        deepest = max(roots[t, 1], roots[t + 1, 1], roots[t + 2, 1], roots[t + 3, 1])
        for _ in range(deepest):
            a, b = _step(rows, i, a, steps), _step(rows, i, b, steps)
            c, d = _step(rows, i, c, steps), _step(rows, i, d, steps)
        total += steps[a].number
        total += steps[b].number
        total += steps[c].number
        total += steps[d].number
        t += 4
    while t < stop:
        node = UNSIGNED(roots[t, 0])
        for _ in range(roots[t, 1]):
            node = _step(rows, i, node, steps)
        total += steps[node].number
        t += 1
    return total


@njit(nogil=True)
def _raw(rows, start, roots, steps):  # type: ignore[no-untyped-def]
    result = np.empty(len(rows))
    for i in range(len(rows)):
        result[i] = add_leaves(start, rows, i, 0, len(roots), roots, steps)
    return result


@njit(nogil=True)
def _contributions(rows, roots, nodes):  # type: ignore[no-untyped-def]
    result = np.zeros(rows.shape)
    for i in range(len(rows)):
        for root in roots:
            node = root
            while nodes[node].feature >= 0:
                column = nodes[node].feature
                x = rows[i, column]
                if x != x:
                    child = nodes[node].left if nodes[node].missing_left else nodes[node].right
                elif x <= nodes[node].threshold:
                    child = nodes[node].left
                else:
                    child = nodes[node].right
                result[i, column] += nodes[child].value - nodes[node].value
                node = child
    return result
