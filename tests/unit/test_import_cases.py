"""What users were seen to import: each of these inputs once failed whole, or lost rows silently."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from volatility.cli.main import main
from volatility.features.engine import build_features
from volatility.features.files import read_features
from volatility.features.update import update_features
from volatility.lake import Lake, import_files
from volatility.settings import Features
from volatility.units import SECOND

NOON = 1_767_571_200 * SECOND
MISSING = "price, bid or ask is missing or not a number"


def columns(rows: int = 20, first: int = 0, **changes: Any) -> dict[str, Any]:
    """Return the columns of a quote a second; a column given replaces its own, None drops it."""
    steps = range(first, first + rows)
    mid = [60_000 + 5 * math.sin(0.37 * i) + 3 * math.cos(1.7 * i) for i in steps]
    base: dict[str, Any] = {
        "symbol": ["BTC-USD"] * rows,
        "time": [NOON + i * SECOND for i in steps],
        "price": mid,
        "bid": [one - 0.5 for one in mid],
        "ask": [one + 0.5 for one in mid],
    }
    return {name: values for name, values in (base | changes).items() if values is not None}


def parquet(path: Path, table: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path)
    return path


def run(lake: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["import", *map(str, arguments), "--lake", str(lake)])


def seconds(lake: Path, symbol: str = "BTC-USD") -> list[float]:
    times = [b[0].cast(pa.int64()).to_pylist() for b in Lake(lake).scan(symbol, ["time"])]
    return [(time - NOON) / SECOND for part in times for time in part]


@pytest.mark.parametrize("unit", ["ms", "us", "s"])
def test_times_of_another_unit_are_read_right_and_the_unit_is_said(tmp_path, unit):
    size = {"ms": 1_000_000, "us": 1000, "s": SECOND}[unit]
    table = columns(time=[(NOON + i * SECOND) // size for i in range(20)])
    result = run(tmp_path / "lake", parquet(tmp_path / "a.parquet", table))
    assert result.exit_code == 0, result.output
    assert seconds(tmp_path / "lake") == list(range(20))
    word = {"ms": "milliseconds", "us": "microseconds", "s": "seconds"}[unit]
    assert f"time in {word}" in result.output


def test_units_that_are_mixed_in_a_column_are_refused(tmp_path):
    time = [NOON + i * SECOND for i in range(20)]
    time[7] //= 1000
    result = run(tmp_path / "lake", parquet(tmp_path / "a.parquet", columns(time=time)))
    assert result.exit_code == 1
    assert "mixes microseconds and nanoseconds in column time; split the file" in result.output
    assert not (tmp_path / "lake").exists()


def test_no_valid_row_is_a_failure_that_says_why(tmp_path):
    table = columns(time=[5] * 20)
    result = run(tmp_path / "lake", parquet(tmp_path / "a.parquet", table))
    assert result.exit_code == 1
    assert "has no valid row: time is outside 2009 to 2100 (20) of 20" in result.output
    assert "--map time=" in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_the_symbol_is_taken_from_hive_folders(tmp_path):
    for symbol in ("BTC-USD", "ETH-USD"):  # with the same content, which is not the same file
        parquet(tmp_path / f"hive/symbol={symbol}/0.parquet", columns(symbol=None))
    result = run(tmp_path / "lake", tmp_path / "hive")
    assert result.exit_code == 0, result.output
    assert Lake(tmp_path / "lake").symbols() == ["BTC-USD", "ETH-USD"]
    assert "20 other" not in result.output
    again = run(tmp_path / "lake", tmp_path / "hive")
    assert "2 files already imported" in again.output


@pytest.mark.parametrize(
    ("received", "kept"),
    [
        ([(NOON + i * SECOND) // 1_000_000 for i in range(20)], 20),
        ([NOON / SECOND + i + 0.25 for i in range(20)], 20),
        ([f"2026-01-05 00:00:{i:02d}.5" for i in range(20)], 20),
        (["soon"] * 20, 0),
        ([7] * 20, 0),
        ([(NOON - 3600 * SECOND)] * 20, 0),  # an hour before the tick: the recorder's clock
        ([[1, 2]] * 20, 0),
    ],
)
def test_an_unfit_received_never_costs_the_row(tmp_path, received, kept):
    path = parquet(tmp_path / "a.parquet", columns(received=received))
    report = import_files([path], Lake(tmp_path / "lake"))
    assert (report.rows, report.rejected) == (20, {})
    (batch,) = Lake(tmp_path / "lake").scan("BTC-USD", ["received"])
    assert 20 - batch[0].null_count == kept


def test_an_index_that_lost_its_name_is_read_or_explained(tmp_path):
    times = pa.array(columns()["time"], pa.timestamp("ns"))
    table = columns(time=None) | {"__index_level_0__": times}
    assert run(tmp_path / "lake", parquet(tmp_path / "a.parquet", table)).exit_code == 0
    assert seconds(tmp_path / "lake") == list(range(20))
    table = columns(time=None) | {"__index_level_0__": list(range(20))}
    result = run(tmp_path / "other", parquet(tmp_path / "index.parquet", table))
    assert result.exit_code == 1
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_two_recorders_that_fill_each_other_s_holes_equal_one_whole_recording(tmp_path, order):
    pieces = {
        "a": [*range(150), *range(450, 600)],
        "b": list(range(140, 470)),
        "whole": list(range(600)),
    }
    whole = columns(600)
    lakes = {}
    for name, files in (("merged", order), ("whole", ["whole"])):
        lake = lakes[name] = Lake(tmp_path / name)
        for file in files:
            chosen = {k: [v[i] for i in pieces[file]] for k, v in whole.items()}
            if file == "a":  # the recorders number their messages each for itself
                chosen["sequence"] = list(range(len(pieces[file])))
            import_files([parquet(tmp_path / f"{file}.parquet", chosen)], lake)
        build_features(lake, tmp_path / f"{name}-features", Features(), progress=False)
    assert seconds(lakes["merged"].root) == list(range(600))
    merged, expected = (read_features(tmp_path / f"{n}-features")[0] for n in ("merged", "whole"))
    assert np.array_equal(merged.time, expected.time)
    assert np.array_equal(merged.rows, expected.rows, equal_nan=True)


def test_features_that_are_updated_after_the_second_recorder_equal_those_built_at_once(tmp_path):
    whole = columns(600)
    lake = Lake(tmp_path / "lake")
    for name, kept in (("a", [*range(150), *range(450, 600)]), ("b", list(range(140, 470)))):
        table = {k: [v[i] for i in kept] for k, v in whole.items()}
        import_files([parquet(tmp_path / f"{name}.parquet", table)], lake)
        update_features(lake, tmp_path / "updated", Features(), progress=False)
    build_features(lake, tmp_path / "built", Features(), progress=False)
    updated, built = (read_features(tmp_path / name)[0] for name in ("updated", "built"))
    assert np.array_equal(updated.time, built.time)
    assert np.array_equal(updated.rows, built.rows, equal_nan=True)


def test_ticks_that_a_recorder_has_twice_stay_and_those_of_the_other_are_not_added(tmp_path):
    lake = Lake(tmp_path / "lake")
    for name, times in (("a", [0, 0, 1, 2]), ("b", [0, 1, 1, 3])):
        table = columns(4, time=[NOON + t * SECOND for t in times], price=[100.0] * 4)
        table |= {"bid": [99.0] * 4, "ask": [101.0] * 4, "size": [ord(name)] * 4}
        import_files([parquet(tmp_path / f"{name}.parquet", table)], lake)
    assert seconds(lake.root) == [0, 0, 1, 1, 2, 3]


def test_trades_that_have_ids_are_doubles_by_their_ids(tmp_path):
    lake = Lake(tmp_path / "lake")
    for name, ids in (("a", [1, 2, 4]), ("b", [2, 3, 4])):
        time = [NOON, NOON, NOON + SECOND]
        table = columns(3, time=time, trade_id=ids, price=[100.0] * 3)
        table |= {"bid": [99.0] * 3, "ask": [101.0] * 3}
        import_files([parquet(tmp_path / f"{name}.parquet", table)], lake)
    found = [b[0].to_pylist() for b in lake.scan("BTC-USD", ["trade_id"])]
    assert sorted(one for part in found for one in part) == [1, 2, 3, 4]


def test_one_empty_cell_costs_one_row(tmp_path):
    texts = {
        k: [f"{x:.2f}" for x in v] for k, v in columns().items() if k in ("price", "bid", "ask")
    }
    texts["bid"][3] = ""
    result = run(tmp_path / "lake", parquet(tmp_path / "a.parquet", columns(20, 0, **texts)))
    assert result.exit_code == 0
    assert f"rejected 1: {MISSING}" in result.output
    assert len(seconds(tmp_path / "lake")) == 19


def test_an_empty_size_is_missing_and_the_tick_stays(tmp_path):
    path = parquet(tmp_path / "a.parquet", columns(size=["0.1", "", "much", "-1"] * 5))
    report = import_files([path], Lake(tmp_path / "lake"))
    assert (report.rows, report.rejected) == (20, {})
    assert any("10 values of size are not sizes" in note for note in report.notes)


def test_a_folder_of_raw_captures_is_imported_by_content(tmp_path):
    folder = tmp_path / "cap"
    folder.mkdir()
    (folder / "COINBASE-0a1b.0").write_text(
        "configuration: {'l2_book': ['BTC-USD']}\n"
        'https://api.example.com/products -> 1767571199.5: [{"id":"BTC-USD"}]\n'
        "wss://ws-feed.example.com <-> 1767571200.0\n"
        'wss://ws-feed.example.com <- 1767571200.1: {"type":"subscribe","channels":["ticker"]}\n'
        '1767571200.4: {"type":"ticker","sequence":1,"product_id":"BTC-USD","price":"60000.1",'
        '"best_bid":"60000","best_ask":"60000.2","side":"buy",'
        '"time":"2026-01-05T00:00:00.300000Z","trade_id":11,"last_size":"0.01"}\n'
    )
    (folder / "README").write_text("What this is.\nMore of it, in prose.\n")
    report = import_files([folder], Lake(tmp_path / "lake"))
    assert (report.rows, report.rejected) == (1, {})
    assert seconds(tmp_path / "lake") == [0.3]


def test_a_folder_of_one_message_per_file_is_one_recording_in_time_order(tmp_path):
    folder = tmp_path / "messages"
    folder.mkdir()
    for i in range(60):
        record = {"pair": "BTC/USD", "ts": NOON // SECOND + i, "bid": 99, "ask": 101}
        name = f"{hashlib.sha256(str(i).encode()).hexdigest()}.json"
        (folder / name).write_text(json.dumps(record, indent=2 if i % 3 else None))
    lake = Lake(tmp_path / "lake")
    report = import_files([folder], lake)
    assert (report.rows, report.parts) == (60, 1)
    assert seconds(lake.root) == list(range(60))
    assert len(import_files([folder], lake).skipped) == 1


@pytest.mark.parametrize(
    ("wrapper", "arrival"),
    [
        ({"ingest_time": "2026-01-05T00:00:07.5Z", "product_id": "BTC-USD", "payload": 0}, 7.5),
        ({"ts": NOON / SECOND + 8.6, "pair": "BTC-USD", "raw": "text"}, 8.6),
        ({"recv_ns": NOON + 9, "m": 0, "receive_time": NOON + 9 * SECOND}, 9.0),
        ({"a": {"b": [0]}, "when": NOON // 1_000_000 + 250}, 0.25),
    ],
)
def test_the_receive_time_is_that_of_the_wrapper(tmp_path, wrapper, arrival):
    message = {"type": "ticker", "product_id": "BTC-USD", "time": "2026-01-05T00:00:01Z"}
    message |= {"price": "100", "best_bid": "99", "best_ask": "101"}

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(one) for name, one in value.items()}
        if isinstance(value, list):
            return [filled(one) for one in value]
        return json.dumps(message) if value == "text" else message if value == 0 else value

    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(filled(wrapper)) + "\n")
    lake = Lake(tmp_path / "lake")
    assert import_files([path], lake).rows == 1
    (batch,) = lake.scan("BTC-USD", ["received"])
    assert batch[0].cast(pa.int64())[0].as_py() == pytest.approx(NOON + arrival * SECOND, abs=300)


def test_the_same_content_compressed_or_in_an_archive_is_known(tmp_path):
    path = parquet(tmp_path / "a.parquet", columns())
    lake = Lake(tmp_path / "lake")
    import_files([path], lake)
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(path.read_bytes()))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "inner.parquet")
    report = import_files([tmp_path / "a.zip", tmp_path / "a.parquet.gz"], lake)
    assert (report.rows, len(report.skipped)) == (0, 2)


def test_a_pattern_and_standard_input_name_recordings(tmp_path):
    for i in range(2):
        parquet(tmp_path / f"deep/er/{i}.parquet", columns(first=20 * i))
    result = run(tmp_path / "lake", tmp_path / "**/*.parquet")
    assert "40 records" in result.output
    text = "symbol,time,bid,ask\n" + "".join(f"ETH-USD,{NOON + i},9,11\n" for i in range(3))
    arguments = ["import", "-", "--lake", str(tmp_path / "lake")]
    result = CliRunner().invoke(main, arguments, input=text.encode())
    assert result.exit_code == 0, result.output
    assert Lake(tmp_path / "lake").rows("ETH-USD") == 3


def test_a_dry_run_shows_ticks_and_rejected_rows_and_writes_nothing(tmp_path):
    table = columns(bid=[-1.0, *[59_000.0] * 19])
    result = run(tmp_path / "lake", parquet(tmp_path / "a.parquet", table), "--dry-run")
    assert result.exit_code == 0
    assert "bid=bid, ask=ask; time in nanoseconds" in result.output
    assert "2026-01-05 00:00:01" in result.output
    assert "19 valid rows, 1 rejected (5.00%)" in result.output
    assert "rejected 1: price, bid or ask is not positive" in result.output
    assert not (tmp_path / "lake").exists()


def test_trades_are_a_kind_of_their_own_that_features_refuse(tmp_path):
    table = columns(bid=None, ask=None)
    result = run(tmp_path / "lake", parquet(tmp_path / "a.parquet", table))
    assert "20 of the records are trades without quotes" in result.output
    arguments = ["features", "--lake", str(tmp_path / "lake")]
    refused = CliRunner().invoke(main, [*arguments, "--features", str(tmp_path / "features")])
    assert refused.exit_code == 1
    assert "has only trades of BTC-USD, and features need quotes" in refused.output


@pytest.mark.parametrize(
    ("name", "symbol"), [("BTC/USD", "BTC-USD"), ("btcusdt", "BTC-USDT"), ("BTC-USD ", "BTC-USD")]
)
def test_foreign_symbols_are_normalised_and_the_original_is_kept(tmp_path, name, symbol):
    path = parquet(tmp_path / "a.parquet", columns(symbol=[name] * 20))
    assert run(tmp_path / "lake", path).exit_code == 0
    assert len(seconds(tmp_path / "lake", symbol)) == 20
    assert f'"{name}"' in (tmp_path / "lake/symbols.json").read_text()


def test_a_symbol_that_is_not_understood_is_shown_with_the_rule(tmp_path):
    path = parquet(tmp_path / "a.parquet", columns(symbol=["β/USD"] * 20))
    result = run(tmp_path / "lake", path)
    assert result.exit_code == 1
    assert "symbol 'β/USD' is not understood: a symbol is BASE-QUOTE" in result.output


def test_two_venues_of_one_symbol_are_kept_apart(tmp_path):
    lake = Lake(tmp_path / "lake")
    for i, venue in enumerate(["kraken", "bitstamp", "Kraken"]):
        table = columns(first=i, venue=[venue] * 20, symbol=["BTC/USD"] * 20)
        import_files([parquet(tmp_path / f"{i}.parquet", table)], lake)
    assert lake.symbols() == ["BTC-USD", "BTC-USD@BITSTAMP"]
    assert lake.rows("BTC-USD") == 40
