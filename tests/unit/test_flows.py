"""Call the flows' plain functions; Prefect itself runs in none of these tests."""

from __future__ import annotations

import logging

import pytest

from pipelines import capture as capturing
from pipelines import compact as compacting
from streaming.backfill import TRADE_SCHEMA, to_table
from streaming.log import LogError
from streaming.memory_log import MemoryLog
from volatility.lake import Lake
from volatility.prediction import PREDICTION_SCHEMA, Prediction
from volatility.prediction import to_table as predictions_table
from volatility.tick import Tick, encode

NOON = 1_775_304_000_000_000_000  # 2026-04-04 12:00
SECOND = 1_000_000_000


@pytest.fixture
def log(monkeypatch):
    log = MemoryLog()
    monkeypatch.setattr(capturing, "KafkaLog", lambda *_: log)
    monkeypatch.setattr(log, "close", lambda: None)
    return log


@pytest.fixture(autouse=True)
def plain_logging(monkeypatch):
    for module in (capturing, compacting):
        monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger("flow"))


def fill(log, number):
    log.create("ticks", 2)
    writer = log.writer()
    for n in range(number):
        tick = Tick("BTC-USD", NOON + n * SECOND, 1.0, 1.0, 1.0)
        writer.append("ticks", b"BTC-USD", encode(tick))
    writer.flush(1.0)


def offsets(folder):
    return [n for b in Lake(folder).scan("BTC-USD", ["offset"]) for n in b["offset"].to_pylist()]


def test_a_topic_is_captured_to_its_end_and_once(log, tmp_path):
    fill(log, 20)
    folder = str(tmp_path / "ticks")
    assert capturing.capture_to_end.fn("ticks", folder) == 20
    assert capturing.capture_to_end.fn("ticks", folder) == 0
    fill(log, 5)
    assert capturing.capture_to_end.fn("ticks", folder) == 5
    assert offsets(folder) == list(range(25))


def test_capture_that_runs_out_of_time_ends_whole_and_goes_on_later(log, tmp_path):
    fill(log, 20)
    log.pause()
    folder = str(tmp_path / "ticks")
    assert capturing.capture_to_end.fn("ticks", folder, timeout_seconds=0.01) == 0
    log.resume()
    assert capturing.capture_to_end.fn("ticks", folder) == 20


def test_predictions_may_not_be_there_yet_but_ticks_must(log, tmp_path):
    assert capturing.capture_to_end.fn("predictions", str(tmp_path)) == 0
    with pytest.raises(LogError, match="start `volatility ingest` first"):
        capturing.capture_to_end.fn("ticks", str(tmp_path))


def test_the_flow_captures_both_topics(log, tmp_path, monkeypatch):
    fill(log, 3)
    monkeypatch.setattr(capturing, "capture_to_end", capturing.capture_to_end.fn)
    rows = capturing.capture.fn(str(tmp_path / "ticks"), str(tmp_path / "predictions"))
    assert rows == {"ticks": 3, "predictions": 0}


def test_a_failed_capture_is_tried_again_later_and_later():
    task = capturing.capture_to_end
    delays = task.retry_delay_seconds
    assert isinstance(delays, list)
    assert task.retries == len(delays) == 4
    assert delays == sorted(set(delays))
    assert (task.retry_jitter_factor or 0) > 0
    assert (task.timeout_seconds or 0) > capturing.TIMEOUT_SECONDS


def test_every_kind_of_lake_is_compacted(log, tmp_path):
    fill(log, 4)
    ticks, predictions = tmp_path / "ticks", tmp_path / "predictions"
    trades = [Lake(ticks / "trades", TRADE_SCHEMA), Lake(predictions, PREDICTION_SCHEMA)]
    capturing.capture_to_end.fn("ticks", str(ticks))
    fill(log, 4)
    capturing.capture_to_end.fn("ticks", str(ticks))
    for n in range(3):
        trades[0].write(to_table([_trade(n)], "BTC-USD"), "coinbase.BTC-USD.0", 0)
        prediction = Prediction("BTC-USD", NOON + n, 0.5, 0.4, True, "m", "1", "ml")
        trades[1].write(predictions_table([prediction], 0, [n]), "predictions.x", 0)
    merged = compacting.compact.fn(str(ticks), str(predictions), older_than_seconds=0.0)
    assert merged == {str(ticks): 2, str(ticks / "trades"): 3, str(predictions): 3}
    assert len(offsets(ticks)) == 8
    for lake in trades:
        assert len(lake.parts("BTC-USD")) == 1
        assert lake.rows("BTC-USD") == 3


def test_lakes_that_are_not_there_yet_are_no_error(tmp_path):
    assert compacting.compact.fn(str(tmp_path / "a"), str(tmp_path / "b")) == {}


def _trade(number):
    from streaming.trades import Trade

    return Trade(number, "2026-04-04T12:00:00Z", "1", "1", "buy")
