"""What the event log does that only a real broker can show: outages, and other clients."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from streaming.broker import Broker, BrokerError, cluster_id, prepare
from streaming.kafka_log import KafkaLog
from streaming.log import LogError, Message, Writer
from tests.brokers import RunningBroker, free_ports
from tests.logs import (
    PATIENCE_SECONDS,
    InKafka,
    Ledger,
    Member,
    append,
    assert_contiguous,
    assert_each_key_in_order,
    read_all,
    wait_until,
)


def test_nobody_answers() -> None:
    log = KafkaLog("127.0.0.1:1", max_pending=10, ask_seconds=0.5)
    with pytest.raises(LogError, match=r"no Kafka broker answers at 127\.0\.0\.1:1: start one"):
        log.partitions("ticks")
    writer = log.writer()
    for number in range(10):
        writer.append("ticks", b"key", b"%d" % number)
    with pytest.raises(LogError, match="10 records wait for the broker and no more are taken"):
        writer.append("ticks", b"key", b"10")
    assert writer.pending() == 10
    with pytest.raises(LogError, match="10 records were not acknowledged"):
        writer.flush(0.2)
    log.close()


def test_a_broker_starts_once(broker: RunningBroker) -> None:
    with pytest.raises(BrokerError, match="it runs already: process"):
        broker.start()


def test_any_folder_can_hold_a_log(tmp_path: Path) -> None:
    """An id of the cluster that begins with a dash was taken for an option."""
    ports = free_ports(2)
    brokers = (Broker(tmp_path / str(number), *ports) for number in itertools.count())
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

    def work(until: Callable[[], bool], writes: Writer | None) -> None:
        nonlocal appended
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not until() and time.monotonic() < deadline:
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
    wait_until(lambda: len(member.found) >= appended or bool(ledger.problems))
    member.stop()
    reader.close()
    log.close()
    assert ledger.problems == []
    for everything in (found, member.found):
        assert sorted(int(message.value) for message in everything) == list(range(appended))
        assert_contiguous(everything)
        assert_each_key_in_order(everything)
