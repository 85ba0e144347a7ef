"""Implement the event log on Apache Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from kafka import errors
from kafka.protocol.admin import CreatePartitionsRequest, CreateTopicsRequest
from kafka.protocol.consumer import ListOffsetsRequest

from volatility.streaming.log.interface import LogError, OnAssigned, OnRevoked
from volatility.streaming.log.kafka_client import DENIED, Client, Topic, denied
from volatility.streaming.log.kafka_reader import KafkaReader
from volatility.streaming.log.kafka_writer import KafkaWriter

ASK_SECONDS = 30.0
RETRY_SECONDS = 0.1
LATEST, EARLIEST, NOT_FOUND = -1, -2, -1
MAX_PENDING = 500_000  # records of 220 bytes: some 200 MB

Answer = TypeVar("Answer")


class KafkaLog:
    """Store topics in a Kafka cluster; connections are opened only when needed.

    Parameters
    ----------
    servers
        Bootstrap servers: ``host:port``, several separated by commas.
    max_pending
        Greatest number of records that a writer queues while the broker is unavailable.
    ask_seconds
        How long requests (not appends or polls) are retried before they fail.
    """

    def __init__(
        self, servers: str, max_pending: int = MAX_PENDING, ask_seconds: float = ASK_SECONDS
    ) -> None:
        self._servers = servers
        self._max_pending = max_pending
        self._ask_seconds = ask_seconds
        self._client = Client(servers)
        self._opened: list[KafkaReader | KafkaWriter] = []

    def create(self, topic: str, partitions: int, *, forever: bool = False) -> None:
        """Create a topic if it does not exist, and wait until it is writable.

        The broker stamps its records, so that times never decrease along offsets.
        """
        wanted = CreateTopicsRequest.CreatableTopic
        options = {"message.timestamp.type": "LogAppendTime"}
        if forever:
            options |= {"retention.ms": "-1", "retention.bytes": "-1"}
        request = CreateTopicsRequest(
            topics=[
                wanted(
                    name=topic,
                    num_partitions=partitions,
                    replication_factor=-1,
                    assignments=[],
                    configs=[
                        wanted.CreatableTopicConfig(name=name, value=value)
                        for name, value in options.items()
                    ],
                )
            ],
            timeout_ms=int(self._ask_seconds * 1000),
            validate_only=False,
        )

        def ask() -> None:
            if self._client.topic(topic) is None:
                answer = self._client.ask(request).topics[0]
                error = errors.for_code(answer.error_code)
                if error not in (errors.NoError, errors.TopicAlreadyExistsError):
                    raise error(answer.error_message)
            self._require_leaders(topic, 1)

        self._repeat(ask)

    def extend(self, topic: str, partitions: int) -> None:
        """Add partitions to a topic that has fewer, and wait until they are writable."""
        wanted = CreatePartitionsRequest.CreatePartitionsTopic
        request = CreatePartitionsRequest(
            topics=[wanted(name=topic, count=partitions, assignments=None)],
            timeout_ms=int(self._ask_seconds * 1000),
            validate_only=False,
        )

        def ask() -> None:
            found = self._client.topic(topic)
            if found is not None and len(found.leaders) < partitions:
                answer = self._client.ask(request).results[0]
                error = errors.for_code(answer.error_code)
                # Another process may have added them since.
                if error not in (errors.NoError, errors.InvalidPartitionsError):
                    raise error(answer.error_message)
            self._require_leaders(topic, partitions)

        self._topic(topic)
        self._repeat(ask)

    def generation(self, topic: str) -> str:
        """Return an id of this incarnation of a topic: the first half of the broker's topic id."""
        return self._topic(topic).id[:16]

    def partitions(self, topic: str) -> tuple[int, ...]:
        """List the partitions of a topic; empty when it does not exist."""
        found = self._repeat(lambda: self._client.topic(topic))
        return tuple(sorted(found.leaders)) if found else ()

    def start_offsets(self, topic: str) -> dict[int, int]:
        """Return the first offset still retained, by partition."""
        return self._offsets(topic, EARLIEST)

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return the offset up to which records can be read, by partition."""
        return self._offsets(topic, LATEST)

    def offsets_at(self, topic: str, time_ns: int) -> dict[int, int]:
        """Return, by partition, the first offset appended at or after a time, or the end offset."""
        ends = self._offsets(topic, LATEST)  # ask first: what arrives meanwhile comes after it
        found = self._offsets(topic, max(0, -(-time_ns // 1_000_000)))
        return {
            partition: ends[partition] if offset == NOT_FOUND else offset
            for partition, offset in found.items()
        }

    def writer(self) -> KafkaWriter:
        """Open a writer."""
        writer = KafkaWriter(self._servers, self._max_pending)
        self._opened.append(writer)
        return writer

    def reader(self, topic: str, offsets: dict[int, int]) -> KafkaReader:
        """Open a reader of the given partitions at the given offsets."""
        reader = self._reader(topic, None)
        reader.assign(offsets)
        return reader

    def group_reader(
        self, topic: str, group: str, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> KafkaReader:
        """Open a reader that shares the topic's partitions with the other members of its group."""
        reader = self._reader(topic, group)
        reader.subscribe(on_assigned, on_revoked)
        return reader

    def close(self) -> None:
        """Free every connection that is still open."""
        for opened in self._opened:
            opened.close()
        self._client.close()

    def _reader(self, topic: str, group: str | None) -> KafkaReader:
        found = self._topic(topic)
        reader = KafkaReader(self._servers, self._client.version, topic, found.id, group)
        self._opened.append(reader)
        return reader

    def _topic(self, topic: str) -> Topic:
        found = self._repeat(lambda: self._client.topic(topic))
        if found is None:
            raise LogError(f"topic `{topic}` does not exist at {self._servers}")
        return found

    def _require_leaders(self, topic: str, partitions: int) -> None:
        found = self._client.topic(topic)
        leaders = list(found.leaders.values()) if found else []
        if len(leaders) < partitions or min(leaders) < 0:
            raise errors.LeaderNotAvailableError(topic)

    def _offsets(self, topic: str, time_ms: int) -> dict[int, int]:
        def ask() -> dict[int, int]:
            found = self._client.topic(topic)
            if found is None:
                raise LogError(f"topic `{topic}` does not exist at {self._servers}")
            offsets: dict[int, int] = {}
            for leader in set(found.leaders.values()):
                led = [part for part, node in found.leaders.items() if node == leader]
                offsets.update(self._ask_offsets(topic, led, leader, time_ms))
            return dict(sorted(offsets.items()))

        return self._repeat(ask)

    def _ask_offsets(
        self, topic: str, partitions: list[int], leader: int, time_ms: int
    ) -> dict[int, int]:
        if leader < 0:
            raise errors.LeaderNotAvailableError(topic)
        about = ListOffsetsRequest.ListOffsetsTopic
        parts = [
            about.ListOffsetsPartition(
                partition_index=partition, current_leader_epoch=-1, timestamp=time_ms
            )
            for partition in partitions
        ]
        answer: Any = self._client.ask(
            ListOffsetsRequest(
                replica_id=-1,
                isolation_level=1,  # read up to the first open transaction
                topics=[about(name=topic, partitions=parts)],
                min_version=2,
                max_version=7,
            ),
            leader,
        )
        offsets = {}
        for part in answer.topics[0].partitions:
            error = errors.for_code(part.error_code)
            if error is not errors.NoError:
                raise error(topic)
            offsets[part.partition_index] = part.offset
        return offsets

    def _repeat(self, ask: Callable[[], Answer]) -> Answer:
        """Retry a request until it succeeds, fails permanently, or times out."""
        deadline = time.monotonic() + self._ask_seconds
        while True:
            self._client.connect(max(0.1, deadline - time.monotonic()))
            try:
                return ask()
            except DENIED as error:
                raise denied(self._servers, error) from error
            except errors.KafkaError as error:
                lasting = not isinstance(error, errors.RetriableError)
                if lasting or time.monotonic() > deadline:
                    raise LogError(
                        f"the Kafka broker at {self._servers} refused or did not respond: "
                        f"{str(error) or type(error).__name__}"
                    ) from error
            time.sleep(RETRY_SECONDS)
