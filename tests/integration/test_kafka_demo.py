"""The demo through Kafka: on a broker of its own, from nothing, and what it says is so."""

from __future__ import annotations

import os
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.brokers import run_broker
from tests.chaos import market
from tests.registries import make_registry
from volatility import registry, settings
from volatility.dev import kafka_demo as demo
from volatility.dev.broker import running
from volatility.dev.kafka_demo import DemoError, WatchedModels, compare_with_batch, compare_with_log
from volatility.features import WARM
from volatility.features.engine import read_features
from volatility.features.table import INDEX
from volatility.lake.lake import Lake
from volatility.records.prediction import PREDICTION_SCHEMA
from volatility.records.tick import encode
from volatility.stages import Paths
from volatility.streaming.capture import capture_topic
from volatility.streaming.log.interface import TICKS, EventLog
from volatility.streaming.log.kafka_log import KafkaLog
from volatility.streaming.log.memory_log import MemoryLog
from volatility.units import Floats

PARAMETERS = """
simulate: {hours: 4, symbols: [BTC-USD], seed: 7}
train: {folds: 2, min_samples_leaf: 60}
evaluate: {resamples: 10, placebo_hours: 4}
"""


def test_the_whole_chain_through_kafka_after_a_demo_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")  # no business of the demo's
    Path("params.yaml").write_text(PARAMETERS)
    rows = Lake(demo.FOLDER / "ticks")
    predictions = Lake(demo.FOLDER / "predictions", PREDICTION_SCHEMA)
    with run_broker(demo.FOLDER / "kafka") as left:
        with closing(KafkaLog(left.servers)) as log:
            log.create(TICKS, 1)
            fill(log, 10)
        former = running(left.broker)
        demo.run(settings.load(), ticks=None, serve=False)
        assert former is not None
        with pytest.raises(ProcessLookupError):
            os.kill(former, 0)
        assert running(left.broker) is None

    said = capsys.readouterr().out.splitlines()
    assert rows.symbols() == predictions.symbols() == ["BTC-USD"]
    records, written = rows.rows("BTC-USD"), predictions.rows("BTC-USD")
    assert records > 14_400
    assert 14_000 < written < 14_400  # every step but the first five minutes
    assert any(line.startswith(f"summary    {records:,} records ") for line in said)
    assert any(line.startswith(f"           {written:,} predictions written, ") for line in said)
    assert f"{written:,} " in said[-1]
    assert "bit for bit" in said[-1]
    assert registry.latest() == "1"
    assert Path("reports/index.html").exists()

    # It would not be said if it were not so.
    paths = Paths(features=demo.FOLDER / "features")
    (frame,) = read_features(paths.features)
    warm = frame.rows[~np.isnan(frame.rows[:, WARM])]

    def held(scored: Floats, lake: Lake, count: int) -> int:
        models = WatchedModels()
        models.current()[0].bundle.forecast(scored, np.zeros(len(scored), dtype=np.int64))
        return compare_with_batch(models, paths, lake, count)

    assert held(warm, predictions, written) == written
    with pytest.raises(DemoError, match=f"rows and wrote {written + 1:,} predictions"):
        held(warm, predictions, written + 1)
    table = pa.Table.from_batches(predictions.scan("BTC-USD"))
    partition = table.column("partition")[0].as_py()
    scores = nudged(table.column("score").to_numpy())
    place = table.schema.get_field_index("score")
    another = Lake("another", PREDICTION_SCHEMA)
    table = table.set_column(place, table.schema.field(place), pa.array(scores))
    another.write(table, "another", partition)
    with pytest.raises(DemoError, match="BTC-USD: the predictions of version 1 in another do not"):
        held(warm, another, written)
    warm[:, INDEX["midprice"]] = nudged(warm[:, INDEX["midprice"]])
    with pytest.raises(DemoError, match=f"scored {written:,} feature rows .* not all equal"):
        held(warm, predictions, written)


def test_a_record_lost_or_doubled_is_told(tmp_path: Path) -> None:
    log, lake = MemoryLog(), Lake(tmp_path)
    log.create(TICKS, 2)
    fill(log, 10)
    capture_topic(log, TICKS, tmp_path)
    assert compare_with_log(log, lake, 10) == 10

    with pytest.raises(DemoError, match="11 records were sent, 10 are in the log and 10 in the"):
        compare_with_log(log, lake, 11)
    fill(log, 1)
    with pytest.raises(DemoError, match="11 records were sent, 11 are in the log and 10 in the"):
        compare_with_log(log, lake, 11)
    # One of them twice: as many rows as records, and yet one is missing.
    (batch,) = lake.scan("BTC-USD")
    one = pa.Table.from_batches([batch]).slice(0, 1)
    lake.write(one, "another", one.column("partition")[0].as_py())
    with pytest.raises(DemoError, match="11 in the lake, 10 of them distinct"):
        compare_with_log(log, lake, 11)


def fill(log: EventLog, count: int) -> None:
    """Append some ticks."""
    writer = log.writer()
    for record in islice(market.records(1), count):
        writer.append(TICKS, record.symbol.encode(), encode(record))
    writer.flush(30.0)


def nudged(values: Floats) -> Floats:
    """Change the last bit of the last value."""
    changed = values.copy()
    changed[-1] = np.nextafter(changed[-1], np.inf)
    return changed
