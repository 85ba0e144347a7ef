"""The stream and the batch path give the same bits, also across restarts and rebalances."""

from __future__ import annotations

from pathlib import Path

from tests.brokers import RunningBroker
from tests.chaos.parity import parity


def test_a_simulated_market_through_kafka_gives_the_bits_of_the_batch_path(
    broker: RunningBroker, tmp_path: Path
) -> None:
    counts = parity(broker.servers, tmp_path, hours=1.0)
    assert counts["rows"] > 5_000


def test_recorded_ticks_through_kafka_give_the_bits_of_the_batch_path(
    broker: RunningBroker, recordings: Path, tmp_path: Path
) -> None:
    counts = parity(broker.servers, tmp_path, recordings / "ticks")
    assert counts["rows"] > 10_000
