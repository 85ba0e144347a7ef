"""Split rows in time order, so that no training label overlaps what it is tested on.

Between a training row's label window and a test row's feature window lies at least nothing
shared: training rows end ``horizon + embargo`` before the test starts (Lopez de Prado,
Advances in Financial Machine Learning, 2018, chapter 7).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

SECOND = 1_000_000_000
DAY_NS = 86_400 * SECOND
RECORDING_BREAK_NS = 15 * SECOND
SNAP = 0.25  # of a block: how far a cut moves to reach a break between recordings or days

Indices = npt.NDArray[np.int64]


class SplitError(ValueError):
    """Rows that cannot be split; the text says how many are needed."""


@dataclass(frozen=True)
class Fold:
    """Hold the row numbers to train on and, later in time, to test on."""

    train: Indices
    test: Indices


def before(time: Indices, start_ns: int, horizon_seconds: int, embargo_seconds: int) -> Indices:
    """Give the rows whose label windows end before any feature window of a test at ``start_ns``."""
    return np.flatnonzero(time + (horizon_seconds + embargo_seconds) * SECOND <= start_ns)


def cuts(time: Indices, blocks: int) -> list[int]:
    """Choose the first rows of blocks 2, 3, ... of about equal size.

    A cut moves to the widest break between recordings, or to a change of UTC date, when one
    lies within a quarter of a block. ``time`` is int64[n] nanoseconds, sorted.
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
    """Cut the rows into ``folds + 1`` blocks; train on all before a block, test on it.

    Parameters
    ----------
    time : int64[n]
        Steps of the rows, nanoseconds, sorted; rows of several symbols share one clock.

    Raises
    ------
    SplitError
        When a block or a training set would be empty.
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


def calibration_split(
    time: Indices, share: float, horizon_seconds: int, embargo_seconds: int
) -> Fold:
    """Keep the last ``share`` of training rows to calibrate on; fit on what is clear of them."""
    first = int(len(time) * (1.0 - share))
    fit = before(time, int(time[first]), horizon_seconds, embargo_seconds)
    if not len(fit):
        raise SplitError("too few training rows to fit on and to calibrate on; record more ticks")
    return Fold(fit, np.arange(first, len(time), dtype=np.int64))
