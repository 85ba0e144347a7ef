"""Append to Kafka in the background: nothing lost, nothing doubled, each partition in order.

What is queued while a request is under way leaves together with the next one, so batches grow
with the load and a lone record waits for nobody. One request at a time is under way; each batch
carries the numbers of an idempotent producer and is repeated, unchanged, until the broker has
it. kafka-python's own producer does the same at 27,000 records a second, and its time goes into
one future, two locks and 20 calls for each record.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from kafka import errors
from kafka.protocol.producer import InitProducerIdRequest, ProduceRequest

from streaming.kafka_client import Client, Topic
from streaming.log import LARGEST_RECORD, LogError
from streaming.partitioning import partition_of
from streaming.record_batch import encode

BATCH_BYTES = 512 * 1024  # before compression
# A request costs half a millisecond of Python, however little is in it: this leaves the
# interpreter to the caller, and adds half of it to the median latency of a record under load.
REST_SECONDS = 0.001
RETRY_SECONDS = 0.1
FAILURES_TO_TELL = 10  # in a row; a broker that has just started refuses a few times
CONNECT_SECONDS = 5.0
ANSWER_MS = 20_000

log = logging.getLogger(__name__)
_TopicData = ProduceRequest.TopicProduceData
Headers = Sequence[tuple[str, bytes]]

_RENEW = (  # the broker does not know our numbers (any more): take a new identity
    errors.OutOfOrderSequenceNumberError,
    errors.UnknownProducerIdError,
    errors.InvalidProducerEpochError,
)


class _Entry(NamedTuple):
    number: int  # of all that this writer was given
    queued: float  # monotonic seconds
    topic: str
    key: bytes | None
    value: bytes
    headers: Headers


class _Batch(NamedTuple):
    entries: list[_Entry]
    data: bytes


class _Lane:
    """Hold what waits for one partition, and the batch that is under way."""

    def __init__(self, topic: str, partition: int) -> None:
        self.topic, self.partition = topic, partition
        self.waiting: deque[_Entry] = deque()
        self.batch: _Batch | None = None
        self.sequence = 0

    def oldest(self) -> _Entry | None:
        if self.batch:
            return self.batch.entries[0]
        return self.waiting[0] if self.waiting else None

    def pack(self, producer: tuple[int, int]) -> bool:
        """Make the next batch if none is under way; False when there is nothing to send."""
        if self.batch is None and self.waiting:
            entries: list[_Entry] = []
            size = 0
            while self.waiting and size < BATCH_BYTES:
                entry = self.waiting[0]
                size += len(entry.value) + 64
                if size > BATCH_BYTES and entries:
                    break
                entries.append(self.waiting.popleft())
            records = [(entry.key, entry.value, entry.headers) for entry in entries]
            now_ms = time.time_ns() // 1_000_000
            data = encode(records, *producer, self.sequence, now_ms)
            self.batch = _Batch(entries, data)
        return self.batch is not None

    def unpack(self) -> None:
        """Put the batch back, to be made anew."""
        if self.batch:
            self.waiting.extendleft(reversed(self.batch.entries))
            self.batch = None


class KafkaWriter:
    """Append records through a queue and a thread.

    Parameters
    ----------
    servers
        Bootstrap servers, ``host:port``. Nothing is asked of them before the first record.
    max_pending
        Greatest number of records queued and not acknowledged.
    """

    def __init__(self, servers: str, max_pending: int) -> None:
        self._client = Client(servers, "volatility-writer")
        self._max_pending = max_pending
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._settled_more = threading.Condition(self._lock)
        self._queue: list[_Entry] = []
        self._count = 0  # appended so far
        self._settled = 0  # all entries of a smaller number are acknowledged
        self._held = 0  # taken from the queue and not acknowledged
        self._oldest: float | None = None  # when the oldest of those was queued
        self._idle = False  # the thread waits for work
        self._closing = threading.Event()
        self._problem = ""
        # From here on: the thread's own.
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._homeless: dict[str, list[_Entry]] = {}  # by topic, while its partitions are unknown
        self._topics: dict[str, Topic] = {}
        self._producer: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._run, name="kafka-writer", daemon=True)
        self._thread.start()

    def append(self, topic: str, key: bytes | None, value: bytes, headers: Headers = ()) -> None:
        """Queue a record; LogError when the queue is full or the record too long."""
        if len(value) > LARGEST_RECORD:
            raise LogError(f"a record of {len(value)} bytes; the limit is {LARGEST_RECORD}")
        with self._lock:
            if self._closing.is_set():
                raise LogError("the writer is closed")
            if len(self._queue) + self._held >= self._max_pending:
                raise LogError(
                    f"{self._max_pending} records wait for the broker and no more are taken"
                    f"{self._why()}"
                )
            self._queue.append(_Entry(self._count, time.monotonic(), topic, key, value, headers))
            self._count += 1
            if self._idle:
                self._work.notify()

    def pending(self) -> int:
        """Count the records queued and not yet acknowledged."""
        with self._lock:
            return len(self._queue) + self._held

    def age_seconds(self) -> float:
        """Give how long the oldest pending record has waited; 0 when none is pending."""
        with self._lock:
            oldest = self._oldest
            if oldest is None:
                oldest = self._queue[0].queued if self._queue else None
        return 0.0 if oldest is None else time.monotonic() - oldest

    def flush(self, timeout_seconds: float) -> None:
        """Wait until every record queued before is acknowledged; LogError when time is up."""
        with self._lock:
            goal = self._count
            self._settled_more.wait_for(
                lambda: self._settled >= goal or self._closing.is_set(), timeout_seconds
            )
            if self._settled < goal:
                raise LogError(
                    f"{len(self._queue) + self._held} records were not acknowledged within "
                    f"{timeout_seconds:g} s{self._why()}"
                )

    def close(self) -> None:
        """Free the connection and the thread without waiting; what is pending is dropped."""
        with self._lock:
            self._closing.set()
            self._work.notify()
            self._settled_more.notify_all()
        self._client.close()
        self._thread.join()

    def _why(self) -> str:
        return f": {self._problem}" if self._problem else ""

    # The thread.

    def _run(self) -> None:
        failures = 0
        while self._take():
            started = time.monotonic()
            try:
                problem = self._send()
            except (errors.KafkaError, LogError) as error:
                self._topics.clear()  # the leaders may have changed
                problem = str(error) or type(error).__name__
            failures = failures + 1 if problem else 0
            if failures == FAILURES_TO_TELL and not self._closing.is_set():
                log.warning("records wait for the broker: %s", problem)
            self._note(problem)
            rest = RETRY_SECONDS if problem else started + REST_SECONDS - time.monotonic()
            if rest > 0:
                self._closing.wait(rest)

    def _take(self) -> bool:
        """Wait for records and take all of the queue; False when the writer is closed."""
        with self._lock:
            while not (self._queue or self._held or self._closing.is_set()):
                self._idle = True
                self._work.wait()
                self._idle = False
            if self._closing.is_set():
                return False
            entries, self._queue = self._queue, []
            self._held += len(entries)
            if self._oldest is None:
                self._oldest = entries[0].queued
        for entry in entries:
            self._homeless.setdefault(entry.topic, []).append(entry)
        return True

    def _note(self, problem: str) -> None:
        """Work out what is acknowledged, and tell those who wait for it."""
        left = [entry for lane in self._lanes.values() if (entry := lane.oldest())]
        left += [entries[0] for entries in self._homeless.values()]
        oldest = min(left, default=None)  # by number
        with self._lock:
            self._problem = problem
            self._oldest = oldest.queued if oldest else None
            if oldest:
                self._settled = oldest.number
            else:
                self._settled = self._queue[0].number if self._queue else self._count
            self._settled_more.notify_all()

    def _send(self) -> str:
        """Send one request to each leader; give what keeps records waiting, if anything does."""
        self._client.connect(CONNECT_SECONDS)
        if self._producer is None:
            self._producer = self._new_producer()
        problem = self._route()
        requests: dict[int, list[_Lane]] = {}
        for lane in self._lanes.values():
            if lane.pack(self._producer):
                if lane.topic not in self._topics:
                    self._topics.update(self._client.topics([lane.topic]))
                topic = self._topics.get(lane.topic)
                leader = topic.leaders.get(lane.partition, -1) if topic else -1
                if leader < 0:
                    problem = f"no leader of partition {lane.partition} of topic `{lane.topic}`"
                    self._topics.pop(lane.topic, None)
                else:
                    requests.setdefault(leader, []).append(lane)
        for leader, lanes in requests.items():
            if all(lane.batch for lane in lanes):  # else they are to be made anew
                problem = self._produce(leader, lanes) or problem
        return problem

    def _route(self) -> str:
        """Give every record its partition; what has no topic stays."""
        unknown = [name for name in self._homeless if name not in self._topics]
        if unknown:
            self._topics.update(self._client.topics(unknown))
        for name in [name for name in self._homeless if name in self._topics]:
            count = len(self._topics[name].leaders)
            anywhere = random.randrange(count)  # noqa: S311  it spreads load and hides nothing
            for entry in self._homeless.pop(name):
                key = entry.key
                partition = anywhere if key is None else partition_of(key, count)
                lane = self._lanes.get((name, partition))
                if lane is None:
                    lane = self._lanes[name, partition] = _Lane(name, partition)
                lane.waiting.append(entry)
        return f"there is no topic `{next(iter(self._homeless))}`" if self._homeless else ""

    def _produce(self, leader: int, lanes: list[_Lane]) -> str:
        topics: dict[str, list[Any]] = {}
        for lane in lanes:
            assert lane.batch is not None
            part = _TopicData.PartitionProduceData(index=lane.partition, records=lane.batch.data)
            topics.setdefault(lane.topic, []).append(part)
        data = [_TopicData(name=name, partition_data=parts) for name, parts in topics.items()]
        request = ProduceRequest(
            transactional_id=None,
            acks=-1,
            timeout_ms=ANSWER_MS,
            topic_data=data,
            max_version=12,  # the last that names topics; later ones want their ids
        )
        answer = self._client.ask(request, leader)
        problem = ""
        for topic in answer.responses:
            for part in topic.partition_responses:
                lane = self._lanes[topic.name, part.index]
                error = errors.for_code(part.error_code)
                if error in (errors.NoError, errors.DuplicateSequenceNumberError):
                    self._acknowledge(lane)
                    continue
                problem = f"partition {part.index} of topic `{topic.name}`: {error.__name__}"
                self._topics.pop(topic.name, None)
                if error in _RENEW:
                    self._producer = None
        if self._producer is None:
            for lane in self._lanes.values():
                lane.unpack()
                lane.sequence = 0
        return problem

    def _acknowledge(self, lane: _Lane) -> None:
        assert lane.batch is not None
        count = len(lane.batch.entries)
        lane.sequence = (lane.sequence + count) & 0x7FFFFFFF  # as the broker counts on
        lane.batch = None
        with self._lock:
            self._held -= count

    def _new_producer(self) -> tuple[int, int]:
        answer = self._client.ask(
            InitProducerIdRequest(
                transactional_id=None,
                transaction_timeout_ms=ANSWER_MS,
                producer_id=-1,
                producer_epoch=-1,
            )
        )
        error = errors.for_code(answer.error_code)
        if error is not errors.NoError:
            raise error("no producer id yet")
        return answer.producer_id, answer.producer_epoch
