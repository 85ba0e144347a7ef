"""Implement the event log in memory, for unit tests, and as the base of ``LocalLog``.

It behaves like ``KafkaLog``, down to the partition of a key and the steps of a rebalance;
``pause`` simulates an unavailable broker.
"""

from __future__ import annotations

import threading
import time
import uuid
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from volatility.streaming.log.interface import (
    LARGEST_RECORD,
    DeniedError,
    LogError,
    Message,
    OnAssigned,
    OnRevoked,
)
from volatility.streaming.log.partitioning import partition_of

MAX_PENDING = 500_000
Headers = Sequence[tuple[str, bytes]]


class _Partition(list[Message]):
    """Represent the records of a partition that are still retained: from offset ``start`` on."""

    start = 0

    @property
    def end(self) -> int:
        return self.start + len(self)

    def read(self, offset: int, most: int) -> list[Message]:
        first = offset - self.start
        return self[first : first + most]

    def at(self, time_ns: int) -> int:
        return self.start + bisect_left(self, time_ns, key=lambda message: message.time_ns)

    def trim(self, offset: int) -> None:
        """Drop the records before an offset."""
        del self[: max(offset - self.start, 0)]
        self.start = max(offset, self.start)


class _Topic:
    def __init__(self, partitions: int, topic_id: str = "") -> None:
        self.id = topic_id or uuid.uuid4().hex
        self.records = [_Partition() for _ in range(partitions)]
        self.next_without_key = 0


class _Group:
    """Represent a consumer group. Each round of joining redistributes the partitions."""

    def __init__(self) -> None:
        self.members: list[MemoryReader] = []
        self.round = 0
        self.joined: set[MemoryReader] = set()  # in this round; they own nothing until it ends

    def change(self) -> None:
        self.round += 1
        self.joined.clear()


class _Waiting(NamedTuple):
    queued: float  # monotonic seconds
    topic: str
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class MemoryLog:
    """Store topics in memory; safe to use from several threads.

    Parameters
    ----------
    max_pending
        Greatest number of records that a writer queues while the log is paused.
    clock
        Returns the time of appending [ns since the epoch].
    """

    def __init__(
        self, max_pending: int = MAX_PENDING, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._max_pending = max_pending
        self._clock = clock
        self._changed = threading.Condition(threading.RLock())
        self._topics: dict[str, _Topic] = {}
        self._groups: dict[tuple[str, str], _Group] = {}
        self._writers: list[MemoryWriter] = []
        self._paused = False
        self._denied: set[str] = set()

    def create(self, topic: str, partitions: int, *, forever: bool = False) -> None:  # noqa: ARG002
        """Create a topic if it does not exist."""
        with self._changed:
            self._topics.setdefault(topic, _Topic(partitions))
            self._move_all()

    def extend(self, topic: str, partitions: int) -> None:
        """Add partitions to a topic that has fewer."""
        found = self._topic(topic)
        with self._changed:
            if partitions <= len(found.records):
                return
            found.records += [_Partition() for _ in range(partitions - len(found.records))]
            for (name, _), group in self._groups.items():
                if name == topic:
                    group.change()
            self._changed.notify_all()

    def delete(self, topic: str) -> None:
        """Delete a topic and all of its records."""
        with self._changed:
            self._topics.pop(topic, None)
            self._changed.notify_all()

    def pause(self) -> None:
        """Become unavailable: writers queue, and readers find nothing."""
        with self._changed:
            self._paused = True

    def resume(self) -> None:
        """Become available again."""
        with self._changed:
            self._paused = False
            self._move_all()

    def deny(self, topic: str) -> None:
        """Refuse appends to a topic, as a broker does that does not let its user write to it."""
        with self._changed:
            self._denied.add(topic)

    def generation(self, topic: str) -> str:
        """Return an id of this incarnation of a topic; re-creating the topic changes it."""
        return self._topic(topic).id[:16]

    def partitions(self, topic: str) -> tuple[int, ...]:
        """List the partitions of a topic; empty when it does not exist."""
        with self._changed:
            found = self._topics.get(topic)
            return tuple(range(len(found.records))) if found else ()

    def start_offsets(self, topic: str) -> dict[int, int]:
        """Return the first offset still retained, by partition."""
        with self._changed:
            return {part: kept.start for part, kept in enumerate(self._topic(topic).records)}

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return the offset of the next record to be appended, by partition."""
        with self._changed:
            return {part: kept.end for part, kept in enumerate(self._topic(topic).records)}

    def offsets_at(self, topic: str, time_ns: int) -> dict[int, int]:
        """Return, by partition, the first offset appended at or after a time, or the end offset."""
        with self._changed:
            return {part: kept.at(time_ns) for part, kept in enumerate(self._topic(topic).records)}

    def writer(self) -> MemoryWriter:
        """Open a writer."""
        writer = MemoryWriter(self)
        with self._changed:
            self._writers.append(writer)
        return writer

    def reader(self, topic: str, offsets: dict[int, int]) -> MemoryReader:
        """Open a reader of the given partitions at the given offsets."""
        return MemoryReader(self, topic, self._topic(topic).id, dict(offsets))

    def group_reader(
        self, topic: str, group: str, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> MemoryReader:
        """Open a reader that shares the topic's partitions with the other members of its group."""
        topic_id = self._topic(topic).id
        with self._changed:
            shared = self._groups.setdefault((topic, group), _Group())
        return MemoryReader(self, topic, topic_id, {}, shared, on_assigned, on_revoked)

    def close(self) -> None:
        """Close the writers; what was appended stays."""
        for writer in list(self._writers):
            writer.close()

    def _topic(self, topic: str) -> _Topic:
        with self._changed:
            found = self._topics.get(topic)
        if found is None:
            raise LogError(f"topic `{topic}` does not exist in this log")
        return found

    def _move_all(self) -> None:
        for writer in self._writers:
            self._move(writer)

    def _move(self, writer: MemoryWriter) -> None:
        """Append a writer's queued records, as far as their topics exist."""
        if self._paused:
            return
        left: deque[_Waiting] = deque()
        while writer._queue:
            waiting = writer._queue[0]
            if waiting.topic in self._denied:
                writer._denied = DeniedError(
                    f"this log denies access: topic `{waiting.topic}`; allow this user to write"
                )
                writer._queue.clear()
                left.clear()
                break
            topic = self._topics.get(waiting.topic)
            if topic is None:
                left.append(waiting)
            elif not self._append(topic, waiting):
                break
            writer._queue.popleft()
        writer._queue.extendleft(reversed(left))
        self._changed.notify_all()

    def _append(self, topic: _Topic, waiting: _Waiting) -> bool:
        """Append a record; return False if it cannot be stored for now."""
        count = len(topic.records)
        if waiting.key is None:
            partition = topic.next_without_key % count
            topic.next_without_key += 1
        else:
            partition = partition_of(waiting.key, count)
        part = topic.records[partition]
        now_ns = self._clock()
        if part:
            now_ns = max(now_ns, part[-1].time_ns)  # hide clock steps backwards
        message = Message(partition, part.end, now_ns, waiting.key, waiting.value, waiting.headers)
        if not self._store(waiting.topic, message):
            return False
        part.append(message)
        return True

    def _store(self, topic: str, message: Message) -> bool:  # noqa: ARG002
        """Store a record outside this process, before anyone can read it; here: nowhere."""
        return True


class MemoryWriter:
    """Append records to a ``MemoryLog``."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._queue: deque[_Waiting] = deque()
        self._closed = False
        self._denied: DeniedError | None = None

    def append(self, topic: str, key: bytes | None, value: bytes, headers: Headers = ()) -> None:
        """Append a record, or queue it while the log is paused; LogError when the queue is full."""
        if len(value) > LARGEST_RECORD:
            raise LogError(f"record of {len(value)} bytes exceeds the limit of {LARGEST_RECORD}")
        with self._log._changed:
            if self._closed:
                raise LogError("the writer is closed")
            if self._denied:
                raise self._denied
            if len(self._queue) >= self._log._max_pending:
                raise LogError(f"queue full: {len(self._queue)} records are waiting for the log")
            self._queue.append(_Waiting(time.monotonic(), topic, key, value, tuple(headers)))
            self._log._move(self)

    def pending(self) -> int:
        """Return the number of records queued and not yet appended."""
        return len(self._queue)

    def age_seconds(self) -> float:
        """Return how long the oldest pending record has waited; 0 when none is pending."""
        with self._log._changed:
            return time.monotonic() - self._queue[0].queued if self._queue else 0.0

    def flush(self, timeout_seconds: float) -> None:
        """Wait until the queue is empty; LogError on timeout."""
        with self._log._changed:
            done = self._log._changed.wait_for(lambda: not self._queue, timeout_seconds)
            if self._denied:
                raise self._denied
            if not done:
                raise LogError(
                    f"{len(self._queue)} records were not acknowledged within {timeout_seconds:g} s"
                )

    def close(self) -> None:
        """Drop pending records."""
        with self._log._changed:
            self._closed = True
            self._queue.clear()
            if self in self._log._writers:
                self._log._writers.remove(self)


class MemoryReader:
    """Read records of one topic of a ``MemoryLog``."""

    def __init__(
        self,
        log: MemoryLog,
        topic: str,
        topic_id: str,
        offsets: dict[int, int],
        group: _Group | None = None,
        on_assigned: OnAssigned | None = None,
        on_revoked: OnRevoked | None = None,
    ) -> None:
        self._log, self._topic, self._topic_id = log, topic, topic_id
        self._positions = offsets
        self._group = group
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._round = -1  # the last round of the group that this reader took part in
        self._turn = 0
        self._closed = False

    def poll(self, max_records: int, timeout_seconds: float) -> list[Message]:
        """Return new records, at most ``max_records``, each partition in offset order."""
        deadline = time.monotonic() + timeout_seconds
        with self._log._changed:
            while not self._closed:
                if self._group is not None and not self._log._paused:
                    self._take_part(self._group)
                found = self._read(max_records)
                left = deadline - time.monotonic()
                if found or left <= 0:
                    return found
                self._log._changed.wait(left)
        raise LogError("the reader is closed")

    def assignment(self) -> tuple[int, ...]:
        """Return the partitions currently assigned to this reader."""
        return tuple(sorted(self._positions))

    def seek(self, partition: int, offset: int) -> None:
        """Continue reading at an offset."""
        if partition not in self._positions:
            raise ValueError(f"partition {partition} is not assigned to this reader")
        self._positions[partition] = offset

    def position(self, partition: int) -> int:
        """Return the offset of the next record that ``poll`` would return."""
        return self._positions[partition]

    def partition_count(self) -> int:
        """Return how many partitions the topic has; 0 if it does not exist."""
        return len(self._log.partitions(self._topic))

    def close(self) -> None:
        """Leave the group."""
        with self._log._changed:
            if self._closed:
                return
            self._closed = True
            if self._group is not None and self in self._group.members:
                self._revoke()
                self._group.members.remove(self)
                self._group.change()
            self._log._changed.notify_all()

    def _read(self, max_records: int) -> list[Message]:
        topic = self._log._topics.get(self._topic)
        if topic is None or self._log._paused:
            return []
        if topic.id != self._topic_id:
            raise LogError(f"topic `{self._topic}` was deleted and re-created: open it again")
        found: list[Message] = []
        partitions = self.assignment()
        self._turn += 1  # so that no partition starves the others
        for i in range(len(partitions)):
            partition = partitions[(i + self._turn) % len(partitions)]
            position, kept = self._positions[partition], topic.records[partition]
            if not kept.start <= position <= kept.end:
                raise LogError(
                    f"topic `{self._topic}` has no record at the requested offsets "
                    f"{self._positions}: they were deleted or never written"
                )
            part = kept.read(position, max_records - len(found))
            self._positions[partition] = position + len(part)
            found += part
        return found

    def _take_part(self, group: _Group) -> None:
        """Join, or go through a rebalance: all members revoke, then all get new partitions."""
        if self not in group.members:
            group.members.append(self)
            group.change()
            self._log._changed.notify_all()
        if self not in group.joined:
            self._revoke()
            group.joined.add(self)
            self._log._changed.notify_all()
        if self._round == group.round or len(group.joined) < len(group.members):
            return
        self._round = group.round
        partitions = self._log.partitions(self._topic)
        # Like Kafka's range assignor: contiguous ranges, the first members get the extra ones.
        share, more = divmod(len(partitions), len(group.members))
        rank = group.members.index(self)
        start = rank * share + min(rank, more)
        assigned = partitions[start : start + share + (rank < more)]
        self._positions = dict.fromkeys(assigned, -1)  # until the first seek
        if assigned and self._on_assigned is not None:
            self._on_assigned(assigned)

    def _revoke(self) -> None:
        owned = self.assignment()
        if owned and self._on_revoked is not None:
            self._on_revoked(owned)
        self._positions = {}
