"""Call the flows' plain functions; Prefect itself runs in none of these tests."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from prefect import Task

from pipelines import artifacts
from pipelines import capture as capturing
from pipelines import compact as compacting
from pipelines import drift as drifting
from pipelines import features as building
from pipelines import performance as measuring
from pipelines import train as training
from pipelines.common import transient
from pipelines.deployments import FLOWS
from pipelines.state import records_deleted, rows_written
from pipelines.watch import note
from tests.live import live_model, prediction, some_features
from tests.short_log import ShortLog
from volatility import registry, stages
from volatility.evaluation import DriftError, Evidence, TooFewRowsError, Verdict
from volatility.lake.lake import Lake, LakeError
from volatility.models.fit import TrainingError
from volatility.records.prediction import PREDICTION_SCHEMA
from volatility.records.prediction import to_table as predictions_table
from volatility.records.tick import Tick, encode
from volatility.registry import Choice, RegistryError
from volatility.streaming import layout
from volatility.streaming.capture import capture_topic
from volatility.streaming.log.interface import LogError
from volatility.streaming.log.memory_log import MemoryLog
from volatility.units import SECOND

NOON = 1_775_304_000_000_000_000  # 2026-04-04 12:00


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
    assert capturing.capture_to_end("ticks", tmp_path) == 20
    assert capturing.capture_to_end("ticks", tmp_path) == 0
    fill(log, 5)
    assert capturing.capture_to_end("ticks", tmp_path) == 5
    assert offsets(tmp_path / "ticks") == list(range(25))
    assert rows_written(tmp_path / "monitor") == {"ticks": 25}


@pytest.mark.parametrize(("kept", "lost"), [(25, 5), (40, 20)])
def test_records_deleted_before_capture_are_counted_for_the_monitor(
    kept, lost, tmp_path, monkeypatch
):
    log = ShortLog()
    monkeypatch.setattr(capturing, "KafkaLog", lambda *_: log)
    monkeypatch.setattr(log, "close", lambda: None)
    fill(log, 20)
    (partition,) = (part for part, end in log.end_offsets("ticks").items() if end)
    capturing.capture_to_end("ticks", tmp_path)
    assert records_deleted(tmp_path / "monitor") == {"ticks": 0}, "Prometheus needs a start"
    fill(log, 20)
    log.forget(partition, kept)
    with pytest.raises(LogError, match=f"{lost} records had been deleted"):
        capturing.capture_to_end("ticks", tmp_path)
    capturing.capture_to_end("ticks", tmp_path)
    assert records_deleted(tmp_path / "monitor") == {"ticks": lost}


def test_capture_that_runs_out_of_time_ends_whole_and_goes_on_later(log, tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "READ_SECONDS", 0.01)
    fill(log, 20)
    log.pause()
    assert capturing.capture_to_end("ticks", tmp_path, timeout_seconds=0.01) == 0
    log.resume()
    assert capturing.capture_to_end("ticks", tmp_path) == 20


def test_rows_of_a_capture_that_fails_half_way_are_counted(log, tmp_path, monkeypatch):
    fill(log, 20)

    def fail_late(*arguments, **options):
        capture_topic(*arguments, **options)
        raise LogError("the broker went away")

    monkeypatch.setattr(capturing, "capture_topic", fail_late)
    with pytest.raises(LogError):
        capturing.capture_to_end("ticks", tmp_path)
    assert rows_written(tmp_path / "monitor") == {"ticks": 20}


def test_topics_that_are_not_there_yet_are_no_failure(log, tmp_path):
    assert capturing.capture_to_end("predictions", tmp_path) == 0
    assert capturing.capture_to_end("ticks", tmp_path) == 0


def test_the_flow_captures_both_topics(log, tmp_path, monkeypatch):
    fill(log, 3)
    monkeypatch.setattr(capturing, "capture_step", capturing.capture_to_end)
    rows = capturing.capture.fn(str(tmp_path))
    assert rows == {"ticks": 3, "predictions": 0}


STEPS: dict[str, Task[..., Any]] = {
    "capture": capturing.capture_step,
    "features": building.build_step,
    "train": training.fit_step,
    "evaluate": training.evaluate_step,
    "promote": training.promote_step,
    "drift": drifting.compare_step,
    "performance": measuring.measure_step,
    "compact": compacting.merge_step,
}


@pytest.mark.parametrize("name", STEPS)
def test_a_failed_step_is_tried_again_later_and_later(name):
    step = STEPS[name]
    delays = step.retry_delay_seconds
    assert isinstance(delays, list)
    assert step.retries == len(delays) == 3
    assert delays == sorted(set(delays))
    assert (step.retry_jitter_factor or 0) > 0
    assert step.description


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (LogError("away"), True),
        (LakeError("no room"), True),
        (RegistryError("away"), True),
        (OSError(28, "no space"), True),
        (TrainingError("the placebo found skill"), False),
        (ValueError("a mistake"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error, again):
    from prefect.states import Failed

    assert transient(capturing.capture_step, None, Failed(data=error)) is again  # type: ignore[arg-type]


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_every_flow_has_a_limit_a_description_and_hooks(flow):
    assert (flow.timeout_seconds or 0) >= 900
    assert flow.description
    hooks = (flow.on_completion_hooks, flow.on_failure_hooks, flow.on_crashed_hooks)
    assert hooks == ([note], [note], [note])


def test_a_capture_in_time_is_never_cut():
    assert (capturing.capture.timeout_seconds or 0) > 2 * capturing.TIMEOUT_SECONDS


def test_the_first_day_has_nothing_to_do_and_that_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    data, reports, params = str(tmp_path), str(tmp_path / "reports"), str(tmp_path / "p.yaml")
    assert building.build(str(tmp_path / "ticks"), data, params) == {}
    assert drifting.compare(data, reports, params) is None
    assert measuring.measure(data, reports, params) is None
    assert compacting.merge(data) == {}


def test_rows_of_another_market_than_the_model_s_are_not_compared_and_that_is_no_failure(
    tmp_path, monkeypatch, caplog
):
    some_features(tmp_path)
    monkeypatch.setattr(registry, "choose", lambda: Choice("1", "ml"))

    def drift(*_, **__):
        raise TooFewRowsError("only 0 rows lie in the model's training window")

    monkeypatch.setattr(stages, "drift", drift)
    assert drifting.compare(str(tmp_path), str(tmp_path / "reports"), "params.yaml") is None
    assert "only 0 rows lie" in caplog.text


def test_a_drift_report_that_cannot_be_made_fails_the_run(tmp_path, monkeypatch):
    some_features(tmp_path)
    monkeypatch.setattr(registry, "choose", lambda: Choice("1", "ml"))

    def drift(*_, **__):
        raise DriftError("Evidently's page has no body")

    monkeypatch.setattr(stages, "drift", drift)
    with pytest.raises(DriftError):
        drifting.compare(str(tmp_path), str(tmp_path / "reports"), "params.yaml")


def test_every_kind_of_lake_is_compacted(log, tmp_path):
    fill(log, 4)
    ticks, predictions = tmp_path / "ticks", tmp_path / "predictions"
    lake = Lake(predictions, PREDICTION_SCHEMA)
    capturing.capture_to_end("ticks", tmp_path)
    fill(log, 4)
    capturing.capture_to_end("ticks", tmp_path)
    for n in range(3):
        lake.write(predictions_table([prediction(NOON + n)], 0, [n]), "predictions.x", 0)
    merged = compacting.merge(str(tmp_path), older_than_seconds=0.0)
    assert merged == {str(ticks): 2, str(predictions): 3}
    assert len(offsets(ticks)) == 8
    assert len(lake.parts("BTC-USD")) == 1
    assert lake.rows("BTC-USD") == 3


def test_the_verdict_is_said_in_a_sentence():
    earned = Verdict("r", True, "promotion", (), None, "har", Evidence())
    assert training.sentence("3", earned) == "Version 3 is champion."
    refused = msgspec.structs.replace(earned, earned=False, reasons=("a", "b"))
    said = training.sentence("3", refused)
    assert said == "Version 3 has not earned promotion: a; b."


def test_the_leaderboard_s_best_model_stands_first():
    rows = artifacts.ranked(
        {"a": live_model(2.5, 0.5), "b": live_model(-1.30001, 0.6), "c": live_model(None, None)},
        artifacts.LIVE,
    )
    assert [row["model"] for row in rows] == ["b", "a", "c"]
    assert rows[0]["QLIKE"] == -1.3
    assert rows[2]["PR-AUC"] is None


@pytest.mark.slow
def test_a_busy_machine_has_time_to_start_a_server_for_a_flow():
    said = "get_current_settings().server.ephemeral.startup_timeout_seconds"
    code = f"import pipelines; from prefect.settings import get_current_settings; print({said})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 120
