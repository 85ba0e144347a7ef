from __future__ import annotations

import gzip
import json
import math
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from volatility.lake import importing
from volatility.lake.importing import ImportingError, import_files
from volatility.lake.lake import Lake, LakeError
from volatility.records.tick import REASONS
from volatility.sources.coinbase import NOT_A_MESSAGE
from volatility.sources.messages import BAD_SYMBOL
from volatility.sources.recordings import read_entry
from volatility.units import SECOND

NOON = 1_775_304_000_000_000_000  # 2026-04-04 12:00


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def write(path, rows=3, **columns):
    """Write a Parquet recording of one tick a second; a column given replaces its own."""
    base = {
        "symbol": ["BTC-USD"] * rows,
        "time": [NOON + i * SECOND for i in range(rows)],
        "price": [100.0] * rows,
        "bid": [99.5] * rows,
        "ask": [100.5] * rows,
    }
    pq.write_table(pa.table({k: v for k, v in (base | columns).items() if v is not None}), path)
    return path


def ticker(second=0, sequence=0, symbol="BTC-USD", **changes):
    stamp = datetime.fromtimestamp(NOON / 1e9 + second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    quote = {"product_id": symbol, "price": "100", "best_bid": "99", "best_ask": "101"} | changes
    return json.dumps(
        {
            "channel": "ticker",
            "timestamp": stamp,
            "sequence_num": sequence,
            "events": [{"type": "update", "tickers": [quote]}],
        }
    )


def heartbeat(second, sequence):
    stamp = datetime.fromtimestamp(NOON / 1e9 + second, UTC).strftime("%Y-%m-%d %H:%M:%S")
    event = {"current_time": f"{stamp}.5 +0000 UTC m=+1.2", "heartbeat_counter": second}
    return json.dumps({"channel": "heartbeats", "sequence_num": sequence, "events": [event]})


def lines(path, *texts):
    path.write_text("\n".join(texts) + "\n")
    return path


def rows(lake, symbol="BTC-USD"):
    return pa.Table.from_batches(lake.scan(symbol)).to_pylist()


def seconds(lake, symbol="BTC-USD"):
    batches = lake.scan(symbol, ["time"])
    return [(t - NOON) / 1e9 for b in batches for t in b[0].cast(pa.int64()).to_pylist()]


def nothing_written(lake):
    return not lake.root.exists() or not [p for p in lake.root.rglob("*") if p.is_file()]


def rejects(lake):
    files = sorted((lake.root / "rejected").glob("*"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_a_parquet_recording_becomes_rows_numbered_as_they_stood(lake, tmp_path):
    report = import_files([write(tmp_path / "a.parquet", bid_size=[1.0, None, 2.0])], lake)
    assert (report.rows, report.parts, report.heartbeats) == (3, 1, 0)
    found = rows(lake)
    assert [row["offset"] for row in found] == [0, 1, 2]
    assert [row["bid_size"] for row in found] == [1.0, None, 2.0]
    assert {row["sequence"] for row in found} == {None}


def test_the_same_file_again_changes_nothing_and_is_said(lake, tmp_path):
    path = write(tmp_path / "a.parquet", price=[100.0, math.nan, 100.0])
    import_files([path], lake)
    before = {p: p.read_bytes() for p in lake.root.rglob("*") if p.is_file()}
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(path.read_bytes())
    report = import_files([path, copy], lake)
    assert (report.rows, report.rejected, report.skipped) == (0, {}, (path, copy))
    assert {p: p.read_bytes() for p in lake.root.rglob("*") if p.is_file()} == before


def test_bad_ticks_are_counted_by_reason_and_kept(lake, tmp_path):
    nan = math.nan
    path = write(
        tmp_path / "a.parquet",
        10,
        price=[nan, -1.0, 100.0, 1e14, 100.0, 100.0, 100.0, None, 100.0, 100.0],
        bid=[99.5, 99.5, 101.0, *[99.5] * 7],
        symbol=[*["BTC-USD"] * 4, "../up", None, *["BTC-USD"] * 4],
        time=[*[NOON] * 6, 5, NOON, None, NOON],
    )
    report = import_files([path], lake)
    assert report.rows == 1
    assert report.rejected == {
        REASONS[1]: 2,
        REASONS[3]: 2,
        REASONS[4]: 1,
        REASONS[5]: 1,
        REASONS[6]: 1,
        BAD_SYMBOL: 2,
    }
    assert [row["offset"] for row in rows(lake)] == [9]
    kept = rejects(lake)
    assert [entry["position"] for entry in kept] == list(range(1, 10))
    assert kept[2]["reason"] == REASONS[5]
    assert json.loads(kept[2]["raw"])["bid"] == 101.0


def test_other_types_of_columns_are_taken(lake, tmp_path):
    wraps = NOON // 1000 - 2**61  # a thousand times that is noon, modulo 2 to the 64th
    moments = pa.array([NOON // 1000, wraps], pa.timestamp("us"))
    path = write(
        tmp_path / "a.parquet",
        2,
        symbol=pa.array(["BTC-USD"] * 2).dictionary_encode(),
        time=moments,
        price=pa.array([100, 100], pa.int32()),
        sequence=[7.0, math.nan],
        trade_id=["8", None],
        side=["BUY", "?"],
    )
    report = import_files([path], lake)
    assert report.rejected == {REASONS[1]: 1}
    (row,) = rows(lake)
    assert (row["sequence"], row["trade_id"], row["side"], row["price"]) == (7, 8, "buy", 100.0)
    assert seconds(lake) == [0.0]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"bid": None}, "has no column of bid; it has symbol, time, price, ask; name it by --map"),
        ({"time": ["noon"] * 3}, "has no valid row: time is outside 2009 to 2100 .3. of 3"),
        ({"price": ["much"] * 3}, "has no valid row: price, bid or ask is missing"),
        ({"symbol": ["β-USD"] * 3}, "symbol 'β-USD' is not understood: a symbol is BASE-QUOTE"),
    ],
)
def test_a_parquet_file_of_other_columns_is_one_clear_error(lake, tmp_path, change, match):
    path = write(tmp_path / "a.parquet", **change)
    with pytest.raises(ImportingError, match=rf"a\.parquet .*{match}"):
        import_files([path], lake)
    assert nothing_written(lake)


def test_a_change_of_recording_is_a_gap_and_starts_the_clock_anew(lake, tmp_path):
    times = [NOON + s * SECOND for s in (0, 2, 1, 60, 61, 0, 5)]
    symbol = ["BTC-USD"] * 5 + ["ETH-USD"] * 2
    run = ["r01", "r01", "r01", "r02", "r02", "r01", "r02"]
    path = write(tmp_path / "a.parquet", 7, symbol=symbol, time=times, recording=run)
    report = import_files([path], lake)
    assert (report.out_of_order, report.gaps) == (1, 2)
    found = [(g.symbol, g.start_ns - NOON, g.stop_ns - NOON) for g in lake.gaps()]
    assert found == [("BTC-USD", 2 * SECOND, 60 * SECOND), ("ETH-USD", 0, 5 * SECOND)]
    assert lake.gaps()[0].detail["after"] == "r02"
    assert seconds(lake) == [0, 2, 1, 60, 61]


def test_another_clock_is_another_recording(lake, tmp_path):
    path = write(tmp_path / "a.parquet", time_kind=["recv", "exchange", "exchange"])
    assert import_files([path], lake).gaps == 1


def test_a_recording_that_starts_before_the_last_one_ended_leaves_no_hole(lake, tmp_path):
    times = [NOON + s * SECOND for s in (0, 9, 5)]
    report = import_files(
        [write(tmp_path / "a.parquet", time=times, recording=["a", "a", "b"])], lake
    )
    assert (report.gaps, report.out_of_order, lake.gaps()) == (0, 0, [])


def test_counts_do_not_depend_on_the_size_of_a_chunk(tmp_path, monkeypatch):
    n = 40
    times = [NOON + (i // 15 * 3600 + i * 7 % 5) * SECOND for i in range(n)]
    path = write(
        tmp_path / "a.parquet",
        n,
        time=times,
        sequence=[i % 2 for i in range(n)],
        recording=[f"r{i // 15}" for i in range(n)],
        price=[math.nan if i % 9 == 0 else 100.0 for i in range(n)],
    )
    reports = []
    for chunk_rows in (1, 7, 1000):
        monkeypatch.setattr(importing, "read_entry", partial(read_entry, chunk_rows=chunk_rows))
        lake = Lake(tmp_path / f"lake{chunk_rows}")
        report = import_files([path], lake)
        reports.append((report, [row["offset"] for row in rows(lake)], lake.gaps()))
    assert reports[0] == reports[1] == reports[2]
    assert reports[0][0].out_of_order > 0
    assert reports[0][0].duplicates > 0
    assert reports[0][0].gaps == 2


def test_a_duplicate_is_dropped_over_the_border_of_a_chunk(lake, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "read_entry", partial(read_entry, chunk_rows=1))
    path = write(tmp_path / "a.parquet", time=[NOON] * 3, sequence=[1, 2, 1])
    report = import_files([path], lake)
    assert (report.rows, report.duplicates) == (2, 1)
    assert [row["offset"] for row in rows(lake)] == [0, 1]


def test_wire_messages_become_ticks_and_heartbeats_move_their_symbols(lake, tmp_path):
    path = lines(
        tmp_path / "a.ndjson",
        heartbeat(0, 0),
        ticker(1, 1),
        ticker(1, 2, "ETH-USD"),
        '{"channel":"market_trades","events":[]}',
        heartbeat(2, 3),
    )
    report = import_files([path], lake)
    assert (report.rows, report.heartbeats) == (4, 2)
    assert report.ignored == {"heartbeats": 1, "market_trades": 1}
    assert seconds(lake) == [1.0, 2.5]
    assert [row["offset"] for row in rows(lake, "ETH-USD")] == [1, 3]
    assert [row["price"] for row in rows(lake, "ETH-USD")] == [100.0, None]


def test_a_heartbeat_moves_a_subscribed_symbol_that_has_not_traded_yet(lake, tmp_path):
    answer = {"ticker": ["BTC-USD"], "heartbeats": ["heartbeats"], "level2": ["ETH-USD"]}
    subscribed = {"channel": "subscriptions", "events": [{"subscriptions": answer}]}
    path = lines(tmp_path / "a.ndjson", json.dumps(subscribed), heartbeat(1, 1))
    assert import_files([path], lake).rows == 1
    assert (lake.symbols(), seconds(lake)) == (["BTC-USD"], [1.5])


def test_a_new_connection_is_a_gap_and_forgets_its_subscriptions(lake, tmp_path):
    path = lines(
        tmp_path / "a.ndjson",
        ticker(0, 0),
        ticker(1, 1, "ETH-USD"),
        ticker(30, 0),
        heartbeat(31, 1),
    )
    report = import_files([path], lake)
    assert [(g.symbol, g.stop_ns - g.start_ns) for g in lake.gaps()] == [("BTC-USD", 30 * SECOND)]
    assert (report.rows, report.heartbeats) == (4, 1)
    assert seconds(lake) == [0, 30, 31.5]


@pytest.mark.parametrize(
    "texts",
    [
        ['{"t":"connect"}', '{"t":"recv","ts":1775304000.25,"data":%s}'],
        ['{"t":"send","data":"{}"}', '{"ts":1775304000.25,"data":%s}'],
    ],
)
def test_envelopes_are_opened(lake, tmp_path, texts):
    for quoted in (json.dumps(ticker()), ticker()):
        path = lines(tmp_path / "a.jsonl", *(t.replace("%s", quoted) for t in texts))
        report = import_files([path], lake)
        assert (report.rows, report.ignored) == (1, {"recorder's note": 1})
        assert rows(lake)[0]["received"].value == NOON + SECOND // 4


def test_lines_with_an_arrival_and_an_address_are_read(lake, tmp_path):
    path = lines(
        tmp_path / "a.txt",
        "wss://feed <-> 1775304000.0",
        'wss://feed <- 1775304000.1: {"type":"subscribe"}',
        f"1775304000.123456789: {ticker()}",
        "wss://feed <-> 1775304005.0",
        f"1775304009: {ticker(9)}",
    )
    report = import_files([path], lake)
    assert (report.rows, report.gaps) == (2, 1)
    assert [row["received"].value - NOON for row in rows(lake)] == [123456789, 9 * SECOND]


def test_marked_messages_may_go_on_over_lines(lake, tmp_path):
    pretty = json.dumps(json.loads(ticker()), indent=2)
    path = lines(tmp_path / "a.txt", '> {"type": "subscribe"}', f"< {ticker(1)}", "=", pretty)
    assert import_files([path], lake).rows == 2
    assert seconds(lake) == [0.0, 1.0]


def test_broken_lines_are_rejected_one_by_one(lake, tmp_path):
    path = lines(
        tmp_path / "a.ndjson",
        ticker(0, 1),
        ticker(1, 2)[:40],
        "<html>429 Too Many Requests</html>",
        "",
        '{"t":"recv","data":"\\ud800"}',
        ticker(3, 3, best_bid="-5"),
        ticker(4, 4, best_bid="200"),
        '{"hello":1}',
        ticker(5, 5),
    )
    path.write_bytes(path.read_bytes() + b"\xff\xfe\x00\n")
    report = import_files([path], lake)
    assert report.rows == 2
    assert report.rejected == {"not JSON": 2, NOT_A_MESSAGE: 3, REASONS[4]: 1, REASONS[5]: 1}
    assert [entry["position"] for entry in rejects(lake)] == [2, 3, 5, 6, 7, 8, 10]
    assert rejects(lake)[1]["raw"] == "<html>429 Too Many Requests</html>"


def truncated_parquet(path):
    write(path, 1000)
    path.write_bytes(path.read_bytes()[:-100])


def corrupt_parquet(path):
    write(path, 1000)
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xaa" * 396
    path.write_bytes(content)


def truncated_gzip(path):
    text = "\n".join(ticker(i, i, price=str(100 + i / 1000)) for i in range(1000))
    path.write_bytes(gzip.compress(text.encode())[:-500])


def truncated_zstd(path):
    text = "\n".join(ticker(i, i, price=str(100 + i / 1000)) for i in range(1000))
    path.write_bytes(pa.compress(text.encode(), codec="zstd", asbytes=True)[:-500])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (truncated_parquet, "truncated"),
        (corrupt_parquet, "corrupt"),
        (truncated_gzip, "truncated or corrupt"),
        (truncated_zstd, "truncated or corrupt"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(bytes(range(256)) * 100), "neither Parquet"),
        (lambda path: path.write_text("hello\n" * 5000), "neither Parquet"),
        (lambda path: path.write_text("a,b\n1,2\n"), "has no column of time; it has a, b"),
        (Path.exists, "no such file"),
    ],
)
def test_a_bad_file_is_one_clear_error_and_leaves_no_trace(lake, tmp_path, make, match):
    make(tmp_path / "bad")
    with pytest.raises(ImportingError, match=rf"^\S*bad\b.*{match}") as caught:
        import_files([tmp_path / "bad"], lake)
    assert "\n" not in str(caught.value)
    assert nothing_written(lake)


def test_the_other_files_are_imported_all_the_same(lake, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "c.parquet")
    truncated_parquet(folder / "b.parquet")
    lines(folder / "a.ndjson", ticker(9))
    (folder / "README.md").write_text("not a recording")
    (folder / ".hidden.txt").write_text("neither")
    with pytest.raises(ImportingError) as caught:
        import_files([folder, tmp_path / "none"], lake)
    assert len(caught.value.failures) == 2
    assert "b.parquet" in str(caught.value)
    assert "2 other file(s) imported" in str(caught.value)
    assert [path.name for path in caught.value.report.imported] == ["a.ndjson", "c.parquet"]
    assert lake.rows("BTC-USD") == 4


def test_a_folder_without_recordings_is_said(lake, tmp_path):
    with pytest.raises(ImportingError, match="no recordings found"):
        import_files([tmp_path], lake)


def test_another_lake_can_be_imported(lake, tmp_path):
    import_files([write(tmp_path / "a.parquet", price=[100.0, math.nan, 100.0])], lake)
    other = Lake(tmp_path / "other")
    assert import_files([lake.root], other).rows == 2
    assert seconds(other) == seconds(lake)


def test_an_import_cut_short_is_begun_anew(lake, tmp_path, monkeypatch):
    day = 86_400 * SECOND
    path = write(tmp_path / "a.parquet", time=[NOON, NOON + day, NOON + 2 * day])
    report = import_files([path], lake)
    *_, last = lake.parts("BTC-USD")
    last.unlink()  # the last rename did not come to pass
    stray = last.with_name(last.name.replace("-0-2.", "-0-1."))
    stray.write_bytes(lake.parts("BTC-USD")[1].read_bytes())  # of a version with other chunks
    assert import_files([path], lake) == report
    assert seconds(lake) == [0, 86_400, 172_800]
    assert (len(lake.parts("BTC-USD")), lake.rows("BTC-USD")) == (3, 3)


def test_a_full_disk_stops_the_import_with_nothing_written(lake, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("volatility.lake.parts._Open.publish", full)
    with pytest.raises(LakeError, match="No space left"):
        import_files([write(tmp_path / "a.parquet")], lake)
    assert nothing_written(lake)
