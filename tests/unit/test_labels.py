from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.slow_features import LARGEST_RETURN, Stream, read
from tests.streams import SECOND, START, random_records, seeds
from volatility.features import FeatureEngine, FeatureFrame
from volatility.labels import forward_volatility, label_values, spike_threshold
from volatility.settings import Label
from volatility.tick import Heartbeat, Record, Tick

BASELINE = "realised_volatility_900s"


def frame(records: list[Record]) -> FeatureFrame:
    engine = FeatureEngine()
    rows = [row for record in records for row in engine.update(record)]
    return FeatureFrame(
        "BTC-USD",
        np.array([row.time for row in rows], dtype=np.int64),
        np.array([row.values for row in rows]),
    )


def slow(stream: Stream, second: int, horizon: int) -> float:
    """Follow the definition: returns between the quotes that arrive in (second, second + h]."""
    place = second - stream.first
    inside = range(place + 1, place + horizon + 1)
    if inside[-1] >= len(stream.quoted):
        return float("nan")
    if any(stream.gap[p] or not stream.quoted[p] or np.isnan(stream.returns[p]) for p in inside):
        return float("nan")
    fresh = [p for p in inside if stream.ticks[p]]
    if not fresh or fresh[0] == inside[-1]:
        return 0.0
    returns = stream.returns[fresh[0] + 1 : inside[-1] + 1].clip(-LARGEST_RETURN, LARGEST_RETURN)
    return float(np.sqrt(np.mean(returns**2)))


@settings(max_examples=20)
@given(seeds, st.sampled_from([1, 5, 60]))
def test_forward_volatility_is_what_its_definition_says(seed: int, horizon: int) -> None:
    records = random_records(seed, 2500)
    rows, stream = frame(records), read(records)
    found = forward_volatility(rows, horizon)
    expected = np.array([slow(stream, int(time // SECOND), horizon) for time in rows.time])
    # Whether the last silence is a gap is not known: what depends on it has no label.
    assert not np.isnan(expected[~np.isnan(found)]).any()
    settled = rows.time + horizon * SECOND < rows.time[-1] - 16 * SECOND
    assert np.array_equal(np.isnan(found[settled]), np.isnan(expected[settled]))
    assert np.allclose(found[settled], expected[settled], rtol=1e-5, atol=2e-9, equal_nan=True)


@settings(max_examples=20)
@given(seeds, st.floats(0.2, 0.9))
def test_more_data_changes_no_label_that_is_known(seed: int, share: float) -> None:
    records = random_records(seed, 2500)
    whole = frame(records)
    part = frame(records[: int(share * len(records))])
    assume(len(part.time))
    before, after = forward_volatility(part, 60), forward_volatility(whole, 60)[: len(part.time)]
    known = ~np.isnan(before)
    assert before[known].tobytes() == after[known].tobytes()


def ticks(prices: list[float], first: int = 1) -> list[Record]:
    return [
        Tick("BTC-USD", START + s * SECOND - SECOND // 2, price=p, bid=p, ask=p)
        for s, p in enumerate(prices, first)
    ]


def test_a_move_that_is_over_before_the_first_quote_is_not_in_the_window() -> None:
    jump = 0.01
    prices = [100.0] * 100 + [100.0 * np.exp(jump)] * 101  # the jump arrives in second 101
    forward = forward_volatility(frame(ticks(prices)), 60)
    # Rows are numbered from second 1. At the end of second 100 the price known is the old one,
    # so the move to the first new quote would be a return from a price that is known.
    assert forward[100 - 1] == 0.0
    assert forward[99 - 1] == pytest.approx(jump / np.sqrt(59))
    assert forward[100 - 59 - 1] == pytest.approx(jump / np.sqrt(59))
    assert forward[100 - 60 - 1] == 0.0  # one second beyond the horizon


def test_the_window_must_be_covered_whole() -> None:
    records = [*ticks([100.0] * 200), *ticks([101.0] * 200, first=230)]
    rows = frame(records)
    forward = forward_volatility(rows, 60)
    second = (rows.time - START) // SECOND
    known = second[~np.isnan(forward)]
    # The last record before the gap ends second 200; the first after it falls in 230.
    assert known.tolist() == [*range(1, 141), *range(230, 369)]


def test_a_silent_minute_has_no_volatility() -> None:
    quiet = [Heartbeat("BTC-USD", START + s * SECOND) for s in range(201, 290)]
    forward = forward_volatility(frame([*ticks([100.0] * 200), *quiet]), 60)
    assert forward[200 - 1] == 0.0


def test_relative_and_absolute_labels() -> None:
    rows = frame(random_records(3, 3000, gaps=False))
    forward, baseline = forward_volatility(rows, 60), rows.column(BASELINE)
    relative = label_values(rows, Label())
    absolute = label_values(rows, Label(kind="absolute"))
    known = ~np.isnan(relative)
    assert known.sum() > 2000
    assert np.array_equal(relative[known], (forward / baseline)[known])
    assert np.array_equal(absolute[known], forward[known])
    assert np.array_equal(known, ~np.isnan(absolute))
    # No label without a warm baseline, nor over a baseline that is zero.
    assert np.isnan(relative[: 300 - 1]).all()
    flat = frame(ticks([100.0] * 1000))
    assert (flat.column(BASELINE)[299:] == 0.0).all()
    assert np.isnan(label_values(flat, Label())).all()


def test_tau_is_the_quantile_of_the_given_rows_alone() -> None:
    values = np.array([3.0, np.nan, 1.0, 2.0, 4.0, np.nan, 5.0])
    assert spike_threshold(values, Label(quantile=0.5)) == 3.0
    assert spike_threshold(values[:4], Label(quantile=0.5)) == 2.0
    assert spike_threshold(values, Label(kind="absolute", absolute_threshold=0.25)) == 0.25
    with pytest.raises(ValueError, match="no training row has a label"):
        spike_threshold(np.array([np.nan]), Label())
