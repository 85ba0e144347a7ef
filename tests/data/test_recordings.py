"""What the real recordings hold, counted by other means than the importer's."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from volatility.features import build_features
from volatility.lake.importing import import_files
from volatility.lake.lake import Lake
from volatility.records.tick import REASONS
from volatility.settings import Features

MINUTE_NS = 60_000_000_000


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def column(lake, symbol, name):
    batches = lake.scan(symbol, [name])
    return pa.chunked_array([batch[0] for batch in batches])


def test_the_tick_recordings_are_whole(recordings, lake):
    report = import_files([recordings / "ticks"], lake)
    assert report.rows == 110_581 + 2_016
    assert (report.rejected, report.duplicates, report.out_of_order) == ({}, 0, 0)
    assert report.gaps == len(lake.gaps()) == len(lake.gaps("BTC-USD")) == 35
    assert lake.symbols() == ["BTC-USD", "ETH-USD"]
    assert lake.dates("BTC-USD") == [
        "2025-12-01",
        "2025-12-05",
        "2025-12-06",
        "2026-04-03",
        "2026-04-04",
    ]
    for symbol, file in (("BTC-USD", "btc-usd"), ("ETH-USD", "eth-usd")):
        source = pq.read_table(recordings / "ticks" / f"{file}.parquet")
        for name in ("time", "received", "price", "bid", "ask", "bid_size", "sequence"):
            kept = column(lake, symbol, name)
            assert kept.combine_chunks().equals(source.column(name).combine_chunks()), name


def test_the_ledger_holds_the_holes_between_recordings(recordings, lake):
    import_files([recordings / "ticks"], lake)
    source = pq.read_table(recordings / "ticks" / "btc-usd.parquet", columns=["time", "recording"])
    run = source.column("recording").to_pylist()
    time = source.column("time").cast(pa.int64()).to_pylist()
    holes = [(time[i - 1], time[i]) for i in range(1, len(run)) if run[i] != run[i - 1]]
    assert [(gap.start_ns, gap.stop_ns) for gap in lake.gaps()] == holes
    assert max(stop - start for start, stop in holes) > 100 * 1440 * MINUTE_NS


def test_the_advanced_trade_ticker_file(recordings, lake):
    path = recordings / "wire" / "advanced-trade-ticker.ndjson.gz"
    report = import_files([path], lake)
    assert (report.rows, report.rejected, report.ignored, report.gaps) == (3_108, {}, {}, 0)
    with gzip.open(path, "rt") as file:
        messages = [json.loads(line) for line in file]
    sequence = [message["sequence_num"] for message in messages]
    assert column(lake, "BTC-USD", "sequence").to_pylist() == sequence == [0, *range(2, 3_109)]
    bids = [float(message["events"][0]["tickers"][0]["best_bid"]) for message in messages]
    assert column(lake, "BTC-USD", "bid").to_pylist() == bids
    # The same 15 minutes stand in the Parquet recording, decoded by another hand.
    other = pq.read_table(recordings / "ticks" / "btc-usd.parquet")
    same = other.filter(pa.compute.equal(other.column("recording"), "r35"))
    for name in ("time", "price", "bid", "ask", "bid_size", "ask_size", "sequence"):
        assert column(lake, "BTC-USD", name).to_pylist() == same.column(name).to_pylist(), name


def test_the_file_of_all_channels(recordings, lake):
    report = import_files([recordings / "wire" / "advanced-trade-all-channels.jsonl.zst"], lake)
    # 25 heartbeats, each for both symbols, which were subscribed before the first of them
    assert (report.rows, report.heartbeats, report.rejected) == (160 + 50, 50, {})
    assert report.ignored == {
        "l2_data": 775,
        "market_trades": 59,
        "candles": 6,
        "subscriptions": 5,
        "recorder's note": 8,
    }
    assert lake.rows("BTC-USD") == 73 + 25
    assert lake.rows("ETH-USD") == 87 + 25
    assert column(lake, "BTC-USD", "received").null_count == 0
    assert (report.out_of_order, report.duplicates, report.gaps) == (0, 0, 0)


def test_the_exchange_file(recordings, lake):
    report = import_files([recordings / "wire" / "exchange-2021.txt.gz"], lake)
    assert (report.rows, report.rejected, report.duplicates) == (107, {}, 0)
    assert report.ignored == {
        "l2update": 9_719,
        "match": 97,
        "snapshot": 10,
        "last_match": 10,
        "subscriptions": 3,
        "recorder's note": 4,
    }
    counts = {symbol: lake.rows(symbol) for symbol in lake.symbols()}
    assert (len(counts), counts["SKL-USD"], counts["YFI-BTC"]) == (10, 53, 1)
    for symbol in counts:
        assert column(lake, symbol, "trade_id").null_count == 0
        assert set(column(lake, symbol, "side").to_pylist()) <= {"buy", "sell"}


def test_the_documented_messages(recordings, lake):
    report = import_files([recordings / "wire" / "documented"], lake)
    assert (report.rows, report.heartbeats) == (1, 0)
    assert report.rejected == {REASONS[3]: 1}  # `ticker_batch` is documented without a quote
    assert report.ignored == {"subscriptions": 4, "heartbeats": 1, "market_trades": 1}
    assert column(lake, "ETH-USDT", "bid").to_pylist() == [21931.98]


def test_every_file_at_once_and_again(recordings, lake):
    files = [recordings / "ticks", recordings / "wire"]
    report = import_files(files, lake)
    assert report.rows == 110_581 + 2_016 + 3_108 + 210 + 107 + 1
    before = lake.digest()
    again = import_files(files, lake)
    assert (again.rows, len(again.skipped)) == (0, 6)
    assert lake.digest() == before
    assert len(lake.gaps()) == 35


def test_everything_there_is_imported_with_no_option_and_features_are_built_of_it(
    recordings, lake, tmp_path
):
    report = import_files([recordings / "**"], lake, progress=False)
    assert report.rows == 110_581 + 2_016 + 3_108 + 210 + 107 + 1 + 2_518_248
    assert report.rejected == {REASONS[3]: 1}  # `ticker_batch` is documented without a quote
    venues = {symbol for symbol in lake.symbols() if "." in symbol}
    assert venues == {
        "BTC-JPY.BITFLYER",
        "BTC-KRW.BITHUMB",
        "BTC-KRW.UPBIT",
        "BTC-USD.CHAINLINK",
        "BTC-USD.STANDX",
        "XBT-USD.BITMEX",
    }
    built = build_features(lake, tmp_path / "features", Features(), progress=False)
    assert built["rows"] > 1_000_000
    # 15 minutes are in two of the recordings, as messages and as a table, and are read once.
    assert len(column(lake, "BTC-USD", "time")) == 110_581 + 73 + 25
