"""Read a Kafka topic: kafka-python fetches and manages the group.

It also decodes records, in about 14 µs each. ``volatility.streaming.log.record_batch`` decodes the
plain batches that this project writes in about 2 µs; everything else, such as other codecs,
transactions and old formats, is left to kafka-python.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition, errors
from kafka.consumer.fetcher import ConsumerRecord, Fetcher
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.protocol.consumer import FetchRequest

from volatility.streaming.log.interface import LogError, Message, OnAssigned, OnRevoked
from volatility.streaming.log.kafka_client import DENIED, DIRECT, denied
from volatility.streaming.log.record_batch import Batch, BatchError, decode, is_plain

# A dead member's partitions move when its session times out; a live member learns of a rebalance
# at its next heartbeat.
SESSION_MS, HEARTBEAT_MS = 10_000, 1_000
LEAVE_MS = 2_000
METADATA_MS = 5_000  # until added partitions are noticed
RETRY_SECONDS = 0.1
FETCH_VERSION = 13  # the first that requests by topic id
# The next record does not exist, and never will.
ABSENT = (
    errors.OffsetOutOfRangeError,
    errors.NoOffsetForPartitionError,
    errors.LogTruncationError,
)
UNKNOWN = -1  # position of an assigned partition before its first seek


def fetched(
    fetch_offset: int, topic_partition: TopicPartition, records: Any, **options: Any
) -> PlainRecords | ForeignRecords:
    """Replace kafka-python's ``Fetcher.PartitionRecords``: decode the result of one fetch."""
    kind = PlainRecords if is_plain(records._buffer) else ForeignRecords
    return kind(fetch_offset, topic_partition, records, **options)


class ForeignRecords(Fetcher.PartitionRecords):
    """Let kafka-python decode, and convert its records."""

    def take(self, count: int | None = None) -> list[Message]:
        """Return the next records, at most ``count``."""
        try:
            return [_message(record) for record in super().take(count)]
        except errors.KafkaError:
            raise
        except Exception as error:  # each codec has its own errors
            raise errors.CorruptRecordError(f"{self.topic_partition}: {error}") from error


def _message(record: ConsumerRecord) -> Message:
    headers = tuple((name, value or b"") for name, value in record.headers)
    # A tombstone reads as empty, which no parser accepts.
    return Message(
        record.partition,
        record.offset,
        record.timestamp * 1_000_000,
        record.key,
        record.value or b"",
        headers,
    )


class PlainRecords:
    """Decode plain batches; has the constructor and the methods that the fetcher uses."""

    def __init__(
        self,
        fetch_offset: int,
        topic_partition: TopicPartition,
        records: Any,
        on_drain: Callable[[PlainRecords], None] = lambda _: None,
        **_options: Any,
    ) -> None:
        self.topic_partition = topic_partition
        self.fetch_offset = self.next_fetch_offset = fetch_offset
        self.leader_epoch = -1
        self.bytes_read = records.size_in_bytes()
        self._batches: Iterator[Batch] | None = decode(
            memoryview(records._buffer), topic_partition.partition
        )
        self._ready: list[Message] = []
        self._at = 0
        self._end = fetch_offset  # end of the current batch
        self._on_drain = on_drain
        self._failure: Exception | None = None

    def __bool__(self) -> bool:
        return self._batches is not None

    def drain(self) -> None:
        """Drop the remaining records."""
        if self._batches is not None:
            self._batches = None
            self._ready = []
            self._on_drain(self)

    def take(self, count: int) -> list[Message]:
        """Return the next records, at most ``count``."""
        if self._failure:
            failure, self._failure = self._failure, None
            raise failure
        out: list[Message] = []
        while len(out) < count:
            if self._at == len(self._ready):
                self.next_fetch_offset = self._end
                try:
                    if not self._next_batch():
                        self.drain()
                        break
                except BatchError as error:
                    failure = errors.CorruptRecordError(str(error))
                    if not out:
                        raise failure from error
                    self._failure = failure
                    break
            part = self._ready[self._at : self._at + count - len(out)]
            self._at += len(part)
            out += part
            if part:
                self.next_fetch_offset = part[-1].offset + 1
        return out

    def _next_batch(self) -> bool:
        batch = next(self._batches, None) if self._batches else None
        if batch is None:
            return False
        self.leader_epoch = batch.leader_epoch
        self._end = batch.next_offset
        self._ready, self._at = batch.messages, 0
        # A fetch returns whole batches: the first may begin before the requested offset.
        while self._at < len(self._ready) and self._ready[self._at].offset < self.fetch_offset:
            self._at += 1
        return True


class KafkaReader:
    """Read records of one topic; of transactions, only those that were committed.

    Parameters
    ----------
    servers, version
        Bootstrap servers and the broker's version. Given the version, kafka-python's constructor
        sends no request, so it cannot fail.
    topic, topic_id
        Name of the topic, and the id that it is expected to keep.
    group
        Consumer group, or None to read the partitions given to ``assign``.
    """

    def __init__(
        self,
        servers: str,
        version: tuple[int, ...],
        topic: str,
        topic_id: str,
        group: str | None = None,
    ) -> None:
        self._servers, self._topic, self._topic_id = servers, topic, topic_id
        self._positions: dict[int, int] = {}
        self._consumer = KafkaConsumer(
            bootstrap_servers=servers.split(","),
            api_version=version,
            group_id=group,
            client_id="volatility-reader",
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="none",  # a deleted offset must be an error, not a silent jump
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            partition_assignment_strategy=(RangePartitionAssignor,),
            # Records compress about sixfold, so this bounds a reader's memory to about 100 MB.
            fetch_max_bytes=8 << 20,
            max_partition_fetch_bytes=1 << 20,
            metadata_max_age_ms=METADATA_MS,
            reconnect_backoff_max_ms=1_000,
            request_timeout_ms=40_000,
            allow_auto_create_topics=False,
            proxy_url=DIRECT,
            metrics_enabled=False,
        )
        fetcher = self._consumer._fetcher
        fetcher.PartitionRecords = fetched
        fetcher._manager = _FetchById(fetcher._manager, topic, uuid.UUID(topic_id))
        self._closed = False

    def assign(self, offsets: dict[int, int]) -> None:
        """Read the given partitions from the given offsets, without a group."""
        self._consumer.assign([self._partition(partition) for partition in offsets])
        for partition, offset in offsets.items():
            self.seek(partition, offset)

    def subscribe(self, on_assigned: OnAssigned, on_revoked: OnRevoked) -> None:
        """Share the topic's partitions with the other members of the group."""
        self._consumer.subscribe([self._topic], listener=_Listener(self, on_assigned, on_revoked))

    def poll(self, max_records: int, timeout_seconds: float) -> list[Message]:
        """Return new records; none while no broker responds.

        Raises
        ------
        LogError
            When the next record was deleted, or the topic was deleted and re-created.
        """
        self._require_same_topic()
        try:
            found = self._consumer.poll(timeout_ms=timeout_seconds * 1000, max_records=max_records)
        except errors.KafkaError as error:
            if error.__cause__ is not None and not isinstance(error.__cause__, errors.KafkaError):
                raise error.__cause__ from None  # one of our callbacks failed
            self._require_same_topic()
            if isinstance(error, DENIED):
                raise denied(self._servers, error) from error
            if not _is_transient(error):
                raise LogError(self._explain(error)) from error
            time.sleep(min(RETRY_SECONDS, timeout_seconds))
            return []
        for partition, position in self._positions.items():
            # Not `position()`, which sends requests: its errors would lose what was found.
            now = self._consumer._subscription.assignment[self._partition(partition)].position
            if position != UNKNOWN and now is not None:
                # Beyond the last record: control records and what compaction removed count, too.
                self._positions[partition] = now.offset
        return [message for messages in found.values() for message in messages]

    def assignment(self) -> tuple[int, ...]:
        """Return the partitions currently assigned to this reader."""
        return tuple(sorted(self._positions))

    def seek(self, partition: int, offset: int) -> None:
        """Continue reading at an offset."""
        self._consumer.seek(self._partition(partition), offset)
        self._positions[partition] = offset

    def position(self, partition: int) -> int:
        """Return the offset of the next record that ``poll`` would return."""
        return self._positions[partition]

    def partition_count(self) -> int:
        """Return how many partitions the topic has, by the consumer's newest metadata."""
        return len(self._consumer._cluster.partitions_for_topic(self._topic) or ())

    def close(self) -> None:
        """Leave the group and free the connection."""
        if not self._closed:
            self._closed = True
            self._consumer.close(autocommit=False, timeout_ms=LEAVE_MS)

    def _partition(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)

    def _require_same_topic(self) -> None:
        now = self._consumer._cluster.topic_id(self._topic)
        if now is not None and now.int and now.hex != self._topic_id:
            raise LogError(f"topic `{self._topic}` was deleted and re-created: open it again")

    def _explain(self, error: Exception) -> str:
        if isinstance(error, errors.LogTruncationError):
            return (
                f"topic `{self._topic}` was read up to the offsets {self._positions}, but the log "
                "has others there now: the broker has lost records that it had acknowledged; what "
                "to do is in docs/runbook.md, section LogRewritten"
            )
        if isinstance(error, ABSENT):
            return (
                f"topic `{self._topic}` has no record at the requested offsets "
                f"{self._positions}: they were deleted, never written, or lost by the broker; for "
                "the last, see docs/runbook.md, section LogRewritten"
            )
        return f"cannot read topic `{self._topic}`: {error}"


class _FetchById:
    """Make a fetcher request a topic by its id.

    kafka-python 3.0.12 requests by name, and so mistakes the records of a re-created topic for
    those of the old one at the same offsets. A request by id fails instead.
    """

    def __init__(self, manager: Any, topic: str, topic_id: uuid.UUID) -> None:
        self._manager, self._topic, self._id = manager, topic, topic_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def send(self, request: Any, node_id: int | None = None, **options: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return self._manager.send(request, node_id=node_id, **options)
        for topic in (*request.topics, *request.forgotten_topics_data):
            topic.topic_id = self._id
        request._max_version = FETCH_VERSION
        future = self._manager.send(request, node_id=node_id, **options)
        future.add_callback(self._fill_names)  # before the fetcher's own callback reads the names
        return future

    def _fill_names(self, answer: Any) -> None:
        for topic in answer.responses:
            if topic.topic_id == self._id:
                topic.topic = self._topic


class _Listener(ConsumerRebalanceListener):
    """Update the reader's positions, and forward rebalance events."""

    def __init__(self, reader: KafkaReader, on_assigned: OnAssigned, on_revoked: OnRevoked) -> None:
        self._reader, self._on_assigned, self._on_revoked = reader, on_assigned, on_revoked

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        partitions = sorted(part.partition for part in assigned)
        self._reader._positions = dict.fromkeys(partitions, UNKNOWN)
        if partitions:
            self._on_assigned(partitions)

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        partitions = sorted(part.partition for part in revoked)
        try:
            if partitions:
                self._on_revoked(partitions)
        finally:
            self._reader._positions = {}


def _is_transient(error: errors.KafkaError) -> bool:
    """Return whether retrying can help."""
    return isinstance(error, errors.RetriableError) and not isinstance(error, ABSENT)
