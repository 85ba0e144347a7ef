"""Let another producer ignore the keys: what lies on a wrong partition is told and not taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from kafka import KafkaProducer

from tests.brokers import free_ports
from tests.chaos import kills, market
from tests.chaos.checks import buried
from tests.chaos.place import clear, metric
from tests.chaos.processes import running
from tests.waiting import until
from volatility.records.tick import Record, encode
from volatility.streaming.log.interface import PREDICTIONS, TICKS
from volatility.streaming.log.kafka_log import KafkaLog
from volatility.streaming.log.partitioning import partition_of


def astray(servers: str, folder: Path, count: int) -> dict[str, int]:
    """Append ticks of every symbol to the partition that is not its own, amid the right ones."""
    clear(servers)
    (port,) = free_ports(1)
    counter = "volatility_misplaced_ticks_total"
    with closing(KafkaLog(servers)) as log:
        log.create(TICKS, market.PARTITIONS)
        with (
            running(folder / "load.txt", kills.loading(servers, folder, 400)) as ticks,
            running(folder / "capture.txt", kills.capturing(servers, folder)) as captured,
            running(folder / "score.txt", kills.scoring(servers, port)) as scored,
        ):
            until(lambda: kills.total(log, PREDICTIONS) > 0, "predictions")
            assert metric(port, counter) == 0.0
            misplace(servers, islice(market.records(9, start_ns=market.START_NS), count))
            until(lambda: metric(port, counter) == count, "the count of all of them")
            before = kills.total(log, PREDICTIONS)
            until(lambda: kills.total(log, PREDICTIONS) > before + 100, "predictions after them")
            for child in (ticks, captured, scored):
                child.stop()
        records = kills.finish_lake(log, folder, rejected=count)
        assert all("not on its symbol's partition" in why for why in buried(log).values())
        predictions = kills.finish_predictions(log, lake=folder / "lake")
        return {"astray": count, "records": records, **predictions}


def misplace(servers: str, records: Iterator[Record]) -> None:
    """Append records where they do not belong."""
    producer = KafkaProducer(bootstrap_servers=servers)
    for record in records:
        home = partition_of(record.symbol.encode(), market.PARTITIONS)
        producer.send(TICKS, encode(record), partition=(home + 1) % market.PARTITIONS)
    producer.flush()
    producer.close()
