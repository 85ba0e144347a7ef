"""Split rows in time order, so that no training label overlaps a test row.

A training label window never overlaps a test row's feature or label window: training rows
end ``horizon + embargo`` before a test starts and resume one horizon after it ends (Lopez de
Prado, Advances in Financial Machine Learning, 2018, chapter 7).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from volatility.units import DAY_NS, SECOND

RECORDING_BREAK_NS = 15 * SECOND
SNAP = 0.25  # of a block: the furthest a cut moves to a break between recordings or days

Indices = npt.NDArray[np.int64]


class SplitError(ValueError):
    """Report that there are too few rows to split, and how many are needed."""


@dataclass(frozen=True)
class Fold:
    """Represent the indices of training and test rows."""

    train: Indices
    test: Indices


def before(time: Indices, start_ns: int, horizon_seconds: int, embargo_seconds: int) -> Indices:
    """Return the rows whose label windows end before the features of a test from ``start_ns``."""
    return np.flatnonzero(time + (horizon_seconds + embargo_seconds) * SECOND <= start_ns)


def cuts(time: Indices, blocks: int) -> list[int]:
    """Choose the first rows of blocks 2, 3, ... of about equal size.

    A cut moves to the widest break between recordings, or to a change of UTC date, if one is
    within a quarter of a block. ``time`` is int64[n] nanoseconds, sorted.
    """
    count = len(time)
    step = np.diff(time, prepend=time[0])
    new_day = np.diff(time // DAY_NS, prepend=time[0] // DAY_NS) != 0
    weight = np.where((step > RECORDING_BREAK_NS) | new_day, np.maximum(step, 1), 0)
    chosen = []
    for block in range(1, blocks):
        target = block * count // blocks
        reach = int(SNAP * count / blocks)
        low, high = max(target - reach, 1), min(target + reach + 1, count)
        window = weight[low:high]
        chosen.append(low + int(np.argmax(window)) if window.any() else target)
    return chosen


def walk_forward(
    time: Indices, folds: int, horizon_seconds: int, embargo_seconds: int
) -> list[Fold]:
    """Cut the rows into ``folds + 1`` blocks; test on each block after training on all before it.

    Parameters
    ----------
    time : int64[n]
        Steps of the rows, nanoseconds, sorted; rows of several symbols share one clock.

    Raises
    ------
    SplitError
        If a block or a training set would be empty.
    """
    if len(time) < 2 * (folds + 1):
        raise SplitError(
            f"{len(time)} labelled rows are too few for {folds} walk-forward folds; "
            "record or simulate at least two hours of ticks"
        )
    edges = [*cuts(time, folds + 1), len(time)]
    result = []
    for first, last in pairwise(edges):
        train = before(time, int(time[first]), horizon_seconds, embargo_seconds)
        fold = Fold(train, np.arange(first, last, dtype=np.int64))
        if not len(fold.train) or not len(fold.test):
            raise SplitError(
                "a walk-forward fold has no training rows before its embargo of "
                f"{embargo_seconds} s; record or simulate at least two hours of ticks"
            )
        result.append(fold)
    return result


def blocked(time: Indices, blocks: int, horizon_seconds: int, embargo_seconds: int) -> list[Fold]:
    """Cut the rows into contiguous blocks; test on each after training on rows clear of it.

    Used within training rows, where later rows may be used to validate earlier ones. A fold whose
    training or test part would be empty is omitted.
    """
    edges = [*cuts(time, blocks), len(time)] if len(time) >= 2 * blocks else [len(time)]
    result = []
    for first, last in pairwise([0, *edges]):
        if first == last:
            continue
        earlier = before(time, int(time[first]), horizon_seconds, embargo_seconds)
        later = np.flatnonzero(time >= int(time[last - 1]) + horizon_seconds * SECOND)
        fold = Fold(np.concatenate([earlier, later]), np.arange(first, last, dtype=np.int64))
        if len(fold.train):
            result.append(fold)
    return result
