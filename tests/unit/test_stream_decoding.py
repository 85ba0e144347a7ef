"""Capture and score read the same records from the same bytes, however they are decoded."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chaos import market
from volatility.records.tick import REASONS, Heartbeat, Tick, TickError, decode, encode
from volatility.streaming.decoding import decode_ticks
from volatility.streaming.log.interface import Message
from volatility.units import SECOND

NOW = market.START_NS + 3600 * SECOND
GOOD = [encode(record) for record in islice(market.records(0), 40)]


def messages(values: list[bytes], time_ns: int = NOW) -> list[Message]:
    return [Message(0, place, time_ns, None, value) for place, value in enumerate(values)]


def alone(values: list[bytes], time_ns: int = NOW) -> list[int]:
    """Return the indices of the values that decode individually, as the scorer decodes them."""
    kept = []
    for place, value in enumerate(values):
        try:
            decode(value, time_ns)
        except TickError:
            continue
        kept.append(place)
    return kept


def captured(values: list[bytes], time_ns: int = NOW) -> list[int]:
    table, rejected = decode_ticks(messages(values, time_ns), 0)
    kept: list[int] = table.column("offset").to_pylist()
    assert sorted([*kept, *(message.offset for message, _ in rejected)]) == list(range(len(values)))
    return kept


A, B = GOOD[:2]
PIECES = {
    "two in one, one in two": [A + b"," + B, b'{"symbol":"BTC-USD","time":1', b'"price":1}'],
    "one in two, two in one": [A[:20], A[20:], A + b"," + B],
    "a piece of text": [b'{"symbol":"A}', b'{","time":1775337223000000000}', A + b"," + B],
    "an array": [b"[" + A + b"]", B],
    "nothing": [b"", A],
    "blanks": [b" " + A, B + b"\n"],
    "a brace in a name": [A, b'{"symbol":"A{}","time":1775337223000000000}'],
}


@pytest.mark.parametrize("values", PIECES.values(), ids=PIECES)
def test_pieces_do_not_complete_each_other(values: list[bytes]) -> None:
    assert captured(values) == alone(values)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_accepted_by_both_or_by_neither(data: st.DataObject) -> None:
    values = data.draw(st.lists(st.sampled_from(GOOD), min_size=1, max_size=6))
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(values) - 1))
        value = values[place]
        start = data.draw(st.integers(0, len(value)))
        stop = data.draw(st.integers(start, min(start + 8, len(value))))
        piece = data.draw(
            st.sampled_from([b"", b"{", b"}", b",", b'"', b"[", b"1", b"-", b"\\", A])
        )
        values[place] = value[:start] + piece + value[stop:]
    if data.draw(st.booleans()):  # a value cut in two, as by another writer
        place = data.draw(st.integers(0, len(values) - 1))
        cut = data.draw(st.integers(0, len(values[place])))
        values[place : place + 1] = [values[place][:cut], values[place][cut:]]
    assert captured(values) == alone(values)


@pytest.mark.parametrize("ahead", [61, 3_600, 86_400, 60 * 365 * 86_400])
@pytest.mark.parametrize("kind", ["tick", "heartbeat"])
def test_a_record_of_the_future_without_received_is_rejected(kind: str, ahead: int) -> None:
    time = NOW + ahead * SECOND
    wrong = (
        Tick("BTC-USD", time, 10.0, 9.99, 10.01) if kind == "tick" else Heartbeat("BTC-USD", time)
    )
    values = [A, encode(wrong), B]
    assert captured(values) == alone(values) == [0, 2]
    (message, reason) = decode_ticks(messages(values), 0)[1][0]
    assert (message.offset, reason) == (1, REASONS[2])


def test_a_minute_of_difference_between_clocks_is_accepted() -> None:
    value = encode(Heartbeat("BTC-USD", NOW + 60 * SECOND))
    assert captured([value]) == alone([value]) == [0]
