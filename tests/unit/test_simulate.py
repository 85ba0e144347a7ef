from __future__ import annotations

import itertools
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from volatility.records.tick import TICK_SCHEMA, reasons
from volatility.simulation import simulator
from volatility.simulation.simulator import noise, simulate, start_price
from volatility.units import SECOND

START_NS = 1_775_337_223_000_000_000
ALL_FAULTS = ("gaps", "late", "duplicates")


def market(hours: float = 2.0, *faults: str, symbol: str = "BTC-USD", seed: int = 7) -> pa.Table:
    switches = dict.fromkeys(faults, True)
    return pa.Table.from_batches(simulate(symbol, START_NS, hours, seed, **switches))


def placebo(hours: float = 2.0, seed: int = 7) -> pa.Table:
    return pa.Table.from_batches(noise("BTC-USD", START_NS, hours, seed))


def column(table: pa.Table, name: str) -> np.ndarray:
    values = table[name]
    return (values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values).to_numpy()


def ticks(table: pa.Table) -> pa.Table:
    return table.filter(pc.is_valid(table["price"]))


def middle(table: pa.Table) -> np.ndarray:
    return 0.5 * (column(table, "bid") + column(table, "ask"))


@pytest.mark.parametrize("table", [market(2.0, *ALL_FAULTS), placebo()], ids=["market", "noise"])
def test_every_row_is_a_valid_record(table):
    assert table.schema == TICK_SCHEMA
    assert not reasons(table).any()
    heartbeat = pc.is_null(table["price"])
    for name in TICK_SCHEMA.names[3:]:
        assert pc.is_null(table[name]).equals(heartbeat), name
        values = ticks(table)[name]
        assert values.type == pa.string() or np.isfinite(values.to_numpy()).all()
    assert set(ticks(table)["side"].unique().to_pylist()) == {"buy", "sell"}


@pytest.mark.parametrize("faults", [(), ALL_FAULTS], ids=["clean", "faults"])
def test_same_arguments_give_the_same_stream(faults):
    assert market(0.5, *faults).equals(market(0.5, *faults))


def test_seed_symbol_start_and_kind_each_give_another_market():
    def returns(batches):
        return np.diff(np.log(middle(ticks(pa.Table.from_batches(batches)))))[:5_000]

    streams = [
        returns(simulate("BTC-USD", START_NS, 1, 7)),
        returns(simulate("BTC-USD", START_NS, 1, 8)),
        returns(simulate("ETH-USD", START_NS, 1, 7)),
        returns(simulate("BTC-USD", START_NS + SECOND, 1, 7)),
        returns(noise("BTC-USD", START_NS, 1, 7)),
        returns(noise("ETH-USD", START_NS, 1, 7)),
    ]
    for one, other in itertools.combinations(streams, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(5_000)


@pytest.mark.slow
@pytest.mark.parametrize("faults", [(), ALL_FAULTS], ids=["clean", "faults"])
@pytest.mark.parametrize("chunk_seconds", [1, 37, 10**6])
def test_the_stream_does_not_depend_on_the_chunks(monkeypatch, faults, chunk_seconds):
    expected = market(1.5, *faults)
    monkeypatch.setattr(simulator, "CHUNK_SECONDS", chunk_seconds)
    assert market(1.5, *faults).combine_chunks().equals(expected.combine_chunks())


def test_noise_does_not_depend_on_the_chunks(monkeypatch):
    expected = placebo(0.5)
    monkeypatch.setattr(simulator, "CHUNK_SECONDS", 11)
    assert placebo(0.5).combine_chunks().equals(expected.combine_chunks())


def test_a_longer_market_begins_with_the_shorter_one():
    short = market(0.4)
    assert market(1.3).slice(0, len(short)).combine_chunks().equals(short.combine_chunks())


def test_an_endless_market_comes_an_hour_at_a_time():
    batches = list(itertools.islice(simulate("BTC-USD", START_NS, math.inf, 7), 3))
    for number, batch in enumerate(batches):
        hour = (batch.column("time").cast(pa.int64()).to_numpy() - START_NS) // (3600 * SECOND)
        assert set(hour) == {number}


@pytest.mark.parametrize("table", [market(), placebo()], ids=["market", "noise"])
def test_a_clean_stream_is_in_order_and_counts_without_holes(table):
    assert (np.diff(column(table, "time")) >= 0).all()
    assert (np.diff(column(table, "received")) >= 0).all()
    assert (column(table, "received") > column(table, "time")).all()
    trades = ticks(table)
    assert (np.diff(column(trades, "trade_id")) == 1).all()
    # A heartbeat takes a number of the sequence, as on the wire, but does not show it.
    numbers = column(trades, "sequence")
    rows = np.flatnonzero(pc.is_valid(table["price"]).to_numpy())
    assert (np.diff(numbers) == np.diff(rows)).all()


@pytest.mark.parametrize("table", [market(), placebo()], ids=["market", "noise"])
def test_a_heartbeat_comes_every_second(table):
    beats = column(table.filter(pc.is_null(table["price"])), "time")
    assert len(beats) == 7200
    assert (np.diff(beats) == SECOND).all()
    assert 0 <= beats[0] - START_NS < SECOND


@pytest.mark.parametrize("symbol", ["BTC-USD", "ETH-USD", "SOL-USD"])
def test_prices_lie_on_the_grid_and_quotes_do_not_touch(symbol):
    trades = ticks(market(symbol=symbol))
    for name in ("price", "bid", "ask"):
        values = column(trades, name)
        assert (values == np.round(values * 100) / 100).all()
    bid, ask, price = (column(trades, name) for name in ("bid", "ask", "price"))
    assert (ask - bid > 0.005).all()
    buy = np.array(trades["side"].to_pylist()) == "buy"
    quote, before = np.where(buy, ask, bid), np.where(buy, np.roll(ask, 1), np.roll(bid, 1))
    assert ((price == quote) | (price == before))[1:].all()
    assert 0.03 < np.mean((price < bid) | (price > ask)) < 0.63  # the last trade may be stale
    assert 0.5 < np.mean(ask - bid < 0.015) < 0.96


def test_start_prices():
    assert start_price("BTC-USD") == 68_000
    assert start_price("ETH-USD") == 2_000
    others = [start_price(symbol) for symbol in ("SOL-USD", "ADA-USD", "A")]
    assert len(set(others)) == 3
    assert all(1_000 <= price <= 50_000 for price in others)
    assert abs(middle(ticks(market(0.1)))[0] / 68_000 - 1) < 1e-3


def test_a_lost_connection_loses_all_messages_and_nothing_else():
    clean, broken = market(8), market(8, "gaps")
    times = column(broken, "received")
    silence = np.diff(times) / SECOND
    holes = np.flatnonzero(silence > 15)
    assert 2 <= len(holes) <= 20
    assert (silence[holes] >= 20).all()
    assert (silence[holes] <= 603).all()  # the outage, and the rests of a second around it
    arrival = column(clean, "received")
    inside = arrival > times[-1]  # the connection may be lost at the end
    for hole in holes:
        inside |= (arrival > times[hole]) & (arrival < times[hole + 1])
    assert clean.filter(pa.array(~inside)).combine_chunks().equals(broken.combine_chunks())


def test_late_ticks_arrive_out_of_order_and_are_otherwise_the_same():
    clean, late = market(2), market(2, "late")
    assert (np.diff(column(late, "received")) >= 0).all()
    time = column(late, "time")
    behind = (np.maximum.accumulate(time) - time) / SECOND
    assert 0.002 < np.mean(behind > 0.2) < 0.006
    assert 3.0 < behind.max() <= 4.0
    heartbeat = pc.is_null(late["price"]).to_numpy()
    assert behind[heartbeat].max() == 0.0
    other = [name for name in TICK_SCHEMA.names if name != "received"]
    assert late.sort_by("time").select(other).equals(clean.select(other))


def test_duplicates_repeat_a_tick_and_nothing_else():
    clean, doubled = market(2), market(2, "duplicates")
    assert (np.diff(column(doubled, "received")) >= 0).all()
    trades = ticks(doubled)
    _, first, counts = np.unique(column(trades, "trade_id"), return_index=True, return_counts=True)
    assert 0.003 < np.mean(counts == 2) < 0.007
    assert counts.max() == 2
    assert trades.take(np.sort(first)).equals(ticks(clean))
    key = ["time", "sequence", "trade_id", "price", "bid", "ask"]
    assert trades.select(key).group_by(key).aggregate([]).num_rows == len(first)


def test_the_sizes_on_show_lean_towards_the_next_move():
    trades = ticks(market(12))
    lean = np.log(column(trades, "bid_size") / column(trades, "ask_size"))[:-1]
    move = np.diff(middle(trades))
    moved = move != 0
    right = np.mean(np.sign(lean[moved]) == np.sign(move[moved]))
    assert 0.53 < right < 0.75


def test_arrivals_announce_volatility():
    trades = ticks(market(24))
    second = (column(trades, "time") - START_NS) // SECOND
    log_counts = np.log(np.bincount(second, minlength=86_400).reshape(-1, 10).sum(axis=1) + 1.0)
    squares = np.zeros(86_400)
    np.add.at(squares, second[1:], np.diff(np.log(middle(trades))) ** 2)
    level = np.log(squares.reshape(-1, 10).sum(axis=1) + 1e-11)
    after = np.corrcoef(log_counts[:-2], level[2:])[0, 1]
    before = np.corrcoef(log_counts[2:], level[:-2])[0, 1]
    assert after > before + 0.03
    assert before > 0.1


def test_noise_is_gaussian_and_independent_of_its_past_and_of_arrivals():
    trades = ticks(placebo(24))
    second = (column(trades, "time") - START_NS) // SECOND
    last = np.flatnonzero(np.diff(second, append=second[-1] + 1))
    assert len(last) == 86_400  # no second without a tick: nothing stale to learn from
    returns = np.diff(np.log(middle(trades)[last]))
    counts = np.bincount(second)[1:]
    tolerance = 4.5 / math.sqrt(len(returns))
    assert abs(np.std(returns) / 0.4e-4 - 1) < tolerance
    assert abs(np.mean(returns**4) / np.mean(returns**2) ** 2 - 3) < math.sqrt(24) * tolerance
    size = returns**2
    spread = (column(trades, "ask") - column(trades, "bid"))[last][1:]
    for lag in (1, 2, 10, 60):
        assert abs(np.corrcoef(returns[lag:], returns[:-lag])[0, 1]) < tolerance
        assert abs(np.corrcoef(size[lag:], size[:-lag])[0, 1]) < tolerance
        assert abs(np.corrcoef(counts[lag:], counts[:-lag])[0, 1]) < tolerance
        assert abs(np.corrcoef(size[lag:], counts[:-lag])[0, 1]) < tolerance
        assert abs(np.corrcoef(size[lag:], spread[:-lag])[0, 1]) < tolerance
    assert abs(np.corrcoef(size, counts)[0, 1]) < tolerance


@pytest.mark.parametrize("hours", [0, -1.0, math.nan, -math.inf])
def test_hours_must_be_positive(hours):
    with pytest.raises(ValueError, match="hours"):
        simulate("BTC-USD", START_NS, hours, 7)


@pytest.mark.parametrize(
    ("symbol", "start_ns", "seed", "word"),
    [("btc usd", START_NS, 7, "symbol"), ("A", -1, 7, "start"), ("A", START_NS, -1, "seed")],
)
def test_arguments_are_checked_before_the_first_batch(symbol, start_ns, seed, word):
    for kind in (simulate, noise):
        with pytest.raises(ValueError, match=word):
            kind(symbol, start_ns, 1.0, seed)
