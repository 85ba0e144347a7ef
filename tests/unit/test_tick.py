from __future__ import annotations

import contextlib
import math

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volatility.records.columns import to_records, to_table
from volatility.records.tick import (
    EARLIEST_NS,
    LATEST_NS,
    MAX_CLOCK_SKEW_NS,
    REASONS,
    TICK_SCHEMA,
    Heartbeat,
    Tick,
    TickError,
    decode,
    encode,
    reasons,
    validate,
)

NOW = 1_775_337_223_291_084_825
INT64 = st.integers(-(2**63), 2**63 - 1)

symbols = st.from_regex(r"[A-Z0-9][A-Z0-9._@-]{0,31}", fullmatch=True)
times = st.integers(EARLIEST_NS, LATEST_NS)
sizes = st.none() | st.floats(0, 1e9)
ids = st.none() | INT64


@st.composite
def ticks(draw: st.DrawFn) -> Tick:
    bid = draw(st.floats(1e-9, 1e9))
    ask = bid * draw(st.floats(1.0, 1.5))
    time = draw(times)
    return Tick(
        draw(symbols),
        time,
        price=draw(st.floats(bid, ask)),
        bid=bid,
        ask=ask,
        received=draw(st.none() | st.integers(time - MAX_CLOCK_SKEW_NS, time + 10**12)),
        bid_size=draw(sizes),
        ask_size=draw(sizes),
        size=draw(sizes),
        side=draw(st.sampled_from([None, "buy", "sell"])),
        sequence=draw(ids),
        trade_id=draw(ids),
    )


records = ticks() | st.builds(Heartbeat, symbols, times)


@given(records)
def test_json_gives_back_what_it_took(record):
    assert decode(encode(record)) == record


@given(st.lists(records, max_size=5))
def test_columns_give_back_what_they_took(written):
    table = to_table(written, 3, range(len(written)))
    assert list(to_records(table)) == written
    assert table.column("partition").to_pylist() == [3] * len(written)


odd_floats = st.sampled_from(
    [None, math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-13, 5e-324, 1e13, 1.7e308, 1.0, 10.0, 10.1]
)
floats = odd_floats | st.floats(0.9, 1.1) | st.floats()
odd_times = st.sampled_from(
    [0, EARLIEST_NS - 1, EARLIEST_NS, LATEST_NS, LATEST_NS + 1, NOW, -(2**63), 2**63 - 1]
)
arrivals = st.none() | odd_times | st.integers(NOW - 2 * MAX_CLOCK_SKEW_NS, NOW) | INT64
sound = (NOW, None, 1.0, 1.0, 1.0, None, None, None)
places = st.sampled_from(range(len(sound)))


@st.composite
def rows(draw: st.DrawFn):
    """Draw a sound row with some values exchanged, so that every rule gets its turn."""
    row = list(sound)
    for place in draw(st.lists(places, max_size=4)):
        row[place] = draw((odd_times | times, arrivals, *[floats] * 6)[place])
    return tuple(row)


def scalar_reason(row) -> int:
    time, received, price, bid, ask, bid_size, ask_size, size = row
    record: Tick | Heartbeat
    if price is bid is ask is None:
        record = Heartbeat("X", time, received)
    elif None in (price, bid, ask):
        # A tick without one of the three cannot be built; only its time is judged before that.
        record = Tick("X", time, math.nan, math.nan, math.nan, received)
    else:
        record = Tick("X", time, price, bid, ask, received, bid_size, ask_size, size)
    try:
        validate(record)
    except TickError as error:
        return REASONS.index(str(error))
    return 0


@given(st.lists(rows(), min_size=1, max_size=20))
def test_a_tick_and_a_column_of_ticks_are_judged_alike(many):
    names = ["time", "received", "price", "bid", "ask", "bid_size", "ask_size", "size"]
    columns = dict(zip(names, zip(*many, strict=True), strict=True))
    arrays = []
    for field in TICK_SCHEMA:
        values = list(columns.get(field.name, [None] * len(many)))
        kind = pa.int64() if pa.types.is_timestamp(field.type) else field.type
        values = ["X"] * len(many) if field.name == "symbol" else values
        arrays.append(pa.array(values, kind, from_pandas=False).cast(field.type))
    table = pa.Table.from_arrays(arrays, schema=TICK_SCHEMA)
    expected = [scalar_reason(row) for row in many]
    assert reasons(table).tolist() == expected
    assert reasons(table).dtype == np.int8


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"time": 0}, 1),
        ({"received": NOW - MAX_CLOCK_SKEW_NS - 1}, 2),
        ({"price": math.nan}, 3),
        ({"ask": math.inf}, 3),
        ({"bid": -1.0}, 4),
        ({"price": 0.0}, 4),
        ({"bid": 2.0, "ask": 1.9}, 5),
        ({"price": 100.0}, 6),
        ({"ask": 11.0}, 6),
        ({"size": -0.1}, 7),
        ({"bid_size": math.nan}, 7),
    ],
)
def test_every_rule_has_its_reason(change, reason):
    good = Tick("BTC-USD", NOW, price=1.0, bid=1.0, ask=1.0)
    assert validate(good) is good
    with pytest.raises(TickError, match=f"^{REASONS[reason]}$"):
        validate(msgspec.structs.replace(good, **change))


@pytest.mark.parametrize("symbol", ["", "btc", "../x", "A" * 33, "A/B", "-A", "A\n"])
def test_a_symbol_that_cannot_name_a_folder_is_refused(symbol):
    with pytest.raises(TickError, match="symbol"):
        validate(Heartbeat(symbol, NOW))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"symbol":"A"}',
        b'{"symbol":"A","time":1.5}',
        b'{"symbol":"A","time":1775337223000000000,"price":1}',
        b'{"symbol":"A","time":1775337223000000000,"colour":"red"}',
        b'{"symbol":"A","time":1775337223000000000,"price":NaN,"bid":1,"ask":1}',
        b'{"symbol":"A","time":1775337223000000000,"sequence":9223372036854775808}',
        b'{"symbol":"A","time":1775337223000000000,"received":-9223372036854775809}',
        b'{"symbol":"A","time":1775337223000000000,"side":"both"}',
    ],
)
def test_what_is_no_record_raises_a_tick_error(value):
    with pytest.raises(TickError):
        decode(value)


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_decoding_raises_nothing_else(value):
    with contextlib.suppress(TickError):
        decode(value)
