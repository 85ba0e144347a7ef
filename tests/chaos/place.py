"""Give each scenario a broker with empty topics, and a broker back that was killed."""

from __future__ import annotations

import time
from contextlib import closing

from kafka import KafkaAdminClient

from streaming.broker import BrokerError
from streaming.kafka_log import KafkaLog
from streaming.log import DEAD_LETTER, PREDICTIONS, TICKS
from tests.brokers import RunningBroker

PORT_SECONDS = 20.0


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


def start_again(broker: RunningBroker) -> None:
    """Start a killed broker, as soon as the system has freed its ports."""
    deadline = time.monotonic() + PORT_SECONDS
    while True:
        try:
            return broker.start()
        except BrokerError as error:
            if "taken" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
