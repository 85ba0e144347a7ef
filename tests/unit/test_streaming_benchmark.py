"""Check that ticks are paired with predictions, and that unfinished work is not timed."""

from __future__ import annotations

import threading

import pytest

from benchmarks.streaming_latency import last_step, latencies_ms
from benchmarks.streaming_peer import profiled
from benchmarks.streaming_work import SYMBOLS, messages, verified
from volatility.features.engine import FeatureEngine
from volatility.records.tick import Heartbeat, Tick, decode
from volatility.units import SECOND

START = 1_775_337_223 * SECOND
MILLISECOND = 1_000_000


@pytest.mark.parametrize("past", [1, SECOND - 1, SECOND])
def test_the_closing_tick_is_the_one_that_closes_the_step_in_the_engine(past: int) -> None:
    engine = FeatureEngine()
    engine.update(Tick("BTC-USD", START - 1, price=10.0, bid=9.0, ask=11.0))
    (row,) = engine.update(Heartbeat("BTC-USD", START + past))
    assert row.time == last_step(START + past)


def test_a_tick_on_a_step_does_not_close_it() -> None:
    assert last_step(START) == START - SECOND


def test_latency_is_from_the_closing_tick_to_the_same_symbol_and_step() -> None:
    sent = {("A", 1): 5 * MILLISECOND, ("B", 1): 6 * MILLISECOND, ("A", 2): 7 * MILLISECOND}
    came = {("A", 2): 17 * MILLISECOND, ("A", 1): 8 * MILLISECOND, ("B", 1): 8 * MILLISECOND}
    assert latencies_ms(sent, came, since_ns=1) == [3.0, 2.0, 10.0]


def test_what_lies_in_the_warm_up_does_not_count() -> None:
    assert latencies_ms({("A", 1): 0, ("A", 2): 0}, {("A", 2): MILLISECOND}, since_ns=2) == [1.0]


def test_a_step_without_a_prediction_is_no_latency_to_leave_out() -> None:
    with pytest.raises(RuntimeError, match=r"1 of 2 steps have no prediction.*'B'"):
        latencies_ms({("A", 1): 0, ("B", 1): 0}, {("A", 1): 1}, since_ns=0)
    with pytest.raises(RuntimeError, match="0 of 0 steps"):
        latencies_ms({("A", 1): 0}, {("A", 1): 1}, since_ns=2)


def test_records_that_did_not_come_through_are_not_timed() -> None:
    verified(lambda: 3, 3)()
    with pytest.raises(RuntimeError, match="2 records came through, not 3"):
        verified(lambda: 2, 3)()


def test_the_messages_are_ticks_of_all_symbols_in_turn() -> None:
    found = messages(40)
    assert [key.decode() for key, _ in found[: len(SYMBOLS)]] == list(SYMBOLS)
    assert all(decode(value).symbol.encode() == key for key, value in found)
    assert len(found) == 40


def test_the_profile_holds_what_other_threads_did() -> None:
    def hidden_work() -> None:
        for _ in range(1_000_000):  # else it is not among the costliest
            pass

    def work() -> None:
        thread = threading.Thread(target=hidden_work)
        thread.start()
        thread.join()

    text = profiled("a title", work)
    assert text.startswith("a title")
    assert "hidden_work" in text
