"""Evidence accumulates the same however it is looked at, and is seldom wrong."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from volatility.evaluation.evidence import (
    BOUND_EARNED,
    BOUND_REFUTED,
    FIT_CONFIDENCE,
    FIT_GROUP,
    GROUP,
    LEAST_BLOCKS,
    LEVEL_REFUTED,
    STAKES,
    Accounts,
    Evidence,
    earned,
    not_worse,
    observe,
    refuted,
    restart,
)
from volatility.units import Floats

BLOCK_NS = 1_200_000_000_000
DAY = 72  # blocks
GAIN, DEVIATION = 0.035, 0.086  # of a good recipe, by block


def times(count: int, first: int = 1_000_000) -> npt.NDArray[np.int64]:
    return (first + np.arange(count, dtype=np.int64)) * BLOCK_NS


def after(gains: list[float] | Floats, before: Evidence | None = None) -> Evidence:
    """Return the evidence once these blocks have followed those before."""
    first = 1_000_000 if before is None else before.newest // BLOCK_NS + 1
    values = np.asarray(gains, dtype=np.float64)
    return observe(before or Evidence(), times(len(values), first), values)


@cache
def noise(recipes: int, days: int, seed: int = 1) -> Floats:
    """Draw float64[blocks, recipes] of mean 0, deviation 1: heavy tails, unrest, correlation."""
    random = np.random.default_rng(seed)
    shocks = random.standard_t(4.0, (days * DAY, recipes)) / math.sqrt(2.0)
    steps = random.standard_normal(shocks.shape)
    carried, level, rows = np.zeros(recipes), np.zeros(recipes), []
    for shock, step in zip(shocks, steps, strict=True):
        carried = 0.3 * carried + math.sqrt(0.91) * shock
        level = 0.99 * level + 0.05 * step
        rows.append(carried * np.exp(level - 0.125))
    return np.array(rows)


def count(gains: Floats) -> Accounts:
    accounts = Accounts(Evidence(), gains.shape[1])
    for gain in gains:
        accounts.count(gain)
    return accounts


gains_of_blocks = st.lists(st.floats(-3.0, 3.0), min_size=1, max_size=150)


def test_wealth_by_hand() -> None:
    found = after([BOUND_EARNED / 2.0] * LEAST_BLOCKS)
    groups = LEAST_BLOCKS // GROUP
    assert found.wins == pytest.approx([groups * math.log1p(stake / 2.0) for stake in STAKES])
    expected = np.mean([(1.0 + stake / 2.0) ** groups for stake in STAKES])
    assert found.e_value == pytest.approx(expected)
    assert found.e_value_against == 1.0
    assert found.mean == pytest.approx(BOUND_EARNED / 2.0)


def test_what_a_champion_loses_by_hand() -> None:
    found = after([-BOUND_REFUTED / 2.0] * 48)
    expected = np.mean([(1.0 + stake / 2.0) ** (48 // GROUP) for stake in STAKES])
    assert found.e_value_against == pytest.approx(expected)
    assert found.worst_blocks == 48
    assert found.worst_mean == pytest.approx(-BOUND_REFUTED / 2.0)


def test_a_group_is_cut_at_the_bound_and_the_mean_is_not() -> None:
    assert after([-BOUND_EARNED] * GROUP).wins == pytest.approx(after([-9.0] * GROUP).wins)
    assert after([-9.0] * GROUP).mean == pytest.approx(-9.0)


def test_a_single_bad_block_counts_in_full() -> None:
    mild, bad = after([0.0] * (GROUP - 1) + [-1.0]), after([0.0] * (GROUP - 1) + [-2.0])
    assert all(more < less for more, less in zip(bad.wins, mild.wins, strict=True))


@settings(max_examples=60, deadline=None)
@given(gains=gains_of_blocks, cuts=st.lists(st.integers(0, 150), max_size=6))
def test_looks_change_nothing(gains: list[float], cuts: list[int]) -> None:
    ends, values = times(len(gains)), np.array(gains)
    found = Evidence()
    for stop in [*sorted(cuts), len(gains)]:
        # A look sees all blocks so far, those that were counted before too.
        found = observe(found, ends[:stop], values[:stop])
        assert observe(found, ends[:stop], values[:stop]) is found
    assert found == observe(Evidence(), ends, values)


@settings(max_examples=60, deadline=None)
@given(gains=gains_of_blocks)
def test_it_is_kept_as_json_exactly(gains: list[float]) -> None:
    found = after(gains)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Evidence) == found


@settings(max_examples=40, deadline=None)
@given(gains=gains_of_blocks)
def test_the_greatest_e_values_never_fall(gains: list[float]) -> None:
    looks = [Evidence()]
    for gain in gains:
        looks.append(after([gain], looks[-1]))
    for before, now in pairwise(looks):
        assert now.best >= before.best
        assert now.worst >= before.worst
        assert now.blocks == before.blocks + 1


@settings(max_examples=40, deadline=None)
@given(gains=gains_of_blocks)
def test_mean_and_variance_are_those_of_the_blocks(gains: list[float]) -> None:
    found = after(gains)
    assert found.mean == pytest.approx(np.mean(gains), abs=1e-12)
    assert found.squares / found.blocks == pytest.approx(np.var(gains), abs=1e-12)


def test_its_size_does_not_grow() -> None:
    found = after(DEVIATION * noise(1, 60)[:, 0])
    assert len(msgspec.json.encode(found)) < 1_000
    longer = after(DEVIATION * noise(1, 60, seed=2)[:, 0], found)
    assert len(msgspec.json.encode(longer)) < 1_000
    assert longer.blocks == 2 * found.blocks


def test_a_simulation_counts_as_the_gate_does() -> None:
    gains = DEVIATION * noise(3, 10)
    together = count(gains)
    for recipe in range(3):
        alone = after(gains[:, recipe])
        assert together.best[recipe] == pytest.approx(alone.best, abs=1e-12)
        assert together.worst[recipe] == pytest.approx(alone.worst, abs=1e-12)
        assert together.bounds()[0][recipe] == pytest.approx(alone.interval.bounds[0], abs=1e-12)


def test_blocks_out_of_order_and_differences_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="not in time order"):
        observe(Evidence(), times(3)[::-1], np.zeros(3))
    with pytest.raises(ValueError, match="not in time order"):
        observe(Evidence(), times(1).repeat(2), np.zeros(2))
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not a finite number"):
            after([value])
    assert observe(Evidence(), times(0), np.zeros(0)) == Evidence()


@pytest.mark.parametrize("text", ['{"version":2}', '{"wins":[0.0]}', '{"losses":[0.0,0.0]}'])
def test_evidence_of_another_format_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="format"):
        msgspec.json.decode(text, type=Evidence)


def test_few_blocks_prove_nothing() -> None:
    for sign, shown in ((1.0, earned), (-1.0, refuted)):
        assert not shown(after([sign] * (LEAST_BLOCKS - 1)), level=0.5)
        assert shown(after([sign] * LEAST_BLOCKS), level=0.5)


def test_who_has_lost_more_than_won_does_not_earn() -> None:
    good = after([0.1] * 2 * DAY)
    assert earned(good)
    assert not earned(after([-2.0] * GROUP, good))


def test_null_recipes_seldom_earn() -> None:
    null = noise(200, 60)
    for deviation in (0.02, DEVIATION, 0.2):
        assert np.mean(count(deviation * null).earned()) <= 0.05


def test_rare_disasters_are_felt() -> None:
    hit = np.random.default_rng(3).random((90 * DAY, 200)) < 0.01
    gains = 0.03 * np.random.default_rng(4).standard_normal(hit.shape) + 0.01 - hit
    assert np.mean(count(gains).earned()) <= 0.05


def test_a_good_recipe_earns_within_two_weeks() -> None:
    assert np.mean(count(GAIN + DEVIATION * noise(200, 14)).earned()) >= 0.95


@pytest.mark.parametrize("good_days", [0, 3, 30])
def test_a_champion_that_turns_is_refuted_within_three_days(good_days: int) -> None:
    gains = DEVIATION * noise(200, good_days + 3, seed=5)
    gains += np.where(np.arange(len(gains)) < good_days * DAY, GAIN, -GAIN)[:, None]
    assert not count(gains[: good_days * DAY]).refuted().any()
    assert np.mean(count(gains).refuted()) >= 0.9


def test_a_champion_that_stays_good_is_not_refuted() -> None:
    assert not count(GAIN + DEVIATION * noise(200, 60)).refuted().any()


def test_a_good_past_hides_no_turn() -> None:
    bad = [-0.04] * 5 * GROUP
    fresh = after([0.1] * 3 * GROUP + bad)
    proven = after(bad, after([0.1] * 100 * GROUP))
    assert proven.mean > 0.0
    assert (proven.worst, proven.worst_blocks) == (fresh.worst, 5 * GROUP)
    assert proven.worst_mean == pytest.approx(-0.04)


def test_false_refutations_are_no_more_frequent_than_promised() -> None:
    null = DEVIATION * noise(200, 60)
    accounts, first = Accounts(Evidence(), 200), np.full(200, len(null), dtype=np.float64)
    for block, gains in enumerate(null):
        accounts.count(gains)
        now = accounts.refuted() & (first == len(null))
        first[now] = block + 1
    assert first.mean() >= GROUP / LEVEL_REFUTED


def test_after_a_restart_only_newer_blocks_count() -> None:
    good = after([0.1] * 2 * DAY)
    again = restart(good, good.newest + BLOCK_NS)
    assert again == Evidence(newest=good.newest + BLOCK_NS)
    assert not earned(again)
    assert after([0.1], good).blocks == good.blocks + 1
    assert observe(again, times(1, good.newest // BLOCK_NS + 1), np.ones(1)) is again
    assert restart(good, 0).newest == good.newest


def test_the_interval_holds_at_every_look() -> None:
    assert Evidence().interval.bounds == (-BOUND_EARNED, BOUND_EARNED)
    accounts, missed = Accounts(Evidence(), 200), np.zeros(200, dtype=bool)
    for gains in 0.02 + DEVIATION * noise(200, 30):
        accounts.count(gains)
        lower, upper = accounts.bounds()
        missed |= (lower > 0.02) | (upper < 0.02)
    assert missed.mean() <= 0.05


def test_the_interval_narrows() -> None:
    gains = GAIN + DEVIATION * noise(1, 60)[:, 0]
    widths = []
    for days in (1, 7, 60):
        lower, upper = after(gains[: days * DAY]).interval.bounds
        widths.append(upper - lower)
    assert widths[0] > widths[1] > widths[2]
    assert after(gains).interval.bounds[0] > 0.0


def test_a_fit_that_is_no_worse_by_hand() -> None:
    differences = np.random.default_rng(1).normal(0.0, 0.02, LEAST_BLOCKS + 1)
    found = not_worse(differences, 0.01)
    means = differences[:LEAST_BLOCKS].reshape(-1, FIT_GROUP).mean(axis=1)
    error = means.std(ddof=1) / math.sqrt(len(means))
    assert found.difference == pytest.approx(means.mean())
    quantile = student.ppf(FIT_CONFIDENCE, len(means) - 1)
    assert found.bound == pytest.approx(means.mean() + quantile * error)
    assert (found.blocks, found.margin) == (LEAST_BLOCKS + 1, 0.01)
    assert found.passed == (found.bound < 0.01)


def test_the_same_fit_passes_and_few_blocks_do_not() -> None:
    same = not_worse(np.zeros(LEAST_BLOCKS), 0.01)
    assert (same.difference, same.bound, same.passed) == (0.0, 0.0, True)
    assert not not_worse(np.full(LEAST_BLOCKS, 0.01), 0.01).passed
    with pytest.raises(ValueError, match="too few"):
        not_worse(np.zeros(LEAST_BLOCKS - 1), 0.01)


def test_a_fit_that_is_worse_by_the_margin_seldom_passes() -> None:
    worse = 0.01 + 0.02 * noise(800, 2)[-DAY:].T
    assert np.mean([not_worse(fit, 0.01).passed for fit in worse]) <= 0.06
    equal = worse - 0.01
    assert np.mean([not_worse(fit, 0.01).passed for fit in equal]) >= 0.8
