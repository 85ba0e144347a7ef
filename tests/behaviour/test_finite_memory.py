"""DESIGN 6.2: a row depends on nothing older than the memory, to the bit."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.behaviour.test_parity import assert_same_bits, live
from tests.streams import random_records, seeds
from volatility.settings import Features
from volatility.units import SECOND

MEMORY_NS = Features().memory_seconds * SECOND


@settings(max_examples=25, deadline=None)
@given(seed=seeds, share=st.floats(0.05, 0.6), gaps=st.booleans())
def test_a_restart_that_replays_the_memory_continues_with_the_same_bits(
    seed: int, share: float, gaps: bool
) -> None:
    records = random_records(seed, 6000, gaps=gaps)
    times, rows, _ = live(records)
    restart = int(records[0].time + share * (records[-1].time - records[0].time))
    # A consumer seeks by time: the first record at or after it, and all that follow.
    first = next(i for i, record in enumerate(records) if record.time >= restart)
    later_times, later_rows, _ = live(records[first:])

    warm = later_times > restart + MEMORY_NS
    same = times > restart + MEMORY_NS
    assert (later_times[warm] == times[same]).all()
    assert_same_bits(later_rows[warm], rows[same])
