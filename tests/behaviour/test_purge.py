"""DESIGN 6.5: no training label window overlaps a test row's feature or label window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from volatility.dataset import Fold, SplitError, before, blocked, walk_forward
from volatility.units import SECOND

START = 1_775_337_225
STRIDE = 15

recordings = st.lists(
    st.tuples(st.integers(50, 1000), st.integers(1, 500_000)), min_size=1, max_size=8
)
horizons = st.integers(1, 900)
embargoes = st.integers(0, 2000)


def times(spec: list[tuple[int, int]], symbols: int = 1) -> np.ndarray:
    """Lay recordings of so many rows out, a hole [s] after each; symbols share the clock."""
    parts, start = [], START
    for length, hole in spec:
        parts.append(start + STRIDE * np.arange(length))
        start += STRIDE * length + hole
    return np.repeat(np.concatenate(parts), symbols) * SECOND


def overlaps(time: np.ndarray, fold: Fold, horizon: int, embargo: int) -> bool:
    """Look whether a train label (t, t + horizon] meets a test row's (t - embargo, t + horizon].

    Test rows are contiguous, and so are their windows.
    """
    train, test = time[fold.train], time[fold.test]
    first, last = test.min() - embargo * SECOND, test.max() + horizon * SECOND
    return bool(np.any((train < last) & (train + horizon * SECOND > first)))


@given(recordings, st.integers(1, 5), horizons, embargoes, st.sampled_from([1, 3]))
def test_walk_forward_purges_and_embargoes(
    spec: list[tuple[int, int]], folds: int, horizon: int, embargo: int, symbols: int
) -> None:
    time = times(spec, symbols)
    try:
        result = walk_forward(time, folds, horizon, embargo)
    except SplitError:
        assume(False)
    assert len(result) == folds
    tested = np.concatenate([fold.test for fold in result])
    assert np.array_equal(tested, np.arange(tested[0], len(time)))  # each once, to the end
    for fold in result:
        assert not overlaps(time, fold, horizon, embargo)
        assert time[fold.train].max() < time[fold.test].min()
        # No row that could have been trained on is left out.
        allowed = time + (horizon + embargo) * SECOND <= time[fold.test].min()
        assert np.array_equal(fold.train, np.flatnonzero(allowed))


@given(recordings, st.integers(1, 6), horizons, embargoes, st.sampled_from([1, 3]))
def test_blocks_are_clear_of_what_is_before_and_after_them(
    spec: list[tuple[int, int]], blocks: int, horizon: int, embargo: int, symbols: int
) -> None:
    time = times(spec, symbols)
    result = blocked(time, blocks, horizon, embargo)
    assert len(result) <= blocks
    tested = np.concatenate([fold.test for fold in result]) if result else np.empty(0, np.int64)
    assert len(np.unique(tested)) == len(tested)
    for fold in result:
        assert len(fold.train)
        assert not overlaps(time, fold, horizon, embargo)
        assert np.array_equal(fold.train, np.unique(fold.train))


def test_blocks_of_a_long_recording_test_every_row_and_train_on_both_sides() -> None:
    time = times([(4000, 1)])
    folds = blocked(time, 4, 60, 1500)
    assert np.array_equal(np.concatenate([fold.test for fold in folds]), np.arange(4000))
    sides = [
        (bool(np.any(fold.train < fold.test[0])), bool(np.any(fold.train > fold.test[-1])))
        for fold in folds
    ]
    assert sides == [(False, True), (True, True), (True, True), (True, False)]


def test_one_block_or_a_handful_of_rows_leaves_nothing_to_train_on() -> None:
    assert blocked(times([(4000, 1)]), 1, 60, 1500) == []
    assert blocked(times([(3, 1)]), 4, 60, 1500) == []


@given(recordings, horizons, embargoes, st.floats(0.0, 1.0))
def test_rows_before_a_start_end_their_windows_before_its_features(
    spec: list[tuple[int, int]], horizon: int, embargo: int, share: float
) -> None:
    time = times(spec)
    start = int(time[int(share * (len(time) - 1))])
    chosen = np.isin(np.arange(len(time)), before(time, start, horizon, embargo))
    clear = time + horizon * SECOND <= start - embargo * SECOND
    assert np.array_equal(chosen, clear)


def test_a_cut_prefers_the_break_between_recordings() -> None:
    time = times([(1000, 600), (1100, 0)])
    (fold,) = walk_forward(time, 1, 60, 300)
    assert fold.test[0] == 1000


def test_too_few_rows_say_what_to_do() -> None:
    with pytest.raises(SplitError, match="record or simulate"):
        walk_forward(times([(9, 1)]), 4, 60, 1500)
    with pytest.raises(SplitError, match="record or simulate"):
        walk_forward(times([(100, 1)]), 4, 60, 1500)
