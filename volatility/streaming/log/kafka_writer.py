"""Append to Kafka in the background: no loss, no duplicates, each partition in order.

Records queued while a request is in flight leave together in the next one, so batches grow with
the load and a single record is never delayed. Only one request is in flight at a time; each batch
carries the sequence numbers of an idempotent producer and is retried, unchanged, until the broker
has it. kafka-python's own producer does the same at 27,000 records a second; it spends its time
on one future, two locks and 20 calls per record.
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

from volatility.streaming.log.interface import DEAD_LETTER, LARGEST_RECORD, DeniedError, LogError
from volatility.streaming.log.kafka_client import DENIED, Client, Topic, denied
from volatility.streaming.log.partitioning import partition_of
from volatility.streaming.log.record_batch import encode

BATCH_BYTES = 512 * 1024  # before compression
MOST_RECORDS = 1 << 20
# A request costs half a millisecond of Python, however small it is. This pause leaves the
# interpreter to the caller, and adds half its length to the median latency under load.
REST_SECONDS = 0.001
RETRY_SECONDS = 0.1
REFRESH_SECONDS = 5.0  # until added partitions are noticed
FAILURES_BEFORE_WARNING = 10  # in a row; a broker that has just started refuses a few times
CONNECT_SECONDS = 5.0
ANSWER_MS = 20_000

log = logging.getLogger(__name__)
_TopicData = ProduceRequest.TopicProduceData
Headers = Sequence[tuple[str, bytes]]

_RENEW = (  # the broker does not know our sequence numbers (any more): get a new producer id
    errors.OutOfOrderSequenceNumberError,
    errors.UnknownProducerIdError,
    errors.InvalidProducerEpochError,
)
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_LASTING = (  # the broker will not take these bytes, however often they are sent
    *_TOO_LARGE,
    errors.InvalidRecordError,
    errors.InvalidTimestampError,
    errors.PolicyViolationError,
)
BURIED_BYTES = 500  # of a record that was too large


class _Entry(NamedTuple):
    number: int  # counts all records given to this writer
    queued: float  # monotonic seconds
    topic: str
    key: bytes | None
    value: bytes
    headers: Headers


class _Batch(NamedTuple):
    entries: list[_Entry]
    data: bytes


class _PartitionQueue:
    """Represent the records waiting for one partition, and the batch in flight."""

    def __init__(self, topic: str, partition: int) -> None:
        self.topic, self.partition = topic, partition
        self.waiting: deque[_Entry] = deque()
        self.batch: _Batch | None = None
        self.sequence = 0
        self.most = MOST_RECORDS  # of a batch; fewer after one was refused

    def oldest(self) -> _Entry | None:
        if self.batch:
            return self.batch.entries[0]
        return self.waiting[0] if self.waiting else None

    def pack(self, producer: tuple[int, int]) -> bool:
        """Build the next batch if none is in flight; False when there is nothing to send."""
        if self.batch is None and self.waiting:
            entries: list[_Entry] = []
            size = 0
            while self.waiting and size < BATCH_BYTES and len(entries) < self.most:
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
        """Return the batch to the queue, to be built again."""
        if self.batch:
            self.waiting.extendleft(reversed(self.batch.entries))
            self.batch = None


class KafkaWriter:
    """Append records through a queue and a sender thread.

    Parameters
    ----------
    servers
        Bootstrap servers, ``host:port``. They are not contacted before the first record.
    max_pending
        Greatest number of unacknowledged records.
    """

    def __init__(self, servers: str, max_pending: int) -> None:
        self._client = Client(servers, "volatility-writer")
        self._max_pending = max_pending
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._settled_more = threading.Condition(self._lock)
        self._queue: list[_Entry] = []
        self._count = 0  # appended so far
        self._settled = 0  # all entries with a smaller number are acknowledged
        self._held = 0  # taken from the queue and not acknowledged
        self._oldest: float | None = None  # when the oldest of those was queued
        self._idle = False  # the thread is waiting for work
        self._closing = threading.Event()
        self._problem = ""
        self._denied: DeniedError | None = None
        # --- used only by the sender thread ---
        self._queues: dict[tuple[str, int], _PartitionQueue] = {}
        self._unrouted: dict[str, list[_Entry]] = {}  # by topic, while its partitions are unknown
        self._topics: dict[str, Topic] = {}
        self._refreshed = time.monotonic()
        self._producer: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._run, name="kafka-writer", daemon=True)
        self._thread.start()

    def append(self, topic: str, key: bytes | None, value: bytes, headers: Headers = ()) -> None:
        """Queue a record; LogError when the queue is full or the record is too long."""
        if len(value) > LARGEST_RECORD:
            raise LogError(f"record of {len(value)} bytes exceeds the limit of {LARGEST_RECORD}")
        with self._lock:
            if self._closing.is_set():
                raise LogError("the writer is closed")
            if self._denied:
                raise self._denied
            if len(self._queue) + self._held >= self._max_pending:
                raise LogError(
                    f"queue full: {self._max_pending} records are waiting for the broker"
                    f"{self._why()}"
                )
            self._queue.append(_Entry(self._count, time.monotonic(), topic, key, value, headers))
            self._count += 1
            if self._idle:
                self._work.notify()

    def pending(self) -> int:
        """Return the number of records queued and not yet acknowledged."""
        with self._lock:
            return len(self._queue) + self._held

    def age_seconds(self) -> float:
        """Return how long the oldest pending record has waited; 0 when none is pending."""
        with self._lock:
            oldest = self._oldest
            if oldest is None:
                oldest = self._queue[0].queued if self._queue else None
        return 0.0 if oldest is None else time.monotonic() - oldest

    def flush(self, timeout_seconds: float) -> None:
        """Wait until every record queued so far is acknowledged; LogError on timeout."""
        with self._lock:
            goal = self._count
            self._settled_more.wait_for(
                lambda: self._settled >= goal or self._denied or self._closing.is_set(),
                timeout_seconds,
            )
            if self._denied:
                raise self._denied
            if self._settled < goal:
                raise LogError(
                    f"{len(self._queue) + self._held} records were not acknowledged within "
                    f"{timeout_seconds:g} s{self._why()}"
                )

    def close(self) -> None:
        """Free the connection and the thread without waiting; pending records are dropped."""
        with self._lock:
            self._closing.set()
            self._work.notify()
            self._settled_more.notify_all()
        self._client.close()
        self._thread.join()

    def _why(self) -> str:
        return f": {self._problem}" if self._problem else ""

    # --- runs on the sender thread ---

    def _run(self) -> None:
        failures = 0
        while self._take():
            started = time.monotonic()
            try:
                problem = self._send()
            except DENIED as error:
                self._give_up(error)
                return
            except (errors.KafkaError, LogError) as error:
                self._topics.clear()  # the leaders may have changed
                problem = str(error) or type(error).__name__
            failures = failures + 1 if problem else 0
            if failures == FAILURES_BEFORE_WARNING and not self._closing.is_set():
                log.warning("records are waiting for the broker: %s", problem)
            self._update_settled(problem)
            rest = RETRY_SECONDS if problem else started + REST_SECONDS - time.monotonic()
            if rest > 0:
                self._closing.wait(rest)

    def _give_up(self, error: Exception) -> None:
        """Drop what is pending: the broker will never take it, and more must not be queued."""
        with self._lock:
            pending = len(self._queue) + self._held
            self._denied = denied(
                self._client.servers, error, f", so {pending} records could not be sent"
            )
            self._queue, self._held, self._oldest = [], 0, None
            self._settled_more.notify_all()
        log.error("%s", self._denied)

    def _take(self) -> bool:
        """Wait for records and take the whole queue; False when the writer is closed."""
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
            self._unrouted.setdefault(entry.topic, []).append(entry)
        return True

    def _update_settled(self, problem: str) -> None:
        """Determine what is acknowledged, and notify the threads waiting for it."""
        left = [entry for queue in self._queues.values() if (entry := queue.oldest())]
        left += [entries[0] for entries in self._unrouted.values()]
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
        """Send one request to each leader; return the problem that blocks records, or ""."""
        self._client.connect(CONNECT_SECONDS)
        if self._producer is None:
            self._producer = self._new_producer()
        if time.monotonic() - self._refreshed > REFRESH_SECONDS:
            self._refreshed = time.monotonic()
            self._topics.clear()
        problem = self._route()
        requests: dict[int, list[_PartitionQueue]] = {}
        for queue in self._queues.values():
            if queue.pack(self._producer):
                if queue.topic not in self._topics:
                    self._topics.update(self._client.topics([queue.topic]))
                topic = self._topics.get(queue.topic)
                leader = topic.leaders.get(queue.partition, -1) if topic else -1
                if leader < 0:
                    problem = f"partition {queue.partition} of topic `{queue.topic}` has no leader"
                    self._topics.pop(queue.topic, None)
                else:
                    requests.setdefault(leader, []).append(queue)
        for leader, queues in requests.items():
            if all(queue.batch for queue in queues):  # otherwise they must be built again
                problem = self._produce(leader, queues) or problem
        return problem

    def _route(self) -> str:
        """Assign every record to a partition; records without a topic stay unrouted."""
        unknown = [name for name in self._unrouted if name not in self._topics]
        if unknown:
            self._topics.update(self._client.topics(unknown))
        for name in [name for name in self._unrouted if name in self._topics]:
            count = len(self._topics[name].leaders)
            anywhere = random.randrange(count)  # noqa: S311  spreads load, no secret
            for entry in self._unrouted.pop(name):
                key = entry.key
                partition = anywhere if key is None else partition_of(key, count)
                queue = self._queues.get((name, partition))
                if queue is None:
                    queue = self._queues[name, partition] = _PartitionQueue(name, partition)
                queue.waiting.append(entry)
        return f"topic `{next(iter(self._unrouted))}` does not exist" if self._unrouted else ""

    def _produce(self, leader: int, queues: list[_PartitionQueue]) -> str:
        topics: dict[str, list[Any]] = {}
        for queue in queues:
            assert queue.batch is not None
            part = _TopicData.PartitionProduceData(index=queue.partition, records=queue.batch.data)
            topics.setdefault(queue.topic, []).append(part)
        data = [_TopicData(name=name, partition_data=parts) for name, parts in topics.items()]
        request = ProduceRequest(
            transactional_id=None,
            acks=-1,
            timeout_ms=ANSWER_MS,
            topic_data=data,
            max_version=12,  # the last that uses topic names; later ones use ids
        )
        answer = self._client.ask(request, leader)
        problem, refusal = "", None
        for topic in answer.responses:
            for part in topic.partition_responses:
                queue = self._queues[topic.name, part.index]
                error = errors.for_code(part.error_code)
                if error in (errors.NoError, errors.DuplicateSequenceNumberError):
                    self._acknowledge(queue)
                    continue
                if error in _LASTING:
                    self._split(queue, error)
                    continue
                if issubclass(error, DENIED):
                    refusal = error(f"topic `{topic.name}`")
                    continue
                problem = f"partition {part.index} of topic `{topic.name}`: {error.__name__}"
                self._topics.pop(topic.name, None)
                if error in _RENEW:
                    self._producer = None
        if refusal is not None:  # only now: the other records of the answer are acknowledged
            raise refusal
        if self._producer is None:
            for queue in self._queues.values():
                queue.unpack()
                queue.sequence = 0
        return problem

    def _split(self, queue: _PartitionQueue, error: type[Exception]) -> None:
        """Send the records of a refused batch in halves; bury the one that is refused alone."""
        assert queue.batch is not None
        count = len(queue.batch.entries)
        queue.unpack()
        if count > 1:
            queue.most = count // 2
            return
        entry = queue.waiting.popleft()
        if queue.topic == DEAD_LETTER:
            log.error("the broker refuses a dead letter, which is lost: %s", error.__name__)
            with self._lock:
                self._held -= 1
            return
        log.error("the broker refuses a record of %s, buried: %s", queue.topic, error.__name__)
        headers = [("reason", f"the broker refuses it: {error.__name__}".encode())]
        value = entry.value
        if error in _TOO_LARGE:
            headers.append(("length", str(len(value)).encode()))
            value = value[:BURIED_BYTES]
        buried = entry._replace(topic=DEAD_LETTER, value=value, headers=headers)
        self._unrouted.setdefault(DEAD_LETTER, []).append(buried)

    def _acknowledge(self, queue: _PartitionQueue) -> None:
        assert queue.batch is not None
        count = len(queue.batch.entries)
        queue.sequence = (queue.sequence + count) & 0x7FFFFFFF  # wraps as the broker's does
        queue.batch = None
        queue.most = min(2 * queue.most, MOST_RECORDS)
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
