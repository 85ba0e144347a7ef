"""Take the broker away during ingest at 500 ticks a second: nothing lost, and the order kept."""

from __future__ import annotations

import itertools
import time
from contextlib import closing
from functools import partial
from pathlib import Path

from tests.brokers import RunningBroker
from tests.chaos import kills, market
from tests.chaos.checks import check_lake, held
from tests.chaos.place import clear
from tests.chaos.processes import command, running
from tests.waiting import until
from volatility.lake.lake import Lake
from volatility.records.columns import to_table
from volatility.streaming.capture import capture_topic
from volatility.streaming.log.interface import TICKS
from volatility.streaming.log.kafka_log import KafkaLog
from volatility.units import SECOND

PER_SECOND = 500


def outage(broker: RunningBroker, folder: Path, away_seconds: float) -> dict[str, int]:
    """Replay a lake by the command line, at its own pace, with the broker killed amid it."""
    servers = broker.servers
    clear(servers)
    seconds = away_seconds + 4.0
    step_ns = SECOND // PER_SECOND
    endless = market.records(1, step_ns=step_ns)
    records = list(itertools.islice(endless, int(seconds * PER_SECOND)))
    source = Lake(folder / "source")
    source.write(to_table(records, 0, range(len(records))), "source", 0)
    arguments: tuple[str, ...] = ("--source", "replay", "--path", str(source.root))
    arguments += ("--lake", str(folder / "lake"), "--partitions", str(market.PARTITIONS))
    with closing(KafkaLog(servers)) as log:
        with running(
            folder / "ingest.txt", partial(command, servers, "ingest", *arguments)
        ) as child:
            until(lambda: kills.total(log) > PER_SECOND, "a second of ticks", details=child.said)
            before = sum(log.end_offsets(TICKS).values())
            broker.kill()
            time.sleep(away_seconds)
            broker.start()
            child.wait()
        capture_topic(log, TICKS, folder / "lake")
        assert check_lake(log, folder / "lake") == len(records)
    assert before < len(records) / 2, "the broker was not away"
    assert "records are waiting for the broker" in child.said()
    # The order of arrival, symbol by symbol, is that of the source.
    assert in_order(folder / "lake") == in_order(source.root)
    return {"away seconds": int(away_seconds), "records": len(records), "before": before}


def in_order(folder: Path) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for _, row in sorted(held(Lake(folder)).items()):
        found.setdefault(row["symbol"], []).append(row)
    return found
