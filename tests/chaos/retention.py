"""Keep the log for a shorter time than the windows need: the loss is told, and the run goes on."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from tests.brokers import free_ports, run_broker
from tests.chaos import kills, market
from tests.chaos.checks import Key, check_predictions, deleted, held
from tests.chaos.clocks import newest
from tests.chaos.place import metric
from tests.chaos.processes import running
from tests.waiting import until
from volatility.lake.lake import Lake
from volatility.settings import Features
from volatility.streaming.log.interface import PREDICTIONS, TICKS
from volatility.streaming.log.kafka_log import KafkaLog
from volatility.units import SECOND

CHECKED_MS, KEPT_MS = 300, 2_000
PER_SECOND = 600  # 60 s of the market in one: what is kept is far less than the memory


def retention(folder: Path) -> dict[str, int]:
    """Suspend capture until retention overtakes it, and kill score, which then lacks windows."""
    properties = f"log.retention.check.interval.ms={CHECKED_MS}\n"
    with (
        run_broker(folder / "kafka", properties) as broker,
        closing(KafkaLog(broker.servers)) as log,
    ):
        servers = broker.servers
        log.create(TICKS, market.PARTITIONS)
        keep(servers, KEPT_MS)
        (port,) = free_ports(1)
        with (
            running(folder / "load.txt", kills.loading(servers, folder, PER_SECOND)) as ticks,
            running(
                folder / "capture.txt", kills.capturing(servers, folder, port=port)
            ) as captured,
            running(folder / "score.txt", kills.scoring(servers)) as first,
        ):
            until(lambda: kills.total(log, PREDICTIONS) > 0, "predictions")
            captured.pause()
            stopped_at = log.end_offsets(TICKS)
            until(
                lambda: all(log.start_offsets(TICKS)[p] > end for p, end in stopped_at.items()),
                "the deletion of what capture has not read",
            )
            captured.resume()
            until(lambda: deleted(folder / "lake"), "the entry in the ledger")
            first.kill()
            with running(folder / "score-again.txt", kills.scoring(servers)) as second:
                until(lambda: "holding predictions" in second.said(), "the windows that are short")
                since = {s: newest(log, s) for s in market.SYMBOLS}
                until(
                    lambda: all(newest(log, s) > time for s, time in since.items()),
                    "predictions of every symbol again",
                    pause_seconds=1.0,
                )
                ticks.stop()
                keep(servers, -1)
                until(lambda: caught_up(log, folder / "lake"), "all that is left in the lake")
                counted = metric(port, "volatility_deleted_records_total")
                captured.stop()
                until(lambda: settled(log), "the last predictions")
                second.stop()
        gone = deleted(folder / "lake")
        assert counted == len(gone), f"{counted} in the metric, {len(gone)} in the ledger"
        records = kills.finish_lake(log, folder)
        spoilt = lacking(folder / "lake")

        def without(key: Key) -> bool:
            symbol, step = key
            return any(begin <= step <= end for begin, end in spoilt[symbol])

        def held_back(key: Key) -> bool:
            after = key[1] - since[key[0]]
            return 0 < after < 1.1 * Features().memory_seconds * SECOND

        # Not by another scorer: it would hold back what the log no longer fills the windows of.
        predictions = check_predictions(
            log, lake=folder / "lake", without=without, held_back=held_back
        )
        assert predictions["steps"], "nothing could be compared"
        return {"deleted": len(gone), "records": records, **predictions}


def settled(log: KafkaLog) -> bool:
    """Return whether no prediction comes for two seconds."""
    before = kills.total(log, PREDICTIONS)
    time.sleep(2.0)
    return kills.total(log, PREDICTIONS) == before


def caught_up(log: KafkaLog, folder: Path) -> bool:
    """Return whether the lake has all that the log has."""
    source = f"{TICKS}.{log.generation(TICKS)}"
    ends = log.end_offsets(TICKS)
    return all(Lake(folder).last_offset(source, p) + 1 == end for p, end in ends.items())


def keep(servers: str, milliseconds: int) -> None:
    """Set the retention of ticks."""
    values = {"retention.ms": str(milliseconds), "segment.ms": "1000", "file.delete.delay.ms": "0"}
    admin = KafkaAdminClient(bootstrap_servers=servers)
    try:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, TICKS, configs=values)])
    finally:
        admin.close()


def lacking(folder: Path) -> dict[str, list[tuple[int, int]]]:
    """Return by symbol the times [ns] whose windows reach into what the lake lacks."""
    gone, memory = deleted(folder), Features().memory_seconds * SECOND
    found: dict[str, list[tuple[int, int]]] = {symbol: [] for symbol in market.SYMBOLS}
    last: dict[str, tuple[int, int]] = {}  # of each symbol: offset, time
    for (partition, offset), row in sorted(held(Lake(folder)).items()):
        symbol = row["symbol"]
        before = last.get(symbol, (offset, row["time"]))
        if any((partition, between) in gone for between in range(before[0], offset)):
            found[symbol].append((before[1], row["time"] + memory))
        last[symbol] = offset, row["time"]
    return found
