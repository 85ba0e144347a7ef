"""Evidence counts once: blocks of clock time, drawn with all the symbols in them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from volatility.evaluation.blocks import clock_blocks, effective_windows, symbol_weights
from volatility.evaluation.bootstrap import (
    Draws,
    difference,
    draw_blocks,
    mean_draws,
    stratified_precision,
)
from volatility.evaluation.scores import average_precision
from volatility.units import SECOND

START = 1_775_337_600  # a full block


def one_stratum(spikes: np.ndarray, scores: np.ndarray, block: np.ndarray, draws: Draws):
    weight, stratum = np.ones(len(spikes)), np.zeros(len(spikes), dtype=np.int64)
    return stratified_precision(spikes, scores, weight, stratum, block, draws)


@given(st.lists(st.integers(0, 50_000), min_size=1, max_size=60), st.sampled_from([1200, 1800]))
def test_a_block_is_a_stretch_of_the_clock(seconds: list[int], length: int) -> None:
    time = (START + np.sort(np.array(seconds))) * SECOND
    number = clock_blocks(time, length)
    assert sorted(set(number.tolist())) == list(range(number.max() + 1))
    for one in set(number.tolist()):
        inside = time[number == one]
        assert inside.max() - inside.min() < length * SECOND
        assert len({t // (length * SECOND) for t in inside.tolist()}) == 1


def test_symbols_share_the_blocks_of_the_clock() -> None:
    time = np.repeat((START + np.arange(0, 6000, 15)) * SECOND, 2)
    alone, together = clock_blocks(time[::2], 1200), clock_blocks(time, 1200)
    assert together[::2].tolist() == together[1::2].tolist() == alone.tolist()
    assert alone.max() == 4


def test_windows_that_overlap_count_once() -> None:
    time = (START + np.arange(0, 3600)) * SECOND
    assert effective_windows(time, 60) == 60
    assert effective_windows(time[::15], 60) == 60
    assert effective_windows(time[:60], 60) == 1
    assert effective_windows(np.repeat(time, 3), 60) == 60  # three symbols


def test_symbols_weigh_alike() -> None:
    weight = symbol_weights(np.array([0, 0, 0, 2]))
    assert weight == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    assert len(symbol_weights(np.empty(0, dtype=np.int64))) == 0


def test_a_symbol_under_another_name_is_no_more_evidence() -> None:
    random = np.random.default_rng(4)
    time = (START + np.arange(0, 72_000, 15)) * SECOND
    gain = random.normal(0.01, 0.1, len(time))
    spikes, score = random.random(len(time)) < 0.1, random.random(len(time))
    intervals, windows = [], []
    for copies in (1, 2, 5):
        symbol = np.tile(np.arange(copies), len(time))
        again = np.repeat(time, copies)
        weight, block = symbol_weights(symbol), clock_blocks(again, 1200)
        draws = draw_blocks(int(block.max()) + 1, 200, 0)
        mean = difference(0.01, mean_draws(np.repeat(gain, copies), weight, block, draws))
        area = stratified_precision(
            np.repeat(spikes, copies), np.repeat(score, copies), weight, symbol, block, draws
        )
        intervals.append((*mean.interval, mean.standard_error, area.point, *area.drawn[:3]))
        windows.append(effective_windows(again, 60))
    assert windows == [1200] * 3
    assert intervals[1] == pytest.approx(intervals[0])
    assert intervals[2] == pytest.approx(intervals[0])


@given(
    st.lists(st.tuples(st.booleans(), st.floats(-5, 5)), min_size=1, max_size=60),
    st.integers(1, 6),
    st.integers(0, 99),
)
@settings(max_examples=50)
def test_drawn_blocks_are_repeated_rows(
    drawn: list[tuple[bool, float]], number: int, seed: int
) -> None:
    spikes, scores = (np.array(x) for x in zip(*drawn, strict=True))
    block = np.arange(len(spikes)) % min(number, len(spikes))
    draws = draw_blocks(int(block.max()) + 1, 5, seed)
    assert (draws.counts.sum(axis=1) == block.max() + 1).all()
    area = one_stratum(spikes, scores, block, draws)
    means = mean_draws(scores, np.ones(len(scores)), block, draws)
    for k, counts in enumerate(draws.counts.astype(np.int64)):
        rows = np.repeat(np.arange(len(spikes)), counts[block])
        assert means[k] == pytest.approx(scores[rows].mean(), abs=1e-9)
        if spikes[rows].any():
            expected = average_precision_score(spikes[rows], scores[rows])
            assert area.drawn[k] == pytest.approx(expected, abs=1e-9)
        else:
            assert math.isnan(area.drawn[k])


def test_a_mean_leaves_out_what_is_not_known() -> None:
    values, block = np.array([1.0, np.nan, 5.0, np.nan]), np.array([0, 0, 1, 2])
    draws = Draws(np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0], [0.0, 0.0, 3.0]]))
    found = mean_draws(values, np.array([1.0, 1.0, 3.0, 1.0]), block, draws)
    assert found[:2] == pytest.approx([4.0, 1.0])
    assert math.isnan(found[2])


def test_strata_are_ranked_apart() -> None:
    random = np.random.default_rng(5)
    stratum = np.repeat([0, 1, 2], 200)
    spikes = random.random(600) < 0.2
    scores = np.where(spikes, 0.4, 0.0) + random.random(600)
    block, draws = np.arange(600) % 20, draw_blocks(20, 50, 0)
    weight = np.where(stratum == 2, 3.0, 1.0)
    found = stratified_precision(spikes, scores, weight, stratum, block, draws)
    # Scores of another fold or symbol on another scale say the same within it.
    moved = stratified_precision(spikes, scores + 10.0 * stratum, weight, stratum, block, draws)
    assert moved.point == pytest.approx(found.point)
    assert moved.drawn == pytest.approx(found.drawn)
    each = [average_precision(spikes[stratum == k], scores[stratum == k]) for k in range(3)]
    assert found.point == pytest.approx((each[0] + each[1] + 3.0 * each[2]) / 5.0)
    together = average_precision(spikes, scores + 10.0 * stratum, weight)
    assert abs(together - found.point) > 0.05


def test_a_stratum_without_a_spike_does_not_count() -> None:
    spikes = np.array([True, False, False, False])
    scores = np.array([0.4, 0.6, 0.1, 0.2])
    block, draws = np.zeros(4, dtype=np.int64), draw_blocks(1, 3, 0)
    stratum = np.array([0, 0, 1, 1])
    found = stratified_precision(spikes, scores, np.ones(4), stratum, block, draws)
    assert found.point == pytest.approx(0.5)
    none = stratified_precision(np.zeros(4, bool), scores, np.ones(4), stratum, block, draws)
    assert math.isnan(none.point)
    assert np.isnan(none.drawn).all()


def overlapping(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Make rows in blocks that share their luck, as overlapping windows do."""
    random = np.random.default_rng(seed)
    block = np.repeat(np.arange(60), 20)
    level = np.repeat(random.normal(0.0, 1.0, 60), 20)
    spikes = level + random.normal(0.0, 0.5, len(level)) > 1.0
    good = level + np.repeat(random.normal(0.0, 1.0, 60), 20)
    return spikes, good, good + np.repeat(random.normal(0.0, 1.0, 60), 20), block


def covers(point: float, drawn: np.ndarray, truth: float) -> bool:
    low, high = difference(point, drawn).interval
    return low <= truth <= high


def test_the_interval_covers_the_truth() -> None:
    # The truth: the same market, many times as long.
    many = [overlapping(10_000 + seed) for seed in range(300)]
    spikes, good, worse, _ = (np.concatenate(parts) for parts in zip(*many, strict=True))
    truth = average_precision(spikes, good)
    gain = truth - average_precision(spikes, worse)
    covered, told, naive, mean = 0, 0, 0, 0
    for seed in range(100):
        spikes, good, worse, block = overlapping(seed)
        draws = draw_blocks(60, 200, seed)
        one, two = (one_stratum(spikes, score, block, draws) for score in (good, worse))
        covered += covers(one.point, one.drawn, truth)
        told += covers(one.point - two.point, one.drawn - two.drawn, gain)
        rows = one_stratum(spikes, good, np.arange(1200), draw_blocks(1200, 200, seed))
        naive += covers(rows.point, rows.drawn, truth)
        mean += covers(good.mean(), mean_draws(good, np.ones(1200), block, draws), 0.0)
    assert covered >= 85  # 95 are promised; with sixty blocks quantiles fall a little short
    assert told >= 85
    assert mean >= 88
    assert naive <= 60  # rows drawn one by one would pretend to know much more


def test_a_difference_of_the_same_scores_is_zero() -> None:
    spikes, good, _, block = overlapping(1)
    drawn = one_stratum(spikes, good, block, draw_blocks(60, 100, 0)).drawn
    same = difference(0.0, drawn - drawn)
    assert (same.difference, same.interval, same.standard_error) == (0.0, (0.0, 0.0), 0.0)


def test_the_same_seed_draws_the_same() -> None:
    first, second, third = (draw_blocks(60, 50, seed).counts for seed in (0, 0, 1))
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != third.tobytes()


def test_a_precision_needs_no_more_draws() -> None:
    spikes, good, _, block = overlapping(2)
    found = one_stratum(spikes, good, block, draw_blocks(60, 300, 0))
    assert len(found.drawn) == 300


def test_no_draw_with_a_spike_has_no_interval() -> None:
    drawn = one_stratum(np.zeros(10, bool), np.arange(10.0), np.arange(10), draw_blocks(10, 20, 0))
    found = difference(drawn.point, drawn.drawn)
    assert all(math.isnan(bound) for bound in found.interval)
    assert math.isnan(found.standard_error)
