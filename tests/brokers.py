"""Run real Kafka brokers for tests: on free ports, with data of their own."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from volatility.dev import broker
from volatility.dev.broker import Broker

# Everything is allowed where there are no rules; a test may make some for its topics.
PERMISSIONS = """\
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
"""


@dataclass(frozen=True)
class RunningBroker:
    """Represent a broker that a test may stop, kill and restart on the same data and ports."""

    broker: Broker

    @property
    def servers(self) -> str:
        return self.broker.servers

    def start(self) -> None:
        broker.start(self.broker)

    def stop(self) -> None:
        broker.stop(self.broker)

    def kill(self) -> None:
        broker.kill(self.broker)

    def alive(self) -> bool:
        return broker.running(self.broker) is not None


@contextmanager
def run_broker(folder: Path, properties: str = "") -> Iterator[RunningBroker]:
    """Start a broker with its data in a folder and more settings; it ends with the block."""
    missing = [program for program in ("java", "mvn") if shutil.which(program) is None]
    if missing:
        # .ci/run installs them: there, nothing may be left out for lack of a server.
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"a real Kafka broker needs {' and '.join(missing)}")
    port, controller_port = free_ports(2)
    running = RunningBroker(Broker(folder, port, controller_port, PERMISSIONS + properties))
    try:
        running.start()
        yield running
    finally:
        broker.kill(running.broker)  # its data is thrown away: no need to be polite


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:  # all at once, so that none is given twice
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
