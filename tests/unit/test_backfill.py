from __future__ import annotations

import logging
from collections import deque
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from streaming import backfill as module
from streaming.backfill import (
    TRADE_SCHEMA,
    Backfilled,
    backfill,
    first_since,
    missing,
    parse_bound,
)
from streaming.trades import BackfillError, Pace, Trade, Trades
from tests.rest_exchange import GONE, HALF, Failure, RestExchange, serving
from volatility import parts
from volatility.cli import main
from volatility.compaction import compact
from volatility.lake import Lake, LakeError

START = 1_775_304_000_000_000_000  # 2026-04-04 12:00
SECOND = 1_000_000_000
FIRST = 41  # the product's oldest trade: numbers need not begin at 1
SIDES = ("buy", "sell")


def market(numbers, spacing_ns=SECOND):
    return {
        n: (START + (n - FIRST) * spacing_ns, 100.0 + n, 0.5 + n / 1000, SIDES[n % 2])
        for n in numbers
    }


@pytest.fixture
def exchange():
    """Give 200 trades, a second apart, ten to a page; four numbers were never given."""
    numbers = [n for n in range(FIRST, FIRST + 200) if n not in {50, 51, 99, 140}]
    with serving(RestExchange("BTC-USD", market(numbers), most=10)) as running:
        yield running


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(module, "PAGE_TRADES", 10)
    monkeypatch.setattr(module, "PART_PAGES", 3)


class Time:
    """A clock that only sleep moves."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def clock(self):
        return self.now


def client(exchange, passing=None, **pace):
    passing = passing or Time()
    options = {"requests_per_second": 1e9} | pace
    return Trades(exchange.symbol, exchange.url, Pace(**options), passing.sleep, passing.clock)


class Direct(Trades):
    """Ask the stand-in without a socket, and be killed when so many pages were given."""

    def __init__(self, exchange, pages=10_000):
        super().__init__(exchange.symbol)
        self.exchange, self.pages = exchange, pages

    def older(self, *, limit, after=None):
        self.pages -= limit > 1
        if self.pages < 0:
            raise KeyboardInterrupt
        query = {"limit": limit, "after": 2**62 if after is None else after}
        return [Trade(**entry) for entry in reversed(self.exchange.page(query))]


def fetch(exchange, folder, start, stop, **options):
    """Backfill from the second ``start`` to before the second ``stop``."""
    since, until = START + start * SECOND, START + stop * SECOND
    return backfill(client(exchange, **options), folder, since, until, progress=False)


def rows(folder):
    lake = Lake(folder / "trades", TRADE_SCHEMA)
    return [row for batch in lake.scan("BTC-USD") for row in batch.to_pylist()]


def numbers(folder):
    return [row["trade_id"] for row in rows(folder)]


def expected(exchange, start, stop):
    return [n for n in sorted(exchange.trades) if FIRST + start <= n < FIRST + stop]


def test_trades_come_as_they_are_with_the_side_of_the_taker(exchange, tmp_path):
    assert fetch(exchange, tmp_path, 2, 4) == Backfilled(2, 0)
    low, high = rows(tmp_path)
    assert (low["trade_id"], low["offset"], low["symbol"]) == (43, 43, "BTC-USD")
    assert (low["price"], low["size"]) == (143.0, 0.543)
    assert low["time"].value == START + 2 * SECOND
    assert exchange.trades[43][3] == "sell"  # the maker's
    assert (low["side"], high["side"]) == ("buy", "sell")


def test_the_range_is_whole_whatever_numbers_were_never_given(exchange, tmp_path):
    assert fetch(exchange, tmp_path, 5, 150).written == 141
    assert numbers(tmp_path) == expected(exchange, 5, 150)


def test_a_server_of_smaller_pages_loses_nothing(exchange, tmp_path):
    exchange.most = 3
    fetch(exchange, tmp_path, 5, 150)
    assert numbers(tmp_path) == expected(exchange, 5, 150)


def test_one_page_holds_ten_numbers(exchange, tmp_path):
    fetch(exchange, tmp_path, 0, 100)
    pages = [query["after"] for query in exchange.queries if query["limit"] == 10]
    assert pages == list(range(FIRST + 10, FIRST + 101, 10))


def test_a_range_beyond_the_newest_trade_ends_there_and_goes_on_later(exchange, tmp_path):
    fetch(exchange, tmp_path, 190, 10_000)
    assert numbers(tmp_path) == expected(exchange, 190, 10_000)
    exchange.trades |= market(range(FIRST + 200, FIRST + 230))
    assert fetch(exchange, tmp_path, 190, 10_000).written == 30
    assert numbers(tmp_path) == expected(exchange, 190, 10_000)


def test_the_same_again_asks_for_no_page(exchange, tmp_path):
    fetch(exchange, tmp_path, 20, 90)
    exchange.queries.clear()
    assert fetch(exchange, tmp_path, 20, 90) == Backfilled(0, 0)
    assert {query["limit"] for query in exchange.queries} == {1}  # those that find the bounds


@given(
    st.lists(st.tuples(st.integers(-5, 205), st.integers(1, 210)), min_size=1, max_size=4),
    st.integers(0, 40),
)
def test_ranges_in_any_order_and_kills_lose_and_double_nothing(tmp_path_factory, ranges, kill):
    folder = tmp_path_factory.mktemp("lake")
    exchange = RestExchange("BTC-USD", market(range(FIRST, FIRST + 200)))
    wanted = set()
    for number, (start, length) in enumerate(ranges):
        trades = Direct(exchange, kill if number == 0 else 10_000)
        since, until = START + start * SECOND, START + (start + length) * SECOND
        try:
            backfill(trades, folder, since, until, progress=False)
        except KeyboardInterrupt:
            backfill(Direct(exchange), folder, since, until, progress=False)
        wanted |= set(expected(exchange, start, start + length))
        lake = Lake(folder / "trades", TRADE_SCHEMA)
        if wanted:
            assert sorted(numbers(folder)) == sorted(wanted)
            assert lake.rows("BTC-USD") == len(wanted)
            compact(lake, older_than_seconds=0.0, progress=False)
            assert sorted(numbers(folder)) == sorted(wanted)


def _trade(entry):
    return Trade(**entry)


def test_a_batch_over_midnight_cut_short_is_made_whole(tmp_path, monkeypatch):
    spacing = 3600 * SECOND
    with serving(RestExchange("BTC-USD", market(range(FIRST, FIRST + 30), spacing))) as exchange:
        publish = parts._Open.publish
        done: list[object] = []

        def dies(self):
            if done:
                raise KeyboardInterrupt
            done.append(self)
            publish(self)

        monkeypatch.setattr(parts._Open, "publish", dies)
        until = START + 30 * spacing
        with pytest.raises(KeyboardInterrupt):
            backfill(client(exchange), tmp_path, START, until, progress=False)
        monkeypatch.setattr(parts._Open, "publish", publish)
        assert backfill(client(exchange), tmp_path, START, until, progress=False).written == 30
        assert numbers(tmp_path) == list(range(FIRST, FIRST + 30))
        assert Lake(tmp_path / "trades", TRADE_SCHEMA).rows("BTC-USD") == 30


def test_no_reader_of_ticks_sees_trades(exchange, tmp_path):
    fetch(exchange, tmp_path, 0, 20)
    with pytest.raises(LakeError, match="is empty"):
        Lake(tmp_path).symbols()
    with pytest.raises(LakeError, match=r"has no column ask, bid.*trades without quotes"):
        list(Lake(tmp_path / "trades").scan("BTC-USD", ["time", "bid", "ask"]))


@pytest.mark.parametrize(
    "failure",
    [
        Failure(429),
        Failure(429, (("Retry-After", "7"),)),
        Failure(500, body="<html>"),
        Failure(503, (("Retry-After", "soon"),)),
        Failure(200, body='[{"trade_id": 1}]'),
        Failure(200, body="\xff"),
        Failure(GONE),
        Failure(HALF),
    ],
)
def test_a_failure_that_passes_is_waited_out(exchange, tmp_path, failure, caplog):
    exchange.failures = deque([failure] * 3)
    passing = Time()
    fetch(exchange, tmp_path, 0, 20, passing=passing)
    assert numbers(tmp_path) == expected(exchange, 0, 20)
    waits = [seconds for seconds in passing.slept if seconds > 0.01]
    assert len(waits) == 3
    if dict(failure.headers).get("Retry-After") == "7":
        assert waits == [7.0] * 3
    else:
        assert all(0.25 <= wait / 2**n <= 0.5 for n, wait in enumerate(waits))
    assert "again in" in caplog.text


def test_a_date_to_come_back_at_is_heeded(exchange):
    moment = datetime.now(UTC) + timedelta(seconds=100)
    stamp = format_datetime(moment, usegmt=True)
    exchange.failures = deque([Failure(429, (("Retry-After", stamp),))])
    passing = Time()
    client(exchange, passing).older(limit=10)
    assert 60 < max(passing.slept) <= 100


def test_waits_are_bounded(exchange):
    exchange.failures = deque([Failure(GONE)] * 7)
    passing = Time()
    client(exchange, passing, cap_seconds=3.0).older(limit=10)
    assert 1.5 <= max(passing.slept) <= 3.0


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ([Failure(429)] * 8, r"no page in 8 attempts \(429 Public rate limit exceeded\).*run the"),
        ([Failure(GONE)] * 8, "no page in 8 attempts"),
        ([Failure(404, body='{"message": "NotFound"}')], "no product BTC-USD.*check --symbol"),
        ([Failure(403, body="no")], "refused: 403 Forbidden"),
        ([Failure(429, (("Retry-After", "3600"),))], "stay away for 3600 s; run the same command"),
    ],
)
def test_a_failure_that_stays_is_one_clear_line(exchange, tmp_path, failures, message):
    exchange.failures = deque(failures)
    with pytest.raises(BackfillError, match=message) as raised:
        fetch(exchange, tmp_path, 0, 20)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_server_that_ignores_the_cursor_is_not_believed(exchange, tmp_path, monkeypatch):
    trades = client(exchange)
    page = trades.older(limit=10)
    monkeypatch.setattr(trades, "older", lambda **_: page)
    with pytest.raises(BackfillError, match="does not heed the cursor"):
        module._between(trades, FIRST, FIRST + 10)


def test_requests_are_spaced_evenly(exchange):
    passing = Time()
    trades = client(exchange, passing, requests_per_second=8.0)
    for _ in range(17):
        trades.older(limit=1)
    assert passing.now == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("price", "0"), ("price", "nan"), ("size", "-1"), ("size", "inf"), ("side", "none"),
     ("time", "yesterday"), ("time", "1999-01-01T00:00:00Z"), ("price", "1,5")],
)  # fmt: skip
def test_what_is_no_trade_is_left_out_and_told(field, value, caplog):
    good = {"trade_id": 7, "time": "2026-04-04T12:00:00Z", "price": "1", "size": "2", "side": "buy"}
    bad = good | {"trade_id": 8, field: value}
    with caplog.at_level(logging.WARNING):
        table = module.to_table([_trade(good), _trade(bad)], "BTC-USD")
    assert table.schema == TRADE_SCHEMA
    assert table.column("trade_id").to_pylist() == [7]
    assert "trade 8 is left out" in caplog.text


def test_a_trade_left_out_is_counted_and_not_asked_for_again(exchange, tmp_path):
    last = FIRST + 39  # what follows must know that it was seen
    exchange.trades[last] = (START + 39 * SECOND, 0.0, 1.0, "buy")
    assert fetch(exchange, tmp_path, 0, 40) == Backfilled(37, 1)
    assert fetch(exchange, tmp_path, 0, 40) == Backfilled(0, 0)
    exchange.queries.clear()
    fetch(exchange, tmp_path, 0, 40)
    assert {query["limit"] for query in exchange.queries} == {1}


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(-2, 55))
def test_the_bound_is_the_first_trade_at_or_after_a_time(seconds, second):
    times = sorted(seconds)
    exchange = RestExchange("A", {3 * n + 5: (START + t * SECOND, 1.0, 1.0, "buy")
                                  for n, t in enumerate(times)})  # fmt: skip
    trades = Direct(exchange)
    newest = max(exchange.trades)
    found = [n for n, (at, *_) in exchange.trades.items() if at >= START + second * SECOND]
    assert first_since(trades, START + second * SECOND) == min(found, default=newest + 1)


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 10)),
        max_size=5,
    ),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_holes_are_exactly_what_is_not_held(spans, start, stop):
    held, reached = [], 0
    for start_at, length in sorted(spans):  # no number is ever held twice
        first = max(start_at, reached)
        held.append((first, first + length))
        reached = first + length + 1
    holes = missing(held, start, stop)
    numbers = [n for _, lower, upper in holes for n in range(lower, upper)]
    covered = {n for first, end in held for n in range(first, end)}
    assert numbers == [n for n in range(start, stop) if n not in covered]
    for begin, lower, _ in holes:
        assert begin == lower or (begin, lower) in held


def test_a_product_without_trades_is_one_clear_line(tmp_path):
    with (
        serving(RestExchange("BTC-USD", {})) as exchange,
        pytest.raises(BackfillError, match="BTC-USD has no trades"),
    ):
        fetch(exchange, tmp_path, 0, 1)


@pytest.mark.parametrize(("text", "seconds"), [
    ("2026-04-04", 1_775_260_800), ("2026-04-04T00:00", 1_775_260_800),
    ("2026-04-04T02:00:01.5+02:00", 1_775_260_801.5), ("2026-04-04T00:00:00Z", 1_775_260_800),
])  # fmt: skip
def test_a_bound_is_utc_unless_it_says_otherwise(text, seconds):
    assert parse_bound("--since", text) == int(seconds * 10) * SECOND // 10


def command(*arguments):
    return CliRunner().invoke(main, ["backfill", "--symbol", "BTC-USD", *arguments])


def test_the_command_fills_the_lake(exchange, tmp_path):
    place = ["--lake", str(tmp_path), "--url", exchange.url]
    done = command("--since", "2026-04-04T12:00:10", "--until", "2026-04-04T12:00:12", *place)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == f"1 trades in {tmp_path / 'trades'}"
    assert numbers(tmp_path) == [52]
    assert [p.relative_to(tmp_path).parts[:3] for p in tmp_path.rglob("*.parquet")] == [
        ("trades", "symbol=BTC-USD", "date=2026-04-04")
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "noon"], "--since 'noon': write it as 2026-04-04T00:00"),
        (["--since", "2026-04-05", "--until", "2026-04-05"], "--since is not before --until"),
        (["--since", "2026-04-05", "--url", "file:///etc"], "is no http or https address"),
        (["--since", "2026-04-05", "--symbol", "../x"], "symbol '../x' is malformed"),
    ],
)
def test_the_command_says_in_a_line_what_is_wrong(arguments, message):
    done = command(*arguments)
    assert done.exit_code == 1
    (line,) = done.output.splitlines()
    assert message in line


def test_the_stand_in_speaks_as_documented(exchange):
    page = exchange.page({"after": 60, "limit": 2})
    assert [entry["trade_id"] for entry in page] == [59, 58]
    assert set(page[0]) == {"trade_id", "side", "size", "price", "time"}
