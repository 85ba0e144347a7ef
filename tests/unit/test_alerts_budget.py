import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volatility.models.alerts import alert_metrics, episodes, threshold_for_budget
from volatility.units import SECOND

STRIDE_SECONDS = 15


def flags(rows: int, *places: int) -> np.ndarray:
    result = np.zeros(rows, dtype=bool)
    result[list(places)] = True
    return result


def every(seconds: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return runs and times of one unbroken stretch."""
    return np.zeros(rows, dtype=np.int64), np.arange(rows, dtype=np.int64) * seconds * SECOND


def wave(rows: int, seed: int) -> np.ndarray:
    """Simulate a score that rises and falls over minutes, as volatility does."""
    noise = np.random.default_rng(seed).normal(size=rows)
    level = np.empty(rows)
    level[0] = 0.0
    for i in range(1, rows):
        level[i] = 0.95 * level[i - 1] + noise[i]
    return 1.0 / (1.0 + np.exp(-level / 3.0))


def test_rows_less_than_the_distance_apart_are_one_episode() -> None:
    run, time_ns = every(1, 400)
    run[300:] = 1
    found = episodes(flags(400, 10, 50, 109, 169, 299, 300), run, time_ns, 60)
    assert [part.tolist() for part in found] == [[10, 50, 109], [169], [299], [300]]
    assert episodes(flags(400), run, time_ns, 60) == []


def test_episodes_do_not_depend_on_the_order_of_the_rows() -> None:
    run = np.array([0, 1, 0, 1])  # by time, as the symbols alternate
    time_ns = np.array([0, 0, 10, 10]) * SECOND
    found = episodes(np.ones(4, dtype=bool), run, time_ns, 60)
    assert [part.tolist() for part in found] == [[0, 2], [1, 3]]


def test_alerts_of_a_known_day() -> None:
    run, time_ns = every(15, 240)  # one hour
    spikes = flags(240, 40, 41, 42, 100, 101, 200)
    scores = np.where(flags(240, 41, 42, 100, 150, 151), 0.9, 0.1)
    found = alert_metrics(scores, 0.5, spikes, run, time_ns, 60, 1.0)
    assert found.precision == pytest.approx(3 / 5)
    assert found.recall == pytest.approx(3 / 6)
    assert found.alerts_per_hour == 3.0
    assert found.events == 3
    assert found.event_recall == pytest.approx(2 / 3)
    assert found.lead_seconds == pytest.approx((45 + 60) / 2)


def test_nothing_to_find_and_nothing_found() -> None:
    run, time_ns = every(15, 240)
    silent = alert_metrics(np.zeros(240), 0.5, flags(240, 5), run, time_ns, 60, 1.0)
    assert math.isnan(silent.precision)
    assert math.isnan(silent.lead_seconds)
    assert (silent.recall, silent.event_recall, silent.alerts_per_hour) == (0.0, 0.0, 0.0)
    calm = alert_metrics(np.ones(240), 0.5, flags(240), run, time_ns, 60, 1.0)
    assert math.isnan(calm.recall)
    assert math.isnan(calm.event_recall)
    assert (calm.precision, calm.events) == (0.0, 0)


@pytest.mark.parametrize("budget", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_budget_below_one_alert_an_hour_raises_alerts(budget: float, seed: int) -> None:
    rows = 24 * 3600 // STRIDE_SECONDS
    run, time_ns = every(STRIDE_SECONDS, rows)
    scores = wave(rows, seed)
    found = threshold_for_budget(scores, run, time_ns, budget, 60, 24.0)
    measured = alert_metrics(scores, found.threshold, flags(rows), run, time_ns, 60, 24.0)
    assert found.raises_alerts
    assert 0.0 < measured.alerts_per_hour <= budget
    assert measured.alerts_per_hour == found.alerts_per_hour
    assert measured.alerts_per_hour > budget - 1.5 / 24.0  # all of it but an alert a day


@given(
    st.integers(0, 2**31),
    st.integers(1, 300),
    st.sampled_from([0, 1, 2, 9]),
    st.sampled_from([0.1, 0.5, 2.0, 6.0, 1000.0]),
)
def test_no_higher_threshold_is_over_budget_and_the_next_lower_one_is(
    seed: int, rows: int, decimals: int, budget: float
) -> None:
    random = np.random.default_rng(seed)
    scores = np.round(wave(rows, seed), decimals)
    run = np.sort(random.integers(0, 3, rows))
    time_ns = np.sort(random.choice(3 * rows, rows, replace=False)) * 10 * SECOND
    mixed = random.permutation(rows)
    scores, run, time_ns = scores[mixed], run[mixed], time_ns[mixed]
    hours = rows / 240.0
    distinct = np.unique(scores)[::-1]
    rates = [len(episodes(scores >= score, run, time_ns, 60)) / hours for score in distinct]
    shares = [np.mean(scores >= score) for score in distinct]
    reached = -1
    while (
        reached + 1 < len(distinct)
        and rates[reached + 1] <= budget
        and (reached < 0 or shares[reached + 1] <= 0.5)
    ):
        reached += 1
    found = threshold_for_budget(scores, run, time_ns, budget, 60, hours)
    if reached < 0:
        assert not found.raises_alerts
    else:
        assert found.raises_alerts
        assert (found.threshold, found.alerts_per_hour) == (distinct[reached], rates[reached])


def test_a_budget_that_the_highest_score_exceeds_raises_nothing_and_says_so() -> None:
    run, time_ns = every(STRIDE_SECONDS, 240)
    scores = np.linspace(0.0, 1.0, 240)
    found = threshold_for_budget(scores, run, time_ns, 0.5, 60, 1.0)
    assert not found.raises_alerts
    assert found.alerts_per_hour == 0.0
    assert not (scores >= found.threshold).any()


def test_equal_scores_raise_one_alert_or_none() -> None:
    run, time_ns = every(STRIDE_SECONDS, 240)
    same = np.full(240, 0.25)
    assert threshold_for_budget(same, run, time_ns, 1.0, 60, 1.0).threshold == 0.25
    assert not threshold_for_budget(same, run, time_ns, 0.5, 60, 1.0).raises_alerts


def test_the_budget_is_that_of_one_symbol() -> None:
    rows = 4 * 3600 // STRIDE_SECONDS
    run, time_ns = every(STRIDE_SECONDS, rows)
    scores = wave(rows, 3)
    alone = threshold_for_budget(scores, run, time_ns, 2.0, 60, 4.0)
    both = threshold_for_budget(
        np.tile(scores, 2), np.append(run, run + 1), np.tile(time_ns, 2), 2.0, 60, 8.0
    )
    assert both == alone


def test_alerts_that_merge_further_down_do_not_lower_the_threshold() -> None:
    run, time_ns = every(STRIDE_SECONDS, 240)
    scores = np.linspace(0.0, 0.1, 240)
    scores[:100] = np.linspace(0.7, 0.8, 100)  # one long alert
    scores[:100:5] = np.linspace(0.9, 0.99, 20)  # 75 s apart: twenty alerts
    found = threshold_for_budget(scores, run, time_ns, 3.0, 60, 1.0)
    assert (found.threshold, found.alerts_per_hour) == (scores[85], 3.0)
