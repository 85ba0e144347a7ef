from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from volatility.metrics import (
    average_precision,
    blocks,
    bootstrap,
    calibration_error,
    reliability,
    scorecard,
)

SECOND = 1_000_000_000
# A handful of levels makes ties the rule.
pairs = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]) | st.floats(0, 1)),
    min_size=1,
    max_size=80,
)


def split(drawn: list[tuple[bool, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s for s, _ in drawn]), np.array([p for _, p in drawn])


@given(pairs)
def test_average_precision_is_that_of_scikit_learn(drawn: list[tuple[bool, float]]) -> None:
    spikes, scores = split(drawn)
    if spikes.any():
        expected = average_precision_score(spikes, scores)
        assert average_precision(spikes, scores) == pytest.approx(expected, abs=1e-12)
    else:
        assert math.isnan(average_precision(spikes, scores))


@settings(max_examples=50)
@given(pairs.filter(lambda drawn: any(s for s, _ in drawn)), st.integers(1, 6), st.integers(0, 99))
def test_drawn_blocks_are_repeated_rows(
    drawn: list[tuple[bool, float]], number: int, seed: int
) -> None:
    spikes, scores = split(drawn)
    block = np.arange(len(spikes)) % min(number, len(spikes))
    count = int(block.max()) + 1
    found = bootstrap(spikes, {"ml": scores}, block, 5, seed)
    generator = np.random.default_rng(seed)
    for k in range(5):
        weight = np.bincount(generator.integers(0, count, count), minlength=count)
        rows = np.repeat(np.arange(len(spikes)), weight[block])
        assert found.drawn["base_rate"][k] == pytest.approx(spikes[rows].mean())
        if spikes[rows].any():
            expected = average_precision_score(spikes[rows], scores[rows])
            assert found.drawn["ml"][k] == pytest.approx(expected, abs=1e-12)
        else:
            assert math.isnan(found.drawn["ml"][k])
    assert found.point["ml"] == average_precision(spikes, scores)


def overlapping(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows in blocks that share their luck, as overlapping windows do."""
    random = np.random.default_rng(seed)
    block = np.repeat(np.arange(60), 20)
    level = np.repeat(random.normal(0.0, 1.0, 60), 20)
    spikes = level + random.normal(0.0, 0.5, len(level)) > 1.0
    good = level + np.repeat(random.normal(0.0, 1.0, 60), 20)
    return spikes, good, good + np.repeat(random.normal(0.0, 1.0, 60), 20), block


def test_the_interval_covers_the_truth() -> None:
    # The truth: the same market, many times as long.
    many = [overlapping(10_000 + seed) for seed in range(300)]
    spikes, good, worse, _ = (np.concatenate(parts) for parts in zip(*many, strict=True))
    truth = average_precision(spikes, good)
    gain = truth - average_precision(spikes, worse)
    covered, told, naive = 0, 0, 0
    for seed in range(100):
        spikes, good, worse, block = overlapping(seed)
        scores = {"good": good, "worse": worse}
        drawn = bootstrap(spikes, scores, block, 200, seed)
        low, high = drawn.interval("good")
        covered += low <= truth <= high
        low, high = drawn.difference("good", "worse").interval
        told += low <= gain <= high
        low, high = bootstrap(spikes, scores, np.arange(1200), 200, seed).interval("good")
        naive += low <= truth <= high
    assert covered >= 85  # 95 are promised; with sixty blocks quantiles fall a little short
    assert told >= 85
    assert naive <= 60  # rows drawn one by one would pretend to know much more


def test_a_difference_is_paired() -> None:
    spikes, good, worse, block = overlapping(1)
    drawn = bootstrap(spikes, {"good": good, "same": good, "worse": worse}, block, 100, 0)
    same = drawn.difference("good", "same")
    assert (same.difference, same.interval, same.standard_error) == (0.0, (0.0, 0.0), 0.0)
    assert drawn.difference("good", "worse").difference == pytest.approx(
        drawn.point["good"] - drawn.point["worse"]
    )
    reverse = drawn.difference("worse", "good").interval
    assert drawn.difference("good", "worse").interval == pytest.approx((-reverse[1], -reverse[0]))
    against_none = drawn.difference("good", "base_rate")
    assert against_none.difference == drawn.point["good"] - spikes.mean()


def test_the_same_seed_draws_the_same() -> None:
    spikes, good, _, block = overlapping(1)
    first, second, third = (bootstrap(spikes, {"m": good}, block, 50, s) for s in (0, 0, 1))
    assert first.drawn["m"].tobytes() == second.drawn["m"].tobytes()
    assert first.drawn["m"].tobytes() != third.drawn["m"].tobytes()


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5000)), min_size=1, max_size=60),
    st.sampled_from([600, 900]),
)
def test_a_block_is_short_and_never_spans_runs(
    rows: list[tuple[int, int]], block_seconds: int
) -> None:
    names = sorted({run for run, _ in rows})
    run = np.array([names.index(run) for run, _ in rows])
    time = np.array([1_775_337_223 + second for _, second in rows]) * SECOND
    number = blocks(run, time, block_seconds)
    assert sorted(set(number)) == list(range(number.max() + 1))
    for block in set(number):
        inside = number == block
        assert len(set(run[inside])) == 1
        assert time[inside].max() - time[inside].min() < block_seconds * SECOND
    for name in set(run):
        mine = run == name
        # Within a run, blocks follow the clock: no more of them than its length asks for.
        length = (time[mine].max() - time[mine].min()) / SECOND
        assert len(set(number[mine])) <= length // block_seconds + 1


def test_calibration_error_by_hand() -> None:
    # Twenty rows make ten bins of two: scores 0.2 with a spike in the upper of each two bins.
    scores = np.repeat([0.2, 0.8], 10)
    spikes = np.array([False, True] * 5 + [True] * 10)
    mean, share, count = reliability(spikes, scores)
    assert count.tolist() == [2] * 10
    assert mean == pytest.approx([0.2] * 5 + [0.8] * 5)
    assert share == pytest.approx([0.5] * 5 + [1.0] * 5)
    assert calibration_error(spikes, scores) == pytest.approx((0.3 + 0.2) / 2)


def test_bins_of_unequal_size_weigh_by_their_rows() -> None:
    scores, spikes = np.full(11, 0.5), np.array([True] + [False] * 10)
    # Eleven rows: the first bin holds two, one of them the spike.
    assert calibration_error(spikes, scores) == pytest.approx((2 * 0.0 + 9 * 0.5) / 11)


def test_a_perfect_forecast() -> None:
    spikes = np.array([True, False] * 50)
    card = scorecard(spikes, spikes.astype(float))
    assert (card.pr_auc, card.roc_auc, card.brier, card.calibration_error) == (1.0, 1.0, 0.0, 0.0)


@given(pairs)
def test_the_scorecard_is_that_of_scikit_learn(drawn: list[tuple[bool, float]]) -> None:
    spikes, scores = split(drawn)
    card = scorecard(spikes, scores)
    assert card.brier == pytest.approx(
        brier_score_loss(spikes, scores, pos_label=True), abs=1e-12
    ) or not (spikes.any() and not spikes.all())
    if spikes.any() and not spikes.all():
        assert card.roc_auc == pytest.approx(roc_auc_score(spikes, scores), abs=1e-12)
    else:
        assert math.isnan(card.roc_auc)


def test_no_draw_with_a_spike_has_no_interval() -> None:
    drawn = bootstrap(np.zeros(10, dtype=bool), {"m": np.arange(10.0)}, np.arange(10), 20, 0)
    assert all(math.isnan(bound) for bound in drawn.interval("m"))
    assert all(math.isnan(bound) for bound in drawn.difference("m", "base_rate").interval)
