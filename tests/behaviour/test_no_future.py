"""DESIGN 6.3: nothing after a step reaches its features, nothing up to it its label's window."""

from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.behaviour.test_parity import assert_same_bits, live
from tests.streams import random_records, seeds
from volatility.features import FeatureFrame
from volatility.labels import forward_volatility
from volatility.tick import Record, Tick

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
def test_ticks_up_to_a_step_change_nothing_in_its_forward_window(seed: int, share: float) -> None:
    records = random_records(seed, 3000)
    whole = frame(records)
    known = np.flatnonzero(~np.isnan(forward_volatility(whole, HORIZON)))
    row = known[int(share * (len(known) - 1))]
    step = int(whole.time[row])
    changed = frame(shaken(records, [record.time <= step for record in records], seed))
    place = int(np.searchsorted(changed.time, step))
    assert changed.time[place] == step
    before = forward_volatility(whole, HORIZON)[row:]
    after = forward_volatility(changed, HORIZON)[place:]
    assert_same_bits(before, after)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, share=st.floats(0.2, 0.9))
def test_the_label_sees_what_happens_in_its_window_and_nothing_beyond(
    seed: int, share: float
) -> None:
    records = random_records(seed, 3000, gaps=False)
    whole = frame(records)
    forward = forward_volatility(whole, HORIZON)
    known = np.flatnonzero(forward > 0)
    row = known[int(share * (len(known) - 1))]
    step = int(whole.time[row])
    stop = step + HORIZON * 1_000_000_000
    beyond = frame(shaken(records, [record.time > stop for record in records], seed))
    assert forward_volatility(beyond, HORIZON)[row] == forward[row]
    inside = frame(shaken(records, [step < record.time <= stop for record in records], seed))
    assert forward_volatility(inside, HORIZON)[row] > forward[row]
