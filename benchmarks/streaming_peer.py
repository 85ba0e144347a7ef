"""Read and write a topic with plain kafka-python, and profile it."""

from __future__ import annotations

import cProfile
import io
import pstats
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

POLL_RECORDS = 20_000
TUNED: dict[str, Any] = {"linger_ms": 5, "batch_size": 512 * 1024, "compression_type": "zstd"}
LINES = 15


def consume(servers: str, topic: str, records: int) -> int:
    """Read a topic from its beginning, discard the records and return their number."""
    consumer = KafkaConsumer(
        bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    partitions = consumer.partitions_for_topic(topic)
    consumer.assign([TopicPartition(topic, partition) for partition in partitions])
    count = 0
    while count < records:
        for found in consumer.poll(timeout_ms=1000, max_records=POLL_RECORDS).values():
            count += len(found)
    consumer.close()
    return count


def produce(
    servers: str, topic: str, entries: Sequence[tuple[bytes, bytes]], **options: Any
) -> int:
    """Append keys and values, and wait for all acknowledgements."""
    producer = KafkaProducer(bootstrap_servers=servers, **options)
    for key, value in entries:
        producer.send(topic, value, key)
    producer.flush()
    producer.close()
    return len(entries)


def profiled(title: str, work: Callable[[], Any]) -> str:
    """Run a function and all its threads under cProfile; return the most expensive functions.

    The clock is each thread's CPU time, so waiting for the broker does not count.
    """
    profiles = [cProfile.Profile(time.thread_time)]

    def begin(*_: object) -> None:
        # Called once in each new thread, before its first function; the profile replaces it.
        profiles.append(cProfile.Profile(time.thread_time))
        profiles[-1].enable()

    threading.setprofile(begin)
    try:
        profiles[0].runcall(work)
    finally:
        threading.setprofile(None)
    text = io.StringIO()
    statistics = pstats.Stats(*profiles, stream=text).strip_dirs().sort_stats("tottime")
    statistics.print_stats(LINES)
    lines = [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]
    return "\n".join([f"{title}: CPU time, the profiler's own included", *lines]) + "\n"
