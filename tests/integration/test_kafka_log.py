"""What the event log does that only a real broker can show: outages, and other clients."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.admin import KafkaAdminClient, NewTopic

from tests.brokers import RunningBroker, free_ports
from tests.chaos import market
from tests.chaos.truncation import cut
from tests.logs import (
    InKafka,
    Ledger,
    Member,
    append,
    assert_contiguous,
    assert_each_key_in_order,
    read_all,
)
from tests.waiting import PATIENCE_SECONDS, until
from volatility.dev.broker import Broker, BrokerError, cluster_id, prepare
from volatility.lake.lake import Lake
from volatility.records.tick import Record, encode
from volatility.streaming.capture import Rotation, capture_topic
from volatility.streaming.log.interface import DEAD_LETTER, TICKS, LogError, Message, Writer
from volatility.streaming.log.kafka_log import KafkaLog


def test_nobody_answers() -> None:
    log = KafkaLog("127.0.0.1:1", max_pending=10, ask_seconds=0.5)
    with pytest.raises(LogError, match=r"no Kafka broker responds at 127\.0\.0\.1:1: start one"):
        log.partitions("ticks")
    writer = log.writer()
    for number in range(10):
        writer.append("ticks", b"key", b"%d" % number)
    with pytest.raises(LogError, match="queue full: 10 records"):
        writer.append("ticks", b"key", b"10")
    assert writer.pending() == 10
    with pytest.raises(LogError, match="10 records were not acknowledged"):
        writer.flush(0.2)
    log.close()


def test_a_broker_starts_once(broker: RunningBroker) -> None:
    with pytest.raises(BrokerError, match="already running: process"):
        broker.start()


def test_any_folder_can_hold_a_log(tmp_path: Path) -> None:
    """An id of the cluster that begins with a dash was taken for an option."""
    port, other = free_ports(2)
    brokers = (Broker(tmp_path / str(number), port, other) for number in itertools.count())
    dashed = next(one for one in brokers if cluster_id(one).startswith("-"))
    prepare(dashed)
    (properties,) = dashed.data.rglob("meta.properties")
    assert f"cluster.id={cluster_id(dashed)}" in properties.read_text()


def test_other_clients_read_what_is_written_and_write_what_is_read(broker: RunningBroker) -> None:
    log = KafkaLog(broker.servers)
    name = "shared"
    log.create(name, 1)
    append(log, name, 1000)
    producer = KafkaProducer(bootstrap_servers=broker.servers, compression_type="gzip")
    for number in range(1000, 2000):
        producer.send(name, b"%d" % number, b"key", headers=[("from", b"elsewhere")])
    producer.flush()
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=broker.servers, enable_auto_commit=False)
    consumer.assign([TopicPartition(name, 0)])
    consumer.seek(TopicPartition(name, 0), 0)
    theirs: list[Any] = []
    while len(theirs) < 2000:
        theirs += [record for part in consumer.poll(200).values() for record in part]
    consumer.close()
    ours = read_all(log, name)
    log.close()
    assert [(record.offset, record.key, record.value) for record in theirs] == [
        (message.offset, message.key, message.value) for message in ours
    ]
    assert [record.timestamp * 1_000_000 for record in theirs] == [
        message.time_ns for message in ours
    ]
    assert [int(message.value) for message in ours] == list(range(2000))
    assert ours[-1].headers == (("from", b"elsewhere"),)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_each_codec_of_other_producers_is_read(broker: RunningBroker, codec: str) -> None:
    log = KafkaLog(broker.servers)
    name = f"packed-{codec}"
    log.create(name, 1)
    producer = KafkaProducer(bootstrap_servers=broker.servers, compression_type=codec, linger_ms=50)
    for number in range(500):
        producer.send(name, b"%d" % number * 20)
    producer.flush()
    producer.close()
    assert [message.value for message in read_all(log, name)] == [
        b"%d" % number * 20 for number in range(500)
    ]
    log.close()


def test_a_record_that_the_broker_refuses_is_buried_and_stops_no_other(
    broker: RunningBroker,
) -> None:
    log, name = KafkaLog(broker.servers), "small"
    log.create(DEAD_LETTER, 1)
    before = sum(log.end_offsets(DEAD_LETTER).values())
    admin = KafkaAdminClient(bootstrap_servers=broker.servers)
    admin.create_topics([NewTopic(name, 1, 1, topic_configs={"max.message.bytes": "2000"})])
    admin.close()
    until(lambda: log.partitions(name), "the topic is there")
    values = [random.Random(number).randbytes(300) for number in range(60)]
    values[20] = values[41] = random.Random(0).randbytes(5_000)
    writer = log.writer()
    for value in values:
        writer.append(name, b"key", value)
    writer.flush(PATIENCE_SECONDS)
    assert writer.pending() == 0
    assert [message.value for message in read_all(log, name)] == [
        value for value in values if len(value) == 300
    ]
    buried = read_all(log, DEAD_LETTER)[before:]
    assert [message.value for message in buried] == [values[20][:500]] * 2
    headers = dict(buried[0].headers)
    assert headers["length"] == b"5000"
    assert b"the broker refuses it: " in headers["reason"]
    log.close()


def test_of_transactions_only_the_committed_are_read_and_a_run_to_the_end_ends(
    broker: RunningBroker, tmp_path: Path
) -> None:
    log = KafkaLog(broker.servers)
    log.create(TICKS, 1)
    kept = [encode(record) for record in islice(market.records(0), 60)]
    producer = KafkaProducer(bootstrap_servers=broker.servers, transactional_id="elsewhere")
    producer.init_transactions()
    for start in range(0, 60, 20):
        for commits in (False, True):
            producer.begin_transaction()
            for value in kept[start : start + 20]:
                producer.send(TICKS, value, partition=0)
            producer.flush()
            if commits:
                producer.commit_transaction()
            else:
                producer.abort_transaction()
    producer.close()
    for expected in (60, 0):
        assert capture_topic(log, TICKS, tmp_path) == expected
    source = f"{TICKS}.{log.generation(TICKS)}"
    assert log.end_offsets(TICKS) == {0: 126}, "two times sixty records, and six markers"
    lake = Lake(tmp_path)
    assert sum(map(lake.rows, lake.symbols())) == 60
    assert lake.last_offset(source, 0) == 125, "nothing is left to capture"
    log.close()


def test_a_broker_killed_under_load_loses_and_doubles_nothing(
    make_broker: Callable[[], RunningBroker],
) -> None:
    broker = make_broker()
    place = InKafka(broker.servers)
    log = place.log
    log.create("ticks", 4)
    writer, reader = log.writer(), log.reader("ticks", dict.fromkeys(range(4), 0))
    ledger = Ledger()
    member = Member(place, "ticks", ledger)
    found: list[Message] = []
    appended = 0

    def work(enough: Callable[[], bool], writes: Writer | None) -> None:
        nonlocal appended
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not enough() and time.monotonic() < deadline:
            for _ in range(20 if writes else 0):
                writer.append("ticks", b"key-%d" % (appended % 7), b"%d" % appended)
                appended += 1
            found.extend(reader.poll(10_000, 0.01))

    work(lambda: len(found) > 500, writer)
    broker.kill()
    for _ in range(100):  # a second and more without a broker: nothing raises, nothing is lost
        work(lambda: True, None)
        writer.append("ticks", b"key-%d" % (appended % 7), b"%d" % appended)
        appended += 1
        assert isinstance(reader.poll(100, 0.01), list)
    assert writer.pending() > 0
    before = len(found)
    broker.start()
    work(lambda: len(found) > before + 500, writer)
    writer.flush(PATIENCE_SECONDS)
    work(lambda: len(found) >= appended, None)
    until(lambda: len(member.found) >= appended or ledger.problems, "everything is read")
    member.stop()
    reader.close()
    log.close()
    assert ledger.problems == []
    for everything in (found, member.found):
        assert sorted(int(message.value) for message in everything) == list(range(appended))
        assert_contiguous(everything)
        assert_each_key_in_order(everything)


def test_no_second_request_can_lose_what_a_poll_has_found(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking the client for its position sends requests, which fail when the log was cut."""
    log = KafkaLog(broker.servers)
    log.create("asked", 1)
    append(log, "asked", 100)
    reader = log.reader("asked", {0: 0})

    def fails(_: object) -> int:
        raise errors.LogTruncationError

    monkeypatch.setattr(reader._consumer, "position", fails)
    found: list[Message] = []

    def whole() -> bool:
        found.extend(reader.poll(10, 0.1))
        return len(found) == 100

    until(whole, "all of them")
    assert reader.position(0) == 100
    log.close()


def test_a_reader_of_what_the_broker_has_lost_is_told_so(
    make_broker: Callable[[], RunningBroker],
) -> None:
    """The client notices it between two polls, by the epoch of the leader."""
    broker = make_broker()
    log = KafkaLog(broker.servers)
    log.create(TICKS, 1)
    for _ in range(10):
        append(log, TICKS, 100)
    reader = log.reader(TICKS, {0: 0})
    until(lambda: reader.poll(1_000, 0.1) and reader.position(0) == 1_000, "all of them")
    broker.kill()
    cut(broker)
    broker.start()
    append(log, TICKS, 1_000)

    def told() -> bool:
        reader.poll(1_000, 0.1)
        assert reader.position(0) == 1_000, "it went on as if nothing had happened"
        return False

    with pytest.raises(LogError, match=r"docs/runbook\.md, section LogRewritten"):
        until(told, "the error")
    log.close()


@pytest.mark.parametrize("group", [None, "capture"])
def test_capture_follows_partitions_that_are_added(
    broker: RunningBroker, tmp_path: Path, group: str | None
) -> None:
    place = InKafka(broker.servers)
    log, lake, stopping = place.log, Lake(tmp_path), threading.Event()
    if log.partitions(TICKS):
        place.delete(TICKS)
    log.create(TICKS, 1)
    source = f"{TICKS}.{log.generation(TICKS)}"
    records = list(islice(market.records(0), 200))

    def send(part: list[Record]) -> None:
        writer = log.writer()  # a new one: it knows all partitions
        for record in part:
            writer.append(TICKS, record.symbol.encode(), encode(record))
        writer.flush(PATIENCE_SECONDS)
        writer.close()

    def captured() -> bool:
        ends = log.end_offsets(TICKS)
        return all(lake.last_offset(source, part) + 1 == end for part, end in ends.items())

    def capture() -> int:
        rotation = Rotation(seconds=0.1)
        return capture_topic(
            log,
            TICKS,
            tmp_path,
            follow=True,
            group=group,
            stopped=stopping.is_set,
            rotation=rotation,
        )

    with ThreadPoolExecutor() as threads:
        running = threads.submit(capture)
        try:
            send(records[:50])
            until(lambda: captured() or running.done(), "the first partition is captured")
            log.extend(TICKS, 5)
            send(records[50:])
            until(lambda: captured() or running.done(), "the added partitions are captured")
        finally:
            stopping.set()
        running.result(PATIENCE_SECONDS)
    assert sum(map(lake.rows, lake.symbols())) == 200, "no record is rejected"
    place.delete(TICKS)
    log.close()
