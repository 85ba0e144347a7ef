"""Capture the topics into the lake, up to the log's end of now."""

from __future__ import annotations

import time
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.tasks import exponential_backoff

from streaming.capture import capture_topic
from streaming.kafka_log import KafkaLog
from streaming.log import PREDICTIONS, TICKS
from volatility.settings import environment

TIMEOUT_SECONDS = 900.0
GRACE_SECONDS = 60.0  # to write what has been read


@task(
    retries=4,
    retry_delay_seconds=exponential_backoff(5),
    retry_jitter_factor=0.5,
    timeout_seconds=TIMEOUT_SECONDS + GRACE_SECONDS,
)
def capture_to_end(topic: str, folder: str, timeout_seconds: float = TIMEOUT_SECONDS) -> int:
    """Capture one topic into a folder; give the rows written.

    What does not fit in the time is left to the next run, which goes on from there. A topic of
    predictions that nobody has scored into yet is no error.
    """
    deadline = time.monotonic() + timeout_seconds
    log = KafkaLog(environment().kafka_bootstrap_servers)
    try:
        if topic == PREDICTIONS and not log.partitions(topic):
            return 0
        return capture_topic(log, topic, Path(folder), stopped=lambda: time.monotonic() > deadline)
    finally:
        log.close()


@flow(name="capture")
def capture(ticks: str = "data/ticks", predictions: str = "data/predictions") -> dict[str, int]:
    """Capture ticks and predictions; give the rows written of each."""
    rows = {
        topic: capture_to_end(topic, folder)
        for topic, folder in ((TICKS, ticks), (PREDICTIONS, predictions))
    }
    get_run_logger().info("captured %s", rows)
    return rows


if __name__ == "__main__":
    capture()
