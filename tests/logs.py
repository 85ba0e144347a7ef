"""Provide what the tests of the event log share: the logs, and ways to fill and read them."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from tests.waiting import PATIENCE_SECONDS
from volatility.streaming.log.interface import EventLog, Message, Reader
from volatility.streaming.log.kafka_log import KafkaLog
from volatility.streaming.log.memory_log import MemoryLog


class Place(Protocol):
    """Represent a log, with operations that only tests need."""

    @property
    def log(self) -> EventLog: ...

    def delete(self, topic: str) -> None: ...

    def deny(self, topic: str, *, hide: bool) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self.log = MemoryLog()

    def delete(self, topic: str) -> None:
        self.log.delete(topic)

    def deny(self, topic: str, *, hide: bool) -> None:  # noqa: ARG002  in memory all is one
        self.log.deny(topic)


class InKafka:
    def __init__(self, servers: str) -> None:
        self.servers = servers
        self.log = KafkaLog(servers)

    def delete(self, topic: str) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self.servers)
        try:
            admin.delete_topics([topic])
        finally:
            admin.close()
        while self.log.partitions(topic):
            time.sleep(0.05)

    def deny(self, topic: str, *, hide: bool) -> None:
        """Forbid writing to a topic, and with `hide` even to ask about it."""
        at = ResourcePattern(ResourceType.TOPIC, topic)
        allowed = [] if hide else [ACLOperation.DESCRIBE]
        rules = [(ACLOperation.WRITE, ACLPermissionType.DENY)]
        rules += [(operation, ACLPermissionType.ALLOW) for operation in allowed]
        admin = KafkaAdminClient(bootstrap_servers=self.servers)
        try:
            admin.create_acls([ACL("User:ANONYMOUS", "*", *rule, at) for rule in rules])
        finally:
            admin.close()


def append(log: EventLog, topic: str, count: int, keys: int = 10, start: int = 0) -> None:
    writer = log.writer()
    for number in range(start, start + count):
        writer.append(topic, b"key-%d" % (number % keys), b"%d" % number)
    writer.flush(PATIENCE_SECONDS)
    assert writer.pending() == 0
    writer.close()


def read(reader: Reader, count: int, at_once: int = 1000) -> list[Message]:
    found: list[Message] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(found) < count and time.monotonic() < deadline:
        part = reader.poll(at_once, 0.2)
        assert len(part) <= at_once
        found += part
    return found


def read_all(log: EventLog, topic: str, at_once: int = 1000) -> list[Message]:
    reader = log.reader(topic, log.start_offsets(topic))
    found = read(reader, sum(log.end_offsets(topic).values()), at_once)
    reader.close()
    return found


def by_partition(messages: Sequence[Message]) -> dict[int, list[Message]]:
    sorted_out: dict[int, list[Message]] = defaultdict(list)
    for message in messages:
        sorted_out[message.partition].append(message)
    return sorted_out


def assert_contiguous(messages: Sequence[Message]) -> None:
    for kept in by_partition(messages).values():
        assert [message.offset for message in kept] == list(range(len(kept)))


def assert_each_key_in_order(messages: Sequence[Message]) -> None:
    by_key: dict[bytes | None, list[Message]] = defaultdict(list)
    for message in messages:
        by_key[message.key].append(message)
    for kept in by_key.values():
        assert len({message.partition for message in kept}) == 1
        numbers = [int(message.value) for message in kept]
        assert numbers == sorted(numbers)


class Ledger:
    """Represent what the members of a group share: partition owners and positions."""

    def __init__(self) -> None:
        self.owners: dict[int, Member] = {}
        self.positions = dict.fromkeys(range(4), 0)
        self.problems: list[str] = []


class Member(threading.Thread):
    """Read in a group until it is told to stop, and keep what came."""

    def __init__(self, place: Place, topic: str, ledger: Ledger) -> None:
        super().__init__(daemon=True)
        self.ledger = ledger
        self.found: list[Message] = []
        self.stopping = threading.Event()
        self.reader = place.log.group_reader(topic, topic, self.assigned, self.revoked)
        self.start()

    def assigned(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            if partition in self.ledger.owners:
                self.ledger.problems.append(f"{partition} was taken from a living owner")
            self.ledger.owners[partition] = self
            self.reader.seek(partition, self.ledger.positions[partition])

    def revoked(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            self.ledger.positions[partition] = self.reader.position(partition)
            if self.ledger.owners.pop(partition, None) is not self:
                self.ledger.problems.append(f"{partition} was given back and not owned")

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                for message in self.reader.poll(50, 0.05):
                    if self.ledger.owners.get(message.partition) is not self:
                        self.ledger.problems.append(f"{message.partition} was read, not owned")
                    self.found.append(message)
            self.reader.close()
        except Exception as error:  # noqa: BLE001  the test must see it
            self.ledger.problems.append(repr(error))

    def stop(self) -> None:
        self.stopping.set()
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive()
