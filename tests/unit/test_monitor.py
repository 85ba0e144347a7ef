"""The gauges that the flows leave behind: what never happened is absent, damage is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from pipelines.lag import Lag, Watch, look
from pipelines.monitor import Monitor, registry_of
from pipelines.state import FOLDER, add_deleted, add_rows, finished
from tests.waiting import until
from volatility.records.tick import Tick, encode
from volatility.streaming.capture import capture_topic
from volatility.streaming.log.interface import LogError
from volatility.streaming.log.memory_log import MemoryLog

NOON = 1_775_304_000_000_000_000
DRIFT = {
    "drift_share": 0.25,
    "drifted_features": 5,
    "alert": True,
    "checked": "2026-04-04T12:00:00+00:00",
}
FIGURES = {
    "model_version": "7",
    "qlike": 2.5,
    "pr_auc": 0.25,
    "brier": 0.07,
    "precision": 0.5,
    "recall": None,
    "alerts_per_hour": 6.0,
}
LIVE = {
    "rows_labelled": 12,
    "base_rate": 0.1,
    "models": {"champion": FIGURES},
    "demotion": None,
    "live_evidence": {"version": "7", "blocks": 40, "mean": 0.02, "e_value_against": 1.5},
    "checked": "2026-04-04T12:00:00+00:00",
}
ALWAYS = {
    "volatility_monitor_unreadable_files",
    "volatility_disk_free_bytes",
    "volatility_disk_size_bytes",
}


class House:
    """Represent the folders that a monitor reads."""

    def __init__(self, folder: Path) -> None:
        self.data, self.reports = folder / "data", folder / "reports"
        self.data.mkdir()
        self.watch = Watch(self.data)
        monitor = Monitor(self.data, self.reports, ["capture", "train"], self.watch)
        self.registry = registry_of(monitor)

    def write(self, name: str, content: object) -> None:
        path = self.reports / name / "latest.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    def gauges(self) -> dict[str, float]:
        lines = generate_latest(self.registry).decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def names(self) -> set[str]:
        return {name.split("{")[0] for name in self.gauges()}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_on_the_first_day_only_the_disk_has_series(house: House) -> None:
    assert house.names() == ALWAYS
    assert house.gauges()["volatility_monitor_unreadable_files"] == 0.0


def test_flows(house: House) -> None:
    finished(house.data / FOLDER, "train", succeeded=True, now=10.0, duration_seconds=3.0)
    finished(house.data / FOLDER, "train", succeeded=False, now=20.0, duration_seconds=4.0)
    found = house.gauges()
    assert found['volatility_flow_last_success_timestamp_seconds{flow="train"}'] == 10.0
    assert found['volatility_flow_last_failure_timestamp_seconds{flow="train"}'] == 20.0
    assert found['volatility_flow_failed{flow="train"}'] == 1.0
    assert found['volatility_flow_duration_seconds{flow="train"}'] == 4.0
    assert not [name for name in found if "capture" in name]


def test_drift_and_live_performance(house: House) -> None:
    house.write("drift", DRIFT)
    house.write("performance", LIVE)
    found = house.gauges()
    noon = NOON / 1e9
    assert found["volatility_drift_share"] == 0.25
    assert found["volatility_drifted_features"] == 5.0
    assert found["volatility_drift_alert"] == 1.0
    assert found["volatility_drift_checked_timestamp_seconds"] == noon
    labels = '{model="champion",model_version="7"}'
    assert found[f"volatility_live_qlike{labels}"] == 2.5
    assert found[f"volatility_live_pr_auc{labels}"] == 0.25
    assert found[f"volatility_live_brier_score{labels}"] == 0.07
    assert found[f"volatility_live_precision{labels}"] == 0.5
    assert found[f"volatility_live_alerts_per_hour{labels}"] == 6.0
    assert f"volatility_live_recall{labels}" not in found  # not defined: no alert was followed
    assert found["volatility_live_base_rate"] == 0.1
    assert found["volatility_rows_labelled"] == 12.0
    assert found["volatility_performance_checked_timestamp_seconds"] == noon


def test_a_demotion_shows_until_there_is_a_champion(house: House) -> None:
    house.write("performance", LIVE)
    found = house.gauges()
    assert found["volatility_model_demoted"] == 0.0
    assert found['volatility_live_e_value_against{model_version="7"}'] == 1.5
    demotion = {"version": "7", "reason": "refuted", "time_ns": NOON, "e_value": 31.5}
    house.write("performance", LIVE | {"demotion": demotion, "live_evidence": None})
    found = house.gauges()
    assert found["volatility_model_demoted"] == 1.0
    assert not [name for name in found if "e_value" in name]


def test_nothing_measured_yet_has_no_figures(house: House) -> None:
    house.write("performance", LIVE | {"models": {}, "base_rate": None, "rows_labelled": 0})
    found = house.gauges()
    assert "volatility_live_base_rate" not in found
    assert found["volatility_rows_labelled"] == 0.0


def test_rows_written(house: House) -> None:
    add_rows(house.data / FOLDER, "ticks", 5)
    assert house.gauges()['volatility_rows_written_total{topic="ticks"}'] == 5.0


def test_records_deleted_before_capture(house: House) -> None:
    for records in (0, 3, 0, 4):
        add_deleted(house.data / FOLDER, "ticks", records)
    add_deleted(house.data / FOLDER, "predictions", 0)
    found = house.gauges()
    assert found['volatility_deleted_records_total{topic="ticks"}'] == 7.0
    assert found['volatility_deleted_records_total{topic="predictions"}'] == 0.0, "0 is a start"


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"models": "x"}', '"text"', "7"])
def test_damaged_files_cost_their_own_series_alone_and_are_counted(
    house: House, content: str
) -> None:
    finished(house.data / FOLDER, "train", succeeded=True, now=10.0, duration_seconds=3.0)
    (house.data / FOLDER / "capture.json").write_text(content)
    (house.data / FOLDER / "rows_written.json").write_text(content)
    (house.data / FOLDER / "records_deleted.json").write_text(content)
    house.write("drift", content)
    house.write("performance", content)
    found = house.gauges()
    assert found["volatility_monitor_unreadable_files"] == 5.0
    assert found['volatility_flow_failed{flow="train"}'] == 0.0
    assert {name.split("{")[0] for name in found} - ALWAYS == {
        "volatility_flow_last_success_timestamp_seconds",
        "volatility_flow_failed",
        "volatility_flow_duration_seconds",
    }


def test_a_folder_that_is_gone_does_not_break_the_scrape(house: House) -> None:
    house.data.rmdir()
    assert house.names() == {"volatility_monitor_unreadable_files"}


# The lag of capture.


def append(log: MemoryLog, number: int) -> None:
    log.create("ticks", 1)
    writer = log.writer()
    for n in range(number):
        writer.append("ticks", b"A", encode(Tick("A", NOON + n, 1.0, 1.0, 1.0)))
    writer.flush(1.0)


def test_the_lag_is_what_the_lake_lacks(tmp_path: Path) -> None:
    log = MemoryLog()
    assert look(log, tmp_path) == {}
    append(log, 5)
    assert look(log, tmp_path) == {("ticks", 0): 5}
    capture_topic(log, "ticks", tmp_path / "ticks")
    assert look(log, tmp_path) == {("ticks", 0): 0}
    append(log, 2)
    assert look(log, tmp_path) == {("ticks", 0): 2}


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[tuple[Watch, MemoryLog, list[LogError]]]:
    """A watch of a log that can be away."""
    log, away = MemoryLog(), list[LogError]()
    append(log, 3)

    class Log(MemoryLog):
        def partitions(self, topic: str) -> tuple[int, ...]:
            if away:
                raise away[0]
            return log.partitions(topic)

        generation = staticmethod(log.generation)
        start_offsets = staticmethod(log.start_offsets)
        end_offsets = staticmethod(log.end_offsets)

    watch = Watch(tmp_path, every_seconds=0.02, open_log=Log)
    watch.start()
    yield watch, log, away
    watch.stop()


def test_a_broker_that_is_away_leaves_no_old_lag(
    watching: tuple[Watch, MemoryLog, list[LogError]], house: House
) -> None:
    watch, _, away = watching
    house.watch.newest = Lag()

    def show(broker_up: bool) -> dict[str, float]:
        until(lambda: watch.newest.broker_up is broker_up, f"broker up: {broker_up}")
        house.watch.newest = watch.newest
        return house.gauges()

    lag = 'volatility_capture_lag_offsets{partition="0",topic="ticks"}'
    assert show(True)[lag] == 3.0
    away.append(LogError("away"))
    found = show(False)
    assert lag not in found
    assert found["volatility_monitor_broker_up"] == 0.0
    away.clear()
    assert show(True)[lag] == 3.0
