from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from tests.live import prediction, without_forecasts
from volatility.lake.compaction import compact
from volatility.lake.lake import Lake
from volatility.records.prediction import PREDICTION_SCHEMA, Prediction, to_table, volatility_of
from volatility.streaming.capture import capture_topic
from volatility.streaming.log.interface import PREDICTIONS
from volatility.streaming.log.memory_log import MemoryLog
from volatility.units import SECOND

START = 1_767_571_200 * SECOND
ADDED = ("midprice", "forecasts", "said_at", "out_of_distribution")


def test_the_json_is_that_of_the_contract() -> None:
    text = msgspec.json.decode(msgspec.json.encode(prediction(START)))
    assert list(text) == [
        "symbol",
        "time",
        "midprice",
        "forecasts",
        "score",
        "threshold",
        "spike",
        "model_name",
        "model_version",
        "model_variant",
        "said_at",
        "out_of_distribution",
    ]
    assert list(text["forecasts"]) == ["60s", "300s", "900s"]
    assert text["forecasts"]["60s"] == {
        "volatility_bps": 3.0,
        "quantiles_bps": {"p05": 1.0, "p25": 2.0, "p50": 3.0, "p75": 4.0, "p95": 5.0},
        "spike_level_bps": 7.5,
        "spike_probability": 0.25,
    }


def test_a_prediction_of_before_forecasts_were_written_is_read() -> None:
    old = msgspec.to_builtins(prediction(START))
    for name in ADDED:
        del old[name]
    found = msgspec.convert(old, Prediction)
    assert found == without_forecasts(prediction(START))


@pytest.mark.parametrize(
    "change",
    [
        {"forecasts": {"1m": None}},
        {"forecasts": {"60": None}},
        {"forecasts": {"0s": None}},
        {"forecasts": {"99999999999s": None}},
        {"time": -1},
        {"time": 2**63},
        {"said_at": 2**64},
        {"surplus": 1},
    ],
)
def test_what_the_lake_could_not_store_is_refused(change: dict[str, object]) -> None:
    text = msgspec.to_builtins(prediction(START))
    forecast = text["forecasts"]["60s"]
    keys = change.get("forecasts")
    if isinstance(keys, dict):
        change = {"forecasts": dict.fromkeys(keys, forecast)}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text | change, Prediction)


def test_columns_hold_what_was_said() -> None:
    whole, old = prediction(START), without_forecasts(prediction(START + SECOND))
    table = to_table([whole, old], 3, [7, 9])
    assert table.schema == PREDICTION_SCHEMA
    first, second = table.to_pylist()
    assert first["forecasts"][1] == {
        "horizon_seconds": 300,
        "volatility_bps": 4.0,
        "p05": 1.0,
        "p25": 2.0,
        "p50": 3.0,
        "p75": 4.0,
        "p95": 5.0,
        "spike_level_bps": 7.5,
        "spike_probability": 0.5,
    }
    assert (first["midprice"], first["said_at"].value) == (100.0, START + SECOND)
    assert [second[name] for name in ADDED] == [None] * 4
    assert table.column("offset").to_pylist() == [7, 9]
    assert table.column("partition").to_pylist() == [3, 3]


def test_volatility_is_read_by_horizon_and_missing_where_it_was_not_said() -> None:
    one = prediction(START)
    assert one.forecasts is not None
    short = msgspec.structs.replace(one, forecasts={"900s": one.forecasts["900s"]})
    none = msgspec.structs.replace(one, forecasts={})
    table = to_table([without_forecasts(one), one, none, short], 0, range(4))
    column = table.column("forecasts").combine_chunks()
    nan = np.nan
    expected = [[nan, nan], [5.0, 3.0], [nan, nan], [5.0, nan]]
    np.testing.assert_array_equal(volatility_of(column, (900, 60)), expected)
    np.testing.assert_array_equal(volatility_of(column.slice(1, 3), (900, 60)), expected[1:])
    assert volatility_of(column.slice(0, 0), (60,)).shape == (0, 1)


def test_old_and_new_predictions_share_a_lake(tmp_path: Path) -> None:
    kept = [field for field in PREDICTION_SCHEMA if field.name not in ADDED]
    before = Lake(tmp_path, pa.schema(kept))
    old = to_table([prediction(START)], 0, [0]).select([field.name for field in kept])
    before.write(old, "predictions.a", 0)
    log = MemoryLog()
    log.create(PREDICTIONS, 1)
    writer = log.writer()
    for number in (1, 2):
        one = prediction(START + number * SECOND)
        writer.append(PREDICTIONS, b"BTC-USD", msgspec.json.encode(one))
    assert capture_topic(log, PREDICTIONS, tmp_path) == 2
    rows = pa.Table.from_batches(Lake(tmp_path, PREDICTION_SCHEMA).scan("BTC-USD")).to_pylist()
    assert [row["midprice"] for row in rows] == [None, 100.0, 100.0]
    assert [row["forecasts"] and len(row["forecasts"]) for row in rows] == [None, 3, 3]


def test_forecasts_from_before_they_had_probabilities_are_read_beside_new_ones(
    tmp_path: Path,
) -> None:
    forecasts = PREDICTION_SCHEMA.field("forecasts").type.value_type
    without = pa.list_(pa.struct([f for f in forecasts if f.name != "spike_probability"]))
    kept = [f for f in PREDICTION_SCHEMA if f.name != "out_of_distribution"]
    schema = pa.schema([f.with_type(without) if f.name == "forecasts" else f for f in kept])
    rows = [to_table([prediction(START + n * SECOND)], 0, [n]) for n in range(3)]
    Lake(tmp_path, schema).write(rows[0].select(schema.names).cast(schema), "predictions.a", 0)
    lake = Lake(tmp_path, PREDICTION_SCHEMA)
    for row in rows[1:]:
        lake.write(row, "predictions.a", 0)
    expected = [[None] * 3, [0.25, 0.5, 0.75], [0.25, 0.5, 0.75]]

    def said() -> list[list[float | None]]:
        found = pa.Table.from_batches(lake.scan("BTC-USD")).column("forecasts").to_pylist()
        return [[one["spike_probability"] for one in row] for row in found]

    assert said() == expected
    compact(lake, older_than_seconds=0.0, progress=False)
    assert len(lake.parts("BTC-USD")) == 1
    assert said() == expected
