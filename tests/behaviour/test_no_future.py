"""DESIGN 6.3: nothing after a step reaches its features, nothing up to it its label's window."""

from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.behaviour.test_parity import assert_same_bits, live
from tests.streams import random_records, seeds
from volatility.dataset import forward_variance
from volatility.features.engine import FeatureFrame
from volatility.records.tick import Record, Tick

HORIZON = 60


def shaken(records: list[Record], chosen: list[bool], seed: int) -> list[Record]:
    """Move the quotes of the chosen ticks by up to 2 %."""
    random = np.random.default_rng(seed)
    result: list[Record] = []
    for record, change in zip(records, chosen, strict=True):
        if change and isinstance(record, Tick):
            factor = float(random.uniform(0.98, 1.02))
            bid, ask = record.bid * factor, record.ask * factor * 1.001
            result.append(msgspec.structs.replace(record, bid=bid, ask=ask))
        else:
            result.append(record)
    return result


def frame(records: list[Record]) -> FeatureFrame:
    times, rows, _ = live(records)
    return FeatureFrame("BTC-USD", times, rows)


def forward(rows: FeatureFrame) -> np.ndarray:
    """Return the forward variance of each row: float64[n]."""
    return forward_variance(
        rows.time, rows.column("log_return_1s"), rows.column("seconds_since_record"), [HORIZON]
    )[:, 0]


@settings(max_examples=25, deadline=None)
@given(seed=seeds, share=st.floats(0.2, 0.9))
def test_ticks_after_a_step_change_no_feature_at_it(seed: int, share: float) -> None:
    records = random_records(seed, 3000)
    whole = frame(records)
    step = int(whole.time[int(share * len(whole.time))])
    changed = frame(shaken(records, [record.time > step for record in records], seed))
    known = whole.time <= step
    assert np.array_equal(changed.time[changed.time <= step], whole.time[known])
    assert_same_bits(changed.rows[changed.time <= step], whole.rows[known])
    assert not np.array_equal(changed.rows, whole.rows)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, share=st.floats(0.2, 0.9))
def test_ticks_up_to_a_step_reach_its_label_only_through_the_midprice_known_at_it(
    seed: int, share: float
) -> None:
    records = random_records(seed, 3000)
    whole = frame(records)
    before = forward(whole)
    known = np.flatnonzero(~np.isnan(before))
    row = known[int(share * (len(known) - 1))]
    step = int(whole.time[row])
    # The first return of the window starts at the last quote up to the step: that one is left.
    quote = max(i for i, r in enumerate(records) if isinstance(r, Tick) and r.time <= step)
    chosen = [record.time <= step and i != quote for i, record in enumerate(records)]
    changed = frame(shaken(records, chosen, seed))
    place = int(np.searchsorted(changed.time, step))
    assert changed.time[place] == step
    # Late, or a duplicate, it was not the quote that was known.
    assume(changed.column("midprice")[place] == whole.column("midprice")[row])
    assert_same_bits(before[row:], forward(changed)[place:])


@settings(max_examples=25, deadline=None)
@given(seed=seeds, share=st.floats(0.2, 0.9))
def test_the_label_starts_at_the_midprice_known_at_its_step(seed: int, share: float) -> None:
    records = random_records(seed, 3000)
    whole = frame(records)
    before = forward(whole)
    # A quote in the first second of the window, so that the price known at the step is over.
    quoted = np.append(whole.column("trade_intensity")[1:] > 0.0, False)
    known = np.flatnonzero(~np.isnan(before) & quoted)
    assume(len(known))
    row = known[int(share * (len(known) - 1))]
    step = int(whole.time[row])
    changed = frame(shaken(records, [record.time <= step for record in records], seed))
    place = int(np.searchsorted(changed.time, step))
    # Only the first return differs, by what the midprice at the step differs by.
    after, first = forward(changed)[place], whole.column("log_return_1s")[row + 1]
    shift = np.log(changed.column("midprice")[place] / whole.column("midprice")[row])
    expected = before[row] + ((first - shift) ** 2 - first**2) / HORIZON
    assert np.isclose(after, expected, rtol=1e-6, atol=1e-15)
    # And of what comes after the first second, nothing.
    assert_same_bits(before[row + 1 :], forward(changed)[place + 1 :])


@settings(max_examples=25, deadline=None)
@given(seed=seeds, share=st.floats(0.2, 0.9))
def test_the_label_sees_what_happens_in_its_window_and_nothing_beyond(
    seed: int, share: float
) -> None:
    records = random_records(seed, 3000, gaps=False)
    whole = frame(records)
    label = forward(whole)
    known = np.flatnonzero(label > 0)
    assume(len(known))
    row = known[int(share * (len(known) - 1))]
    step = int(whole.time[row])
    stop = step + HORIZON * 1_000_000_000
    beyond = frame(shaken(records, [record.time > stop for record in records], seed))
    assert forward(beyond)[row] == label[row]
    inside = frame(shaken(records, [step < record.time <= stop for record in records], seed))
    assert forward(inside)[row] > label[row]
