"""Speak to the event log through one small interface: what the processes need, and no more.

Two implementations: ``streaming.kafka_log.KafkaLog`` for a broker, and
``streaming.memory_log.MemoryLog`` inside one process, for unit tests and the demo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

TICKS, PREDICTIONS, DEAD_LETTER = "ticks", "predictions", "ticks.dead-letter"
LARGEST_RECORD = 900_000  # bytes; a broker takes 1 MiB


class LogError(Exception):
    """The log cannot do what was asked; one line says what to do."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """Hold one record of a topic as it was read.

    ``time_ns`` is the time of appending, from the log's clock.
    """

    partition: int
    offset: int
    time_ns: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Writer(Protocol):
    """Append records; one key always goes to one partition, in order."""

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Queue a record; it is sent in the background.

        Raises
        ------
        LogError
            When the queue is full or the record too long: nothing was queued.
        """

    def pending(self) -> int:
        """Count the records queued and not yet acknowledged."""

    def age_seconds(self) -> float:
        """Give how long the oldest pending record has waited; 0 when none is pending."""

    def flush(self, timeout_seconds: float) -> None:
        """Wait until every queued record is acknowledged.

        Raises
        ------
        LogError
            When some were not within the timeout; they stay queued.
        """

    def close(self) -> None:
        """Free the connection without waiting."""


class Reader(Protocol):
    """Read records of one topic from given offsets, or as a member of a consumer group."""

    def poll(self, max_records: int, timeout_seconds: float) -> list[Message]:
        """Give what has come, at most ``max_records``, each partition in offset order.

        Nothing comes while no broker answers.

        Raises
        ------
        LogError
            When the record to go on with was deleted or never written, or the topic was
            deleted and created anew.
        """

    def assignment(self) -> tuple[int, ...]:
        """Give the partitions that this reader reads now."""

    def seek(self, partition: int, offset: int) -> None:
        """Go on at an offset."""

    def position(self, partition: int) -> int:
        """Give the offset of the next record that ``poll`` would give."""

    def close(self) -> None:
        """Leave the group and free the connection."""


# Called with partitions from inside ``poll`` or ``close``, before any record of theirs is given.
# ``poll`` waits meanwhile, but the thread may be another, and while it is busy the group gets no
# sign of life: ten seconds, and the partitions go to others. Of the reader, only ``seek``,
# ``position`` and ``assignment`` may be called.
OnAssigned = Callable[[Sequence[int]], None]
OnRevoked = Callable[[Sequence[int]], None]


class EventLog(Protocol):
    """Hold topics of ordered partitions."""

    def create(self, topic: str, partitions: int) -> None:
        """Create a topic if it does not exist."""

    def generation(self, topic: str) -> str:
        """Name this very topic: another one of the same name, created anew, has another.

        Letters, digits, ``_`` and ``.`` only, at most 16 characters.
        """

    def partitions(self, topic: str) -> tuple[int, ...]:
        """List the partitions of a topic; empty when there is no such topic."""

    def start_offsets(self, topic: str) -> dict[int, int]:
        """Give the first offset still kept, by partition."""

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Give the offset of the next record to be appended, by partition."""

    def offsets_at(self, topic: str, time_ns: int) -> dict[int, int]:
        """Give, by partition, the first offset appended at or after a time, else the end offset."""

    def writer(self) -> Writer:
        """Open a writer."""

    def reader(self, topic: str, offsets: dict[int, int]) -> Reader:
        """Open a reader of the given partitions at the given offsets."""

    def group_reader(
        self, topic: str, group: str, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> Reader:
        """Open a reader that shares the topic's partitions with others of its group.

        It commits nothing: where to start is decided in ``on_assigned``, by ``seek``.
        """

    def close(self) -> None:
        """Free every connection that was not closed."""


def gone(log: EventLog, topic: str, generation: str, reader: Reader) -> bool:
    """Tell whether the log no longer holds what a reader is to read next.

    The topic was deleted, or created anew, or its retention has overtaken the reader.
    """
    try:
        if log.generation(topic) != generation:
            return True
        kept = log.start_offsets(topic)
    except LogError:
        return not log.partitions(topic)
    return any(reader.position(p) < kept.get(p, 0) for p in reader.assignment())
