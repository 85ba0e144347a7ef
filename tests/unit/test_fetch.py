"""Fetching from stand-ins that serve files as the vendors lay them out, and fail."""

from __future__ import annotations

import errno
import gzip
import shutil
import time
from collections import namedtuple
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests import rest_exchange, vendors
from tests.rest_exchange import GONE, HALF, Failure, RestExchange
from tests.vendors import ROWS, Files, binance_files, tardis_path, tardis_quotes
from volatility.cli.main import main
from volatility.fetch import FetchError, Pace, Request, fetch
from volatility.fetch import download as downloading
from volatility.lake import ImportingError, Lake, LakeError, claim_market, market_of
from volatility.units import SECOND

DAY, NEXT = date(2026, 1, 1), date(2026, 2, 1)
PACE = Pace(between_seconds=0.0)


@pytest.fixture
def tardis():
    days = {tardis_path(day): tardis_quotes(day) for day in (DAY, NEXT)}
    with vendors.serving(Files(days)) as files:
        yield files


@pytest.fixture
def binance():
    with vendors.serving(Files(binance_files(DAY))) as files:
        yield files


class Waits(list):
    """Note the waits instead of waiting."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def run(files, root, vendor="tardis", symbol="BTC-USD", last=NEXT, waits=None, **options):
    request = Request(vendor, symbol, DAY, last, url=files.url, **options)
    return fetch(request, root, progress=False, pace=PACE, wait=Waits() if waits is None else waits)


def left(root: Path) -> list[str]:
    """List what is neither the lake nor its notes."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if "fetching" in p.parts)


def test_the_free_days_are_in_the_lake_once(tardis, tmp_path):
    report = run(tardis, tmp_path)
    assert (report.fetched, report.missing, report.imported.rows) == ((DAY, NEXT), (), 2 * ROWS)
    lake = Lake(tmp_path)
    assert (lake.symbols(), lake.rows("BTC-USD")) == (["BTC-USD"], 2 * ROWS)
    assert market_of(tmp_path) == "coinbase"
    assert left(tmp_path) == []
    count = len(tardis.asked)
    again = run(tardis, tmp_path)
    assert (again.held, again.fetched, len(tardis.asked)) == ((DAY, NEXT), (), count)


def test_only_the_first_day_of_a_month_is_asked_for(tardis, tmp_path):
    run(tardis, tmp_path)
    assert [path for path, _ in tardis.asked] == [tardis_path(DAY), tardis_path(NEXT)]
    request = Request("tardis", "BTC-USD", date(2026, 1, 2), date(2026, 1, 31))
    with pytest.raises(FetchError, match=r"only the first day .* begin with 2026-01-01"):
        fetch(request, tmp_path, progress=False)


def test_another_exchange_has_its_own_names_and_its_own_lake(tmp_path):
    for exchange, symbol, name in (
        ("binance", "BTC-USDT", "BTCUSDT"),
        ("kraken", "BTC-USD", "XBT-USD"),
    ):
        content = tardis_quotes(DAY, exchange, name)
        with vendors.serving(Files({tardis_path(DAY, exchange, name): content})) as files:
            run(files, tmp_path / exchange, symbol=symbol, last=DAY, exchange=exchange)
        assert Lake(tmp_path / exchange).symbols() == [symbol]
        assert market_of(tmp_path / exchange) == exchange


def test_another_market_is_refused_before_anything_is_fetched(tardis, tmp_path):
    claim_market(tmp_path, "kraken")
    with pytest.raises(LakeError, match="holds a kraken market, and a coinbase one"):
        run(tardis, tmp_path)
    assert tardis.asked == []


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(tardis, tmp_path, ranges):
    tardis.ranges = ranges
    tardis.failures += [Failure(HALF), Failure(HALF), Failure(GONE)]
    assert run(tardis, tmp_path, last=DAY).imported.rows == ROWS
    starts = [wanted for _, wanted in tardis.asked]
    assert starts[0] == ""
    assert all(wanted.startswith("bytes=") for wanted in starts[1:])


def test_a_stopped_run_goes_on_with_what_it_has(tardis, tmp_path):
    tardis.failures += [Failure(HALF), *[Failure(GONE)] * PACE.attempts]
    with pytest.raises(FetchError, match="5 times; try again later"):
        run(tardis, tmp_path, last=DAY)
    (part,) = (tmp_path / "fetching").iterdir()
    held = part.stat().st_size
    assert run(tardis, tmp_path, last=DAY).imported.rows == ROWS
    assert tardis.asked[-1][1] == f"bytes={held}-"
    assert left(tmp_path) == []


def test_a_part_of_another_file_is_not_mixed_in(tardis, tmp_path):
    folder = tmp_path / "fetching"
    folder.mkdir()
    (folder / f"coinbase_quotes_{DAY}_BTC-USD.csv.gz.part").write_bytes(b"x" * 100)
    assert run(tardis, tmp_path, last=DAY).imported.rows == ROWS


def test_a_damaged_file_leaves_no_trace(tardis, tmp_path):
    whole = tardis.files[tardis_path(DAY)]
    tardis.files[tardis_path(DAY)] = whole[: len(whole) // 2]
    with pytest.raises(FetchError, match=r"damaged .*5 times"):
        run(tardis, tmp_path, last=DAY)
    assert list(tmp_path.glob("symbol=*")) == left(tmp_path) == []
    tardis.files[tardis_path(DAY)] = whole
    assert run(tardis, tmp_path, last=DAY).imported.rows == ROWS


def test_a_day_without_a_file_does_not_stop_the_others(tardis, tmp_path):
    del tardis.files[tardis_path(DAY)]
    report = run(tardis, tmp_path)
    assert (report.missing, report.fetched) == ((DAY,), (NEXT,))
    tardis.files[tardis_path(DAY)] = tardis_quotes(DAY)
    assert run(tardis, tmp_path).fetched == (DAY,), "it may come later"


@pytest.mark.parametrize("content", [b"", gzip.compress(b"", mtime=0)])
def test_an_empty_day_is_noted(tardis, tmp_path, content):
    tardis.files[tardis_path(DAY)] = content
    report = run(tardis, tmp_path)
    assert (report.empty, report.fetched) == ((DAY,), (NEXT,))
    assert run(tardis, tmp_path).held == (DAY, NEXT)


def test_a_vendor_that_asks_to_wait_is_waited_for(tardis, tmp_path):
    waits = Waits()
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    tardis.failures += [
        Failure(429, (("Retry-After", "7"),)),
        Failure(503, (("Retry-After", soon),)),
        Failure(500, (("Retry-After", "soon"),)),
    ]
    assert run(tardis, tmp_path, last=DAY, waits=waits).imported.rows == ROWS
    assert waits[0] == 7.0
    assert 80 < waits[1] <= 90
    assert waits[2] == 4.0


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (Failure(429, (("Retry-After", "86400"),)), "asks to wait 86,400 s"),
        (Failure(401), "without a key"),
        (Failure(400), "HTTP 400"),
    ],
)
def test_what_will_not_succeed_is_not_repeated(tardis, tmp_path, failure, said):
    tardis.failures += [failure]
    with pytest.raises(FetchError, match=said) as error:
        run(tardis, tmp_path)
    assert "\n" not in str(error.value)
    assert len(tardis.asked) == 1


def test_a_full_disk_is_one_line_and_leaves_no_trace(tardis, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage(10**12, 10**12, 10**9))
    with pytest.raises(FetchError, match=r"has no room for .* make room"):
        run(tardis, tmp_path)
    assert left(tmp_path) == []
    monkeypatch.undo()

    class Full:
        def __init__(self, path: Path) -> None:
            self.file = path.open("wb")

        def __enter__(self):
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, _content: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloading, "_opened", lambda path, _resumed: Full(path))
    with pytest.raises(FetchError, match=r"cannot write .* No space left"):
        run(tardis, tmp_path)
    assert left(tmp_path) == []


def test_an_unreachable_vendor_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    asking = ["fetch", "tardis", "--symbol", "BTC-USD", "--from", str(DAY), "--to", str(DAY)]
    result = CliRunner().invoke(
        main,
        [*asking, "--url", "http://127.0.0.1:9", "--lake", str(tmp_path / "lake")],
        env={"VOLATILITY_DEBUG": ""},
    )
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "cannot reach 127.0.0.1" in result.output
    assert "check the network" in result.output


def test_binance_trades_are_checked_and_kept_apart_from_ticks(binance, tmp_path):
    report = run(binance, tmp_path, "binance", "BTC-USDT", DAY)
    assert report.fetched == (DAY,)
    assert list(tmp_path.glob("symbol=*")) == []
    trades = list((tmp_path / "trades").glob("symbol=BTC-USDT/date=2026-01-01/*.parquet"))
    assert len(trades) >= 1
    assert market_of(tmp_path) == "binance"


def test_a_wrong_checksum_is_never_imported(binance, tmp_path):
    (checksum,) = (path for path in binance.files if path.endswith("CHECKSUM"))
    binance.files[checksum] = b"0" * 64 + b"  name\n"
    with pytest.raises(FetchError, match="its checksum is not the one published, 5 times"):
        run(binance, tmp_path, "binance", "BTC-USDT", DAY)
    assert not (tmp_path / "trades").exists()
    assert left(tmp_path) == []


def test_the_end_before_the_start_says_so(tmp_path):
    with pytest.raises(FetchError, match="swap them"):
        fetch(Request("binance", "BTC-USDT", NEXT, DAY), tmp_path, progress=False)


def test_what_is_not_a_recording_keeps_the_days_before(tardis, tmp_path):
    tardis.files[tardis_path(NEXT)] = gzip.compress(b"<html>maintenance</html>\n")
    with pytest.raises(ImportingError):
        run(tardis, tmp_path)
    assert Lake(tmp_path).rows("BTC-USD") == ROWS
    tardis.files[tardis_path(NEXT)] = tardis_quotes(NEXT)
    report = run(tardis, tmp_path)
    assert (report.held, report.fetched) == ((DAY,), (NEXT,))


def coinbase(before: int = 30, inside: int = 60, after: int = 30) -> RestExchange:
    """Return trades around a day, the first inside one at its first nanosecond."""
    first = vendors.start_of(DAY) * 1_000
    step = 86_400 * SECOND // inside
    times = [first - (before - n) * SECOND for n in range(before)]
    times += [first + n * step for n in range(inside + after)]
    trades = {n: (t, 67_000.0 + n % 5, 0.5, "buy") for n, t in enumerate(times, start=1)}
    return RestExchange("BTC-USD", trades, most=7)


@pytest.mark.parametrize("around", [(30, 60, 30), (0, 60, 0), (0, 5, 0), (30, 60, 0)])
def test_coinbase_trades_of_a_day_are_complete(tmp_path, around):
    with rest_exchange.serving(coinbase(*around)) as exchange:
        exchange.failures += [Failure(429, (("Retry-After", "1"),)), Failure(HALF), Failure(GONE)]
        report = run(exchange, tmp_path, "coinbase", last=DAY)
    assert report.fetched == (DAY,)
    lake = Lake(tmp_path / "trades")
    table = pq.read_table(
        [str(p) for p in (tmp_path / "trades").glob("symbol=BTC-USD/date=*/*.parquet")],
        partitioning=None,
    )
    assert lake.symbols() == ["BTC-USD"]
    numbers = table.column("trade_id").to_pylist()
    before, inside, _ = around
    assert sorted(numbers) == list(range(before + 1, before + inside + 1))
    assert set(table.column("side").to_pylist()) == {"sell"}, "the taker's"


def test_coinbase_days_without_trades_and_unknown_products(tmp_path):
    with rest_exchange.serving(RestExchange("BTC-USD", {})) as exchange:
        assert run(exchange, tmp_path, "coinbase", last=DAY).missing == (DAY,)
        with pytest.raises(FetchError, match="does not list NONE-USD"):
            run(exchange, tmp_path, "coinbase", symbol="NONE-USD", last=DAY)


def test_the_command_says_what_it_did(tardis, tmp_path):
    del tardis.files[tardis_path(NEXT)]
    arguments = ["fetch", "tardis", "--symbol", "BTC-USD", "--from", str(DAY), "--to", str(NEXT)]
    arguments += ["--url", tardis.url, "--lake", str(tmp_path)]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0, first.output
    assert "400" in first.output
    assert f"1 day(s) that the vendor does not have: {NEXT}" in first.output
    second = CliRunner().invoke(main, arguments)
    assert f"1 day(s) in the lake already: {DAY}" in second.output


def test_a_polite_pace_is_kept(tardis, tmp_path):
    waits = Waits()
    request = Request("tardis", "BTC-USD", DAY, NEXT, url=tardis.url)
    fetch(request, tmp_path, progress=False, pace=Pace(between_seconds=60.0), wait=waits)
    assert len(waits) == 1
    assert 0 < waits[0] <= 60
