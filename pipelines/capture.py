"""Capture the topics into the lake, up to the current end of the log."""

from __future__ import annotations

import time
from pathlib import Path

from prefect import get_run_logger

from pipelines.common import step
from pipelines.state import FOLDER, add_deleted, add_rows
from pipelines.watch import watched
from volatility.settings import environment
from volatility.streaming import capture_topic, metrics
from volatility.streaming.log import PREDICTIONS, TICKS, KafkaLog

TIMEOUT_SECONDS = 900.0  # per topic; the next run captures the rest
DESCRIPTION = "Copy new ticks and predictions from Kafka into the lake, each exactly once."


def capture_to_end(topic: str, data: Path | str, timeout_seconds: float = TIMEOUT_SECONDS) -> int:
    """Capture one topic into its data folder and return the number of rows written.

    What does not fit in the time is left to the next run, which continues from there. A topic
    without records is not an error: the alert NoTicks reports missing ticks.
    """
    deadline = time.monotonic() + timeout_seconds
    before, gone = _count("rows_written", topic), _count("deleted_records", topic)
    log = KafkaLog(environment().kafka_bootstrap_servers)
    try:
        if not log.partitions(topic):
            return 0
        folder = Path(data) / topic
        return capture_topic(log, topic, folder, stopped=lambda: time.monotonic() > deadline)
    finally:
        log.close()
        rows = _count("rows_written", topic) - before  # also if it failed half-way
        if rows:
            add_rows(Path(data) / FOLDER, topic, rows)
        add_deleted(Path(data) / FOLDER, topic, _count("deleted_records", topic) - gone)


capture_step = step("capture a topic", DESCRIPTION)(capture_to_end)


@watched("capture", description=DESCRIPTION, timeout_seconds=2 * TIMEOUT_SECONDS + 300.0)
def capture(data: str = "data") -> dict[str, int]:
    """Capture ticks and predictions and return the rows written of each."""
    rows: dict[str, int] = {topic: capture_step(topic, data) for topic in (TICKS, PREDICTIONS)}
    get_run_logger().info("captured %s", rows)
    return rows


def _count(name: str, topic: str) -> int:
    count = metrics.registry.get_sample_value(f"volatility_{name}_total", {"topic": topic})
    return int(count or 0)


if __name__ == "__main__":
    capture()
