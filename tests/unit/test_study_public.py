"""The study on free days: fetched once, one lake and one name per venue."""

from __future__ import annotations

import sys

import pytest

from benchmarks.prediction import public
from tests.vendors import Files, serving, tardis_path, tardis_quotes
from volatility.fetch import Pace
from volatility.settings import Settings


def test_each_venue_has_its_own_lake_and_name(tmp_path):
    files = {
        tardis_path(day, exchange, name): tardis_quotes(day, exchange, name)
        for exchange, name in (
            ("coinbase", "BTC-USD"),
            ("binance", "BTCUSDT"),
            ("kraken", "XBT-USD"),
            ("bitmex", "XBTUSD"),
        )
        for day in public.DAYS
    }
    with serving(Files(files)) as server:
        for _ in range(2):
            public.fetch_all(tmp_path, server.url, Pace(between_seconds=0.0))
        assert sorted(path for path, _ in server.asked) == sorted(files)
    frames = public.read_all(tmp_path, Settings())
    assert [frame.symbol for frame in frames] == list(public.VENUES)
    assert all(len(frame.time) >= 4 * 300 for frame in frames)


def test_without_a_network_it_is_one_line(tmp_path, monkeypatch):
    arguments = ["public", "--folder", str(tmp_path), "--url", "http://127.0.0.1:9"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    with pytest.raises(SystemExit, match=r"^study-public: cannot reach 127\.0\.0\.1") as error:
        public.main()
    assert "\n" not in str(error.value)
