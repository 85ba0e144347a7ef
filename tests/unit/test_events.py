from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import dataset
from volatility.dataset import Dataset, runs
from volatility.events import alert_metrics, episodes, threshold_for_budget

SECOND = 1_000_000_000
START = 1_775_337_223


def rows(seconds: list[int], symbols: list[int] | None = None) -> Dataset:
    count = len(seconds)
    return Dataset(
        symbols=("BTC-USD", "ETH-USD"),
        symbol=np.array(symbols or [0] * count, dtype=np.int64),
        time=np.array([START + s for s in seconds], dtype=np.int64) * SECOND,
        rows=np.zeros((count, 1)),
        values=np.zeros(count),
        frames=(),
        frame_row=np.arange(count),
    )


def flags(count: int, *where: range | int) -> np.ndarray:
    result = np.zeros(count, dtype=bool)
    for place in where:
        result[place if isinstance(place, int) else list(place)] = True
    return result


def grouped(flag: np.ndarray, data: Dataset, merge: int = 60) -> list[list[int]]:
    return [group.tolist() for group in episodes(flag, runs(data, merge), data.time, merge)]


def test_flagged_rows_less_than_a_minute_apart_are_one_episode() -> None:
    data = rows(list(range(300)))
    assert grouped(flags(300, 10, 69), data) == [[10, 69]]
    assert grouped(flags(300, 10, 70), data) == [[10], [70]]
    assert grouped(flags(300, range(5, 8), 60, 200), data) == [[5, 6, 7, 60], [200]]
    assert grouped(flags(300), data) == []


def test_episodes_of_two_symbols_or_runs_are_apart() -> None:
    both = rows([s // 2 for s in range(20)], [s % 2 for s in range(20)])
    found = grouped(flags(20, range(4, 10)), both)
    assert sorted(found) == [[4, 6, 8], [5, 7, 9]]
    broken = rows([*range(10), *range(100, 110)])
    assert grouped(flags(20, range(20)), broken) == [list(range(10)), list(range(10, 20))]


def test_alert_metrics_by_hand() -> None:
    data = rows(list(range(3600)))
    spikes = flags(3600, range(100, 140), range(1000, 1020), range(2000, 2010))
    scores = np.zeros(3600)
    scores[90:95] = 0.9  # before the first spike begins: a false alarm
    scores[110:120] = 0.9  # inside the first, 10 s after it begins
    scores[1000] = 0.5  # at the threshold, at the very beginning of the second
    scores[3000] = 0.9  # where nothing is
    found = alert_metrics(data, spikes, scores, 0.5, 60)
    assert found.precision == pytest.approx(11 / 17)
    assert found.recall == pytest.approx(11 / 70)
    assert found.events == 3
    assert found.event_recall == pytest.approx(2 / 3)
    assert found.lead_seconds == pytest.approx((50 + 60) / 2)
    assert found.alerts_per_hour == 3.0  # 90..119 is one alarm, 1000 and 3000 are the others


def test_nothing_to_find_and_nothing_found() -> None:
    data = rows(list(range(600)))
    silent = alert_metrics(data, flags(600, 5), np.zeros(600), 0.5, 60)
    assert math.isnan(silent.precision)
    assert (silent.recall, silent.event_recall, silent.alerts_per_hour) == (0.0, 0.0, 0.0)
    assert math.isnan(silent.lead_seconds)
    calm = alert_metrics(data, flags(600), np.ones(600), 0.5, 60)
    assert math.isnan(calm.recall)
    assert math.isnan(calm.event_recall)
    assert calm.precision == 0.0


def alarms_per_hour(data: Dataset, scores: np.ndarray, threshold: float) -> float:
    return alert_metrics(data, np.zeros(len(data), bool), scores, threshold, 60).alerts_per_hour


@given(st.integers(0, 2**31), st.sampled_from([0.5, 2.0, 6.0, 30.0]), st.sampled_from([0, 3]))
def test_the_threshold_respects_the_budget(seed: int, budget: float, decimals: int) -> None:
    random = np.random.default_rng(seed)
    data = rows(list(range(3000)))
    level = np.convolve(random.normal(0.0, 1.0, 3060), np.ones(61) / 61, mode="valid")
    scores = 1.0 / (1.0 + np.exp(-10.0 * level))
    scores = np.round(scores, decimals) if decimals else scores
    threshold = threshold_for_budget(data, scores, budget, 60)
    assert alarms_per_hour(data, scores, threshold) <= budget
    # Going down in steps of half a percent, it is the last one before the budget is exceeded.
    steps = [float(np.quantile(scores, q)) for q in np.linspace(0.995, 0.5, 100)]
    within = [alarms_per_hour(data, scores, step) <= budget for step in steps]
    reached = within.index(False) if False in within else len(steps)
    if reached:
        assert threshold == steps[reached - 1]
    else:
        assert threshold > scores.max()


def test_scores_that_are_all_equal_raise_one_alarm_or_none() -> None:
    data = rows(list(range(3600)))
    same = np.full(3600, 0.25)
    assert threshold_for_budget(data, same, 1.0, 60) == 0.25  # one alarm an hour
    above = threshold_for_budget(data, same, 0.5, 60)
    assert above > 0.25
    assert not (same >= above).any()


def test_the_budget_is_that_of_one_symbol() -> None:
    one = dataset()
    assert len(one.symbols) == 1
    random = np.random.default_rng(0)
    scores = np.repeat(random.random(len(one) // 30 + 1), 30)[: len(one)]
    twice = Dataset(
        ("BTC-USD", "ETH-USD"),
        np.concatenate([one.symbol, one.symbol + 1]),
        np.concatenate([one.time, one.time]),
        np.concatenate([one.rows, one.rows]),
        np.concatenate([one.values, one.values]),
        one.frames * 2,
        np.concatenate([one.frame_row, one.frame_row]),
    )
    alone = threshold_for_budget(one, scores, 6.0, 60)
    assert threshold_for_budget(twice, np.concatenate([scores, scores]), 6.0, 60) == pytest.approx(
        alone
    )
