"""Prepare empty topics and a model registry for each scenario, and ask a process its metrics."""

from __future__ import annotations

import atexit
import tempfile
import time
from contextlib import closing
from functools import cache
from pathlib import Path

import httpx
import pytest
from kafka import KafkaAdminClient
from prometheus_client.parser import text_string_to_metric_families

from tests.registries import make_registry, register_small
from volatility import registry
from volatility.streaming.log.interface import DEAD_LETTER, PREDICTIONS, TICKS
from volatility.streaming.log.kafka_log import KafkaLog


def clear(servers: str, *topics: str) -> None:
    """Delete topics, by default all of the project's."""
    with closing(KafkaLog(servers)) as log:
        found = [t for t in topics or (TICKS, PREDICTIONS, DEAD_LETTER) if log.partitions(t)]
        if not found:
            return
        admin = KafkaAdminClient(bootstrap_servers=servers)
        try:
            admin.delete_topics(found)
        finally:
            admin.close()
        while any(log.partitions(topic) for topic in found):
            time.sleep(0.05)


@cache
def registered() -> str:
    """Return the address of a registry whose champion is the small bundle, as version 1."""
    folder = tempfile.TemporaryDirectory(prefix="registry-")
    atexit.register(folder.cleanup)
    with pytest.MonkeyPatch.context() as environment:
        uri = make_registry(Path(folder.name))
        environment.setenv("MLFLOW_TRACKING_URI", uri)
        version = register_small(Path(folder.name)).version
        registry.promote(version, evidence={})
    return uri


def metric(port: int, name: str) -> float:
    """Return the sum of a metric's series that a process exports."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    families = text_string_to_metric_families(text)
    return sum(s.value for family in families for s in family.samples if s.name == name)
