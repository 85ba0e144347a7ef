"""The short form of ``make chaos``: every fault once or a few times, on a real broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.brokers import RunningBroker, run_broker
from tests.chaos import astray, disk, faults, kills, market, outage, truncation
from tests.chaos.checks import check_lake
from tests.chaos.place import clear
from tests.chaos.processes import capture, running
from tests.waiting import until
from volatility.records.tick import encode
from volatility.streaming.log.interface import TICKS
from volatility.streaming.log.kafka_log import KafkaLog


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """Start a broker that these tests may kill: one for all of them."""
    with run_broker(tmp_path_factory.mktemp("fragile")) as running_broker:
        yield running_broker


@pytest.mark.parametrize("protocol", ["advanced-trade", "exchange"])
def test_through_faults_each_message_is_in_the_lake_once_or_in_a_gap(
    broker: RunningBroker, tmp_path: Path, protocol: str
) -> None:
    faults.exchange_faults(broker.servers, tmp_path, 8, 1, protocol)


def test_capture_killed_at_any_instant_loses_and_doubles_nothing(
    broker: RunningBroker, tmp_path: Path
) -> None:
    counts = kills.kill_capture(broker.servers, tmp_path, kills=8, rounds=1, seed=1)
    assert counts["kills"] == 14


def test_ingest_killed_under_load(broker: RunningBroker, tmp_path: Path) -> None:
    kills.kill_ingest(broker.servers, tmp_path, kills=2, seed=2)


def test_score_killed_under_load(broker: RunningBroker, tmp_path: Path) -> None:
    assert kills.kill_score(broker.servers, tmp_path, kills=1, seed=3)["steps"] > 0


def test_broker_killed_under_load(fragile: RunningBroker, tmp_path: Path) -> None:
    assert kills.kill_broker(fragile, tmp_path, kills=1, seed=4)["steps"] > 0


def test_a_log_that_loses_its_end_stops_capture_and_score(
    fragile: RunningBroker, tmp_path: Path
) -> None:
    assert truncation.truncation(fragile, tmp_path)["rescued"] > 0


def test_records_on_a_wrong_partition_are_counted_and_not_taken(
    broker: RunningBroker, tmp_path: Path
) -> None:
    assert astray.astray(broker.servers, tmp_path, 50)["astray"] == 50


def test_broker_away_during_ingest(fragile: RunningBroker, tmp_path: Path) -> None:
    outage.outage(fragile, tmp_path, away_seconds=4.0)


@pytest.mark.parametrize("fill", [disk.full_disk, disk.full_files])
def test_disk_full_and_room_again(
    broker: RunningBroker, tmp_path: Path, fill: Callable[[str, Path], dict[str, int | str]]
) -> None:
    fill(broker.servers, tmp_path)


def test_two_captures_share_the_partitions_and_one_takes_over(
    broker: RunningBroker, tmp_path: Path
) -> None:
    clear(broker.servers)
    with closing(KafkaLog(broker.servers)) as log:
        log.create(TICKS, 4)
        writer, source = log.writer(), market.records(5, [f"S{n}-USD" for n in range(8)])

        def append(count: int) -> None:
            for _ in range(count):
                record = next(source)
                writer.append(TICKS, record.symbol.encode(), encode(record))
            writer.flush(60.0)

        def captured() -> int:
            found = tmp_path.glob("lake/symbol=*/date=*/part-*")
            return sum(1 for _ in found)

        work = partial(capture, broker.servers, str(tmp_path / "lake"), 50, 0.1, "capture")
        with running(tmp_path / "one.txt", work) as one, running(tmp_path / "two.txt", work) as two:
            append(500)
            until(captured, "the first parts")
            append(500)
            one.kill()
            append(500)
            before = captured()
            until(lambda: captured() > before, "the other takes over")
            append(500)
            two.stop()
        kills.finish_lake(log, tmp_path)
        assert check_lake(log, tmp_path / "lake") == 2_000
