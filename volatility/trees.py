"""Score gradient-boosted trees from plain arrays, bit for bit as scikit-learn does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from volatility.compiled import njit

if TYPE_CHECKING:  # a service that only scores does not load it: 130 MiB and 1.4 s
    from sklearn.ensemble import HistGradientBoostingClassifier

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trees:
    """Hold a binary gradient-boosting model as arrays: no object that needs unpickling.

    Parameters
    ----------
    start : float
        Log odds before any tree.
    roots : int32[trees]
        First node of each tree.
    feature : int32[nodes]
        Column a node splits on, -1 at a leaf.
    threshold : float64[nodes]
        A row goes left when its value is at most this.
    left, right : int32[nodes]
        Children.
    missing_left : bool[nodes]
        Where a missing value goes.
    value : float64[nodes]
        Log odds that a leaf adds; at a split, the mean of its leaves over their training rows.
    """

    start: float
    roots: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    threshold: Floats
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    missing_left: npt.NDArray[np.bool_]
    value: Floats

    def raw(self, rows: Floats) -> Floats:
        """Give float64[n] log odds of float64[n, inputs] rows; NaN is missing."""
        result: Floats = _raw(
            rows,
            self.start,
            self.roots,
            self.feature,
            self.threshold,
            self.left,
            self.right,
            self.missing_left,
            self.value,
        )
        return result

    def contributions(self, rows: Floats) -> Floats:
        """Give what each input adds to the log odds: float64[n, inputs].

        Along a row's way through a tree, each split moves the mean of the leaves that can still
        be reached; that difference is its input's (A. Saabas, "Interpreting random forests",
        2014). A row's contributions and ``expected`` add up to ``raw``.
        """
        result: Floats = _contributions(
            rows,
            self.roots,
            self.feature,
            self.threshold,
            self.left,
            self.right,
            self.missing_left,
            self.value,
        )
        return result

    @property
    def expected(self) -> float:
        """Mean log odds over the training rows: what is left when nothing is known of a row."""
        return self.start + float(self.value[self.roots].sum())

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Name the arrays, for storing."""
        names = ("roots", "feature", "threshold", "left", "right", "missing_left", "value")
        return {"start": np.array(self.start), **{name: getattr(self, name) for name in names}}


def from_arrays(arrays: dict[str, npt.NDArray[Any]], inputs: int) -> Trees:
    """Rebuild trees from stored arrays, checked so that no walk can leave them or not end.

    Raises
    ------
    ValueError
        When an array is missing, of another type or length, or points out of bounds.
    """
    kinds = {
        "roots": np.int32, "feature": np.int32, "threshold": np.float64, "left": np.int32,
        "right": np.int32, "missing_left": np.bool_, "value": np.float64, "start": np.float64,
    }  # fmt: skip
    for name, kind in kinds.items():
        if name not in arrays or arrays[name].dtype != kind:
            raise ValueError(f"tree array {name!r} is missing or not {np.dtype(kind)}")
    vectors = [name for name in kinds if name != "start"]
    if any(arrays[name].ndim != 1 for name in vectors) or arrays["start"].ndim:
        raise ValueError("a tree array has the wrong number of dimensions")
    count = len(arrays["feature"])
    if any(len(arrays[name]) != count for name in vectors if name != "roots"):
        raise ValueError("tree arrays differ in length")
    node = np.arange(count)
    split = arrays["feature"] >= 0
    feature, roots = arrays["feature"], arrays["roots"]
    for side in (arrays["left"], arrays["right"]):
        # Children come after their parent, so every walk ends.
        if not np.all((side[split] > node[split]) & (side[split] < count)):
            raise ValueError("a tree node points out of its tree")
    if np.any(feature >= inputs) or np.any((roots < 0) | (roots >= count)):
        raise ValueError("a tree node names an input that the model does not have")
    if not (np.isfinite(arrays["value"]).all() and np.isfinite(arrays["start"])):
        raise ValueError("a tree leaf is not a finite number")
    if np.isnan(arrays["threshold"]).any():
        raise ValueError("a tree threshold is not a number")
    fields = {name: arrays[name] for name in vectors}
    return Trees(start=float(arrays["start"]), **fields)


def from_classifier(model: HistGradientBoostingClassifier) -> Trees:
    """Read the trees out of a fitted binary classifier without categorical features."""
    nodes = [predictor[0].nodes for predictor in model._predictors]
    sizes = np.array([len(tree) for tree in nodes])
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
    every = np.concatenate(nodes)
    base = np.repeat(roots, sizes)
    leaf = every["is_leaf"].astype(bool)
    value, count = every["value"].astype(np.float64), every["count"].astype(np.float64)
    left, right = every["left"] + base, every["right"] + base
    for node in np.flatnonzero(~leaf)[::-1]:  # children come after their parent
        sides = [left[node], right[node]]
        value[node] = np.average(value[sides], weights=count[sides])
    return Trees(
        start=float(np.ravel(model._baseline_prediction)[0]),
        roots=roots,
        feature=np.where(leaf, -1, every["feature_idx"]).astype(np.int32),
        threshold=every["num_threshold"].astype(np.float64),
        left=np.where(leaf, 0, left).astype(np.int32),
        right=np.where(leaf, 0, right).astype(np.int32),
        missing_left=every["missing_go_to_left"].astype(bool),
        value=value,
    )


@njit(nogil=True)
def _raw(  # type: ignore[no-untyped-def]
    rows, start, roots, feature, threshold, left, right, missing_left, value
):
    result = np.empty(len(rows))
    for i in range(len(rows)):
        total = start
        for root in roots:
            node = root
            while feature[node] >= 0:
                x = rows[i, feature[node]]
                if x != x:
                    node = left[node] if missing_left[node] else right[node]
                elif x <= threshold[node]:
                    node = left[node]
                else:
                    node = right[node]
            total += value[node]
        result[i] = total
    return result


@njit(nogil=True)
def _contributions(  # type: ignore[no-untyped-def]
    rows, roots, feature, threshold, left, right, missing_left, value
):
    result = np.zeros(rows.shape)
    for i in range(len(rows)):
        for root in roots:
            node = root
            while feature[node] >= 0:
                x = rows[i, feature[node]]
                if x != x:
                    child = left[node] if missing_left[node] else right[node]
                elif x <= threshold[node]:
                    child = left[node]
                else:
                    child = right[node]
                result[i, feature[node]] += value[child] - value[node]
                node = child
    return result


@njit(nogil=True)
def sigmoid(raw: Floats, slope: float, intercept: float) -> Floats:
    """Give float64[n] probabilities: the logistic function of ``slope * raw + intercept``."""
    result = np.empty(len(raw))
    for i in range(len(raw)):
        result[i] = 1.0 / (1.0 + np.exp(-(slope * raw[i] + intercept)))
    return result
