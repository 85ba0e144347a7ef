"""Define the interface of the event log: what the processes need, and nothing more.

It has two implementations: ``volatility.streaming.log.kafka_log.KafkaLog`` for a broker, and
``volatility.streaming.log.memory_log.MemoryLog`` within one process, for unit tests and the demo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

TICKS, PREDICTIONS, DEAD_LETTER = "ticks", "predictions", "ticks.dead-letter"
LAYOUT = "ticks.layout"
LARGEST_RECORD = 900_000  # bytes; a broker accepts 1 MiB


class LogError(Exception):
    """A request to the log failed; the one-line message says what to do."""


class DeniedError(LogError):
    """The broker denies access; only a change of its permissions can help."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """Represent one record read from a topic.

    ``time_ns`` is when it was appended, by the log's clock.
    """

    partition: int
    offset: int
    time_ns: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Writer(Protocol):
    """Append records; all records of a key go to the same partition, in order."""

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Queue a record, to be sent in the background.

        Raises
        ------
        LogError
            When the queue is full or the record is too long; nothing was queued.
        DeniedError
            When the broker has denied a record of this writer. What was pending is dropped.
        """

    def pending(self) -> int:
        """Return the number of records queued and not yet acknowledged."""

    def age_seconds(self) -> float:
        """Return how long the oldest pending record has waited; 0 when none is pending."""

    def flush(self, timeout_seconds: float) -> None:
        """Wait until every queued record is acknowledged.

        Raises
        ------
        LogError
            When some were not acknowledged in time; they stay queued.
        DeniedError
            As soon as the broker denies one.
        """

    def close(self) -> None:
        """Free the connection without waiting."""


class Reader(Protocol):
    """Read records of one topic from given offsets, or as a member of a consumer group."""

    def poll(self, max_records: int, timeout_seconds: float) -> list[Message]:
        """Return new records, at most ``max_records``, each partition in offset order.

        The list is empty while no broker responds.

        Raises
        ------
        LogError
            When the next record was deleted or never written, or the topic was deleted and
            re-created.
        """

    def assignment(self) -> tuple[int, ...]:
        """Return the partitions currently assigned to this reader."""

    def seek(self, partition: int, offset: int) -> None:
        """Continue reading at an offset."""

    def position(self, partition: int) -> int:
        """Return the offset of the next record that ``poll`` would return."""

    def partition_count(self) -> int:
        """Return how many partitions the topic has, as of a few seconds ago; 0 if unknown.

        It sends no request, so it can be called between any two polls.
        """

    def close(self) -> None:
        """Leave the group and free the connection."""


# Called with partitions from inside ``poll`` or ``close``, before any of their records is returned.
# ``poll`` waits for it, but it may run on another thread, and while it runs the group gets no
# heartbeat: after ten seconds the partitions go to other members. It may call only the reader's
# ``seek``, ``position`` and ``assignment``.
OnAssigned = Callable[[Sequence[int]], None]
OnRevoked = Callable[[Sequence[int]], None]


class EventLog(Protocol):
    """Store topics of ordered partitions."""

    def create(self, topic: str, partitions: int, *, forever: bool = False) -> None:
        """Create a topic if it does not exist; ``forever``: retention deletes none of it."""

    def extend(self, topic: str, partitions: int) -> None:
        """Add partitions to a topic that has fewer."""

    def generation(self, topic: str) -> str:
        """Return an id of this incarnation of a topic; re-creating the topic changes it.

        Letters, digits, ``_`` and ``.`` only, at most 16 characters.
        """

    def partitions(self, topic: str) -> tuple[int, ...]:
        """List the partitions of a topic; empty when it does not exist."""

    def start_offsets(self, topic: str) -> dict[int, int]:
        """Return the first offset still retained, by partition."""

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return the offset of the next record to be appended, by partition."""

    def offsets_at(self, topic: str, time_ns: int) -> dict[int, int]:
        """Return, by partition, the first offset appended at or after a time, or the end offset."""

    def writer(self) -> Writer:
        """Open a writer."""

    def reader(self, topic: str, offsets: dict[int, int]) -> Reader:
        """Open a reader of the given partitions at the given offsets."""

    def group_reader(
        self, topic: str, group: str, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> Reader:
        """Open a reader that shares the topic's partitions with the other members of its group.

        It commits no offsets: ``on_assigned`` chooses where to start, by calling ``seek``.
        """

    def close(self) -> None:
        """Free every connection that is still open."""


def was_deleted(log: EventLog, topic: str, generation: str, reader: Reader) -> bool:
    """Return whether the log no longer has what a reader is to read next.

    The topic was deleted or re-created, or its retention has overtaken the reader.
    """
    try:
        if log.generation(topic) != generation:
            return True
        kept = log.start_offsets(topic)
    except LogError:
        return not log.partitions(topic)
    return any(reader.position(p) < kept.get(p, 0) for p in reader.assignment())
