from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.slow_features import LARGEST_RETURN, Stream, read
from tests.streams import START, random_records, seeds
from volatility.dataset import forward_variance
from volatility.features.engine import FeatureEngine, FeatureFrame
from volatility.features.table import FEATURE_NAMES
from volatility.records.tick import Heartbeat, Record, Tick
from volatility.units import SECOND


def frame(records: list[Record]) -> FeatureFrame:
    engine = FeatureEngine()
    rows = [row for record in records for row in engine.update(record)]
    return FeatureFrame(
        "BTC-USD",
        np.array([row.time for row in rows], dtype=np.int64),
        np.array([row.values for row in rows]).reshape(-1, len(FEATURE_NAMES)),
    )


def forward(rows: FeatureFrame, *horizons: int) -> np.ndarray:
    """Return float64[n, H], or float64[n] of one horizon."""
    found = forward_variance(
        rows.time, rows.column("log_return_1s"), rows.column("seconds_since_record"), horizons
    )
    return found if len(horizons) > 1 else found[:, 0]


def slow(stream: Stream, second: int, horizon: int) -> float:
    """Follow the definition: the squared returns of the seconds in (second, second + h]."""
    place = second - stream.first
    inside = range(place + 1, place + horizon + 1)
    if inside[-1] >= len(stream.quoted):
        return float("nan")
    if any(stream.gap[p] or not stream.quoted[p] or np.isnan(stream.returns[p]) for p in inside):
        return float("nan")
    returns = stream.returns[list(inside)].clip(-LARGEST_RETURN, LARGEST_RETURN)
    return float(np.sum(returns**2) / horizon)


@settings(max_examples=20)
@given(seeds, st.sampled_from([1, 5, 60]))
def test_forward_variance_is_what_its_definition_says(seed: int, horizon: int) -> None:
    records = random_records(seed, 2500)
    rows, stream = frame(records), read(records)
    assume(len(rows.time))
    found = forward(rows, horizon)
    expected = np.array([slow(stream, int(time // SECOND), horizon) for time in rows.time])
    # Whether the last silence is a gap is not known: what depends on it has no label.
    assert not np.isnan(expected[~np.isnan(found)]).any()
    settled = rows.time + horizon * SECOND < rows.time[-1] - 16 * SECOND
    assert np.array_equal(np.isnan(found[settled]), np.isnan(expected[settled]))
    assert np.allclose(found[settled], expected[settled], rtol=1e-9, atol=4e-18, equal_nan=True)


@settings(max_examples=20)
@given(seeds, st.floats(0.2, 0.9))
def test_more_data_changes_no_label_that_is_known(seed: int, share: float) -> None:
    records = random_records(seed, 2500)
    whole = frame(records)
    part = frame(records[: int(share * len(records))])
    assume(len(part.time))
    before, after = forward(part, 60), forward(whole, 60)[: len(part.time)]
    known = ~np.isnan(before)
    assert before[known].tobytes() == after[known].tobytes()


def ticks(prices: list[float], first: int = 1) -> list[Record]:
    return [
        Tick("BTC-USD", START + s * SECOND - SECOND // 2, price=p, bid=p, ask=p)
        for s, p in enumerate(prices, first)
    ]


def beats(first: int, last: int) -> list[Record]:
    return [Heartbeat("BTC-USD", START + s * SECOND) for s in range(first, last)]


def test_a_jump_at_the_first_quote_of_the_window_counts_whole() -> None:
    jump = 0.01
    prices = [100.0] * 100 + [100.0 * np.exp(jump)] * 101  # the jump arrives in second 101
    found = forward(frame(ticks(prices)), 60)
    # Rows are numbered from second 1. At the end of second 100 the price known is the old one.
    assert found[100 - 1] == pytest.approx(jump**2 / 60)
    assert found[100 - 60] == pytest.approx(jump**2 / 60)  # in the last second of its window
    assert found[100 - 60 - 1] == 0.0  # one second beyond the horizon
    assert found[101 - 1] == 0.0  # over


def test_one_quote_in_a_minute_that_jumps_five_percent_counts_whole() -> None:
    """Finding 8: the only quote of the window moved the price, and the label was zero."""
    lone = Tick("BTC-USD", START + 130 * SECOND - 1, price=105.0, bid=105.0, ask=105.0)
    records = [*ticks([100.0] * 100), *beats(101, 130), lone, *beats(130, 220)]
    found = forward(frame(records), 60)
    assert found[100 - 1] == pytest.approx(np.log(1.05) ** 2 / 60)
    assert np.sqrt(found[100 - 1] * 60) == pytest.approx(np.log(1.05))  # of the whole minute


@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=2, unique=True),
    st.floats(-0.05, 0.05),
    st.floats(-0.05, 0.05),
)
def test_early_and_late_moves_count_alike(places: list[int], one: float, other: float) -> None:
    returns = np.zeros(100)
    returns[0] = np.nan
    returns[10 + np.array(places)] = one, other
    time = START + np.arange(1, 101) * SECOND
    found = forward_variance(time, returns, np.zeros(100), [60])[10, 0]
    assert found == pytest.approx((one**2 + other**2) / 60, rel=1e-9, abs=1e-18)


def test_the_sum_is_divided_by_the_horizon() -> None:
    rows = frame(random_records(3, 3000, gaps=False))
    found = forward(rows, 1, 60, 300, 900)
    row = 700
    mean = [found[row : row + horizon, 0].mean() for horizon in (60, 300, 900)]
    assert found[row, 1:] == pytest.approx(mean, rel=1e-9)


def test_a_longer_horizon_is_known_less_far() -> None:
    rows = frame(random_records(3, 2500, gaps=False))
    found = forward(rows, 60, 300, 900)
    newest = [int(np.flatnonzero(~np.isnan(column))[-1]) for column in found.T]
    assert newest == [newest[0], newest[0] - 240, newest[0] - 840]
    assert newest[0] <= len(rows.time) - 1 - 60


def test_the_window_must_be_covered_whole() -> None:
    records = [*ticks([100.0] * 200), *ticks([101.0] * 200, first=230)]
    rows = frame(records)
    second = (rows.time - START) // SECOND
    known = second[~np.isnan(forward(rows, 60))]
    # The last record before the gap ends second 200; the first after it falls in 230.
    assert known.tolist() == [*range(1, 141), *range(230, 369)]


def test_a_silent_minute_has_no_volatility() -> None:
    found = forward(frame([*ticks([100.0] * 200), *beats(201, 290)]), 60)
    assert found[200 - 1] == 0.0


def test_a_frame_shorter_than_its_window_has_no_labels() -> None:
    for count in (0, 1, 30, 60):
        time = START + np.arange(count) * SECOND
        found = forward_variance(time, np.zeros(count), np.zeros(count), [60])
        assert found.shape == (count, 1)
        assert np.isnan(found).all()
