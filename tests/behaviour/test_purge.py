"""DESIGN 6.5: no training label window overlaps a test row's feature or label window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from volatility.splits import SECOND, SplitError, calibration_split, walk_forward

recordings = st.lists(
    st.tuples(st.integers(200, 4000), st.integers(1, 500_000)), min_size=1, max_size=8
)


def times(spec: list[tuple[int, int]]) -> np.ndarray:
    parts, start = [], 1_775_337_223
    for length, hole in spec:
        parts.append(np.arange(start, start + length))
        start += length + hole
    return np.concatenate(parts) * SECOND


@given(recordings, st.integers(1, 5), st.integers(1, 120), st.integers(0, 2000))
def test_walk_forward_purges_and_embargoes(
    spec: list[tuple[int, int]], folds: int, horizon: int, embargo: int
) -> None:
    time = times(spec)
    try:
        result = walk_forward(time, folds, horizon, embargo)
    except SplitError:
        assume(False)
    assert len(result) == folds
    tested = np.concatenate([fold.test for fold in result])
    assert len(np.unique(tested)) == len(tested)
    assert tested[-1] == len(time) - 1
    for fold in result:
        label_windows_end = time[fold.train].max() + horizon * SECOND
        feature_windows_start = time[fold.test].min() - embargo * SECOND
        assert label_windows_end <= feature_windows_start


@given(recordings, st.floats(0.1, 0.5), st.integers(1, 120), st.integers(0, 2000))
def test_calibration_rows_are_embargoed_too(
    spec: list[tuple[int, int]], share: float, horizon: int, embargo: int
) -> None:
    time = times(spec)
    try:
        split = calibration_split(time, share, horizon, embargo)
    except SplitError:
        assume(False)
    assert time[split.train].max() + (horizon + embargo) * SECOND <= time[split.test].min()


def test_a_cut_prefers_the_break_between_recordings() -> None:
    time = times([(1000, 600), (1100, 0)])
    (fold,) = walk_forward(time, 1, 60, 300)
    assert fold.test[0] == 1000


def test_too_few_rows_say_what_to_do() -> None:
    with pytest.raises(SplitError, match="record or simulate"):
        walk_forward(times([(200, 1)]), 4, 60, 1500)
