from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.live import prediction
from volatility.lake.lake import Lake
from volatility.records.prediction import PREDICTION_SCHEMA, Prediction, to_table
from volatility.streaming.capture import Rotation, capture_topic
from volatility.streaming.distinct import Distinct
from volatility.streaming.log.interface import PREDICTIONS
from volatility.streaming.log.memory_log import MemoryLog
from volatility.units import SECOND

START = 1_767_571_200 * SECOND


def one(second: int, version: str = "1", symbol: str = "BTC-USD", score: float = 0.5) -> Prediction:
    return prediction(START + second * SECOND, symbol, version, score)


def append(log: MemoryLog, *predictions: Prediction) -> None:
    writer = log.writer()
    for each in predictions:
        writer.append(PREDICTIONS, each.symbol.encode(), msgspec.json.encode(each))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    monkeypatch.setattr("volatility.streaming.capture.POLL_RECORDS", 7)  # several batches
    made = MemoryLog()
    made.create(PREDICTIONS, 1)
    return made


def held(folder: Path) -> list[tuple[str, int, str, float]]:
    lake, found = Lake(folder, PREDICTION_SCHEMA), []
    for symbol in lake.symbols():
        for batch in lake.scan(symbol):
            for row in batch.to_pylist():
                second = (row["time"].value - START) // SECOND
                found.append((symbol, second, row["model_version"], row["score"]))
    return sorted(found)


def capture(log: MemoryLog, folder: Path, rows: int = 50_000) -> int:
    return capture_topic(log, PREDICTIONS, folder, rotation=Rotation(rows))


def test_a_repeated_prediction_is_kept_once_and_the_first_counts(
    log: MemoryLog, tmp_path: Path
) -> None:
    append(log, one(1), one(2), one(2, score=0.9), one(3), one(1))
    assert capture(log, tmp_path) == 3
    assert held(tmp_path) == [("BTC-USD", second, "1", 0.5) for second in (1, 2, 3)]


def test_versions_symbols_and_times_are_told_apart(log: MemoryLog, tmp_path: Path) -> None:
    append(log, one(1), one(1, "2"), one(1, symbol="ETH-USD"), one(2))
    assert capture(log, tmp_path) == 4


def test_what_an_earlier_run_has_captured_is_not_captured_again(
    log: MemoryLog, tmp_path: Path
) -> None:
    append(log, *(one(second) for second in range(10)))
    assert capture(log, tmp_path) == 10
    append(log, *(one(second) for second in range(5, 15)), one(3, "2"))
    assert capture(log, tmp_path) == 6
    append(log, *(one(second) for second in range(3, 15)))
    assert capture(log, tmp_path) == 0
    append(log, one(15))
    assert capture(log, tmp_path) == 1
    assert [row[1] for row in held(tmp_path) if row[2] == "1"] == list(range(16))


def test_a_topic_built_again_repeats_nothing(log: MemoryLog, tmp_path: Path) -> None:
    """Its offsets start at zero once more, in parts of another source."""
    append(log, *(one(second) for second in range(30)))
    capture(log, tmp_path)
    log.delete(PREDICTIONS)
    log.create(PREDICTIONS, 1)
    append(log, *(one(second) for second in range(40)))
    assert capture(log, tmp_path, rows=7) == 10
    assert [row[1] for row in held(tmp_path)] == list(range(40))


def test_the_rest_of_a_batch_that_was_cut_short_hides_nothing(
    log: MemoryLog, tmp_path: Path
) -> None:
    """One symbol's part of a batch was published before the crash, the other's was not."""
    rows = [one(1), one(1, symbol="ETH-USD"), one(2), one(2, symbol="ETH-USD")]
    append(log, *rows)
    lake, source = Lake(tmp_path, PREDICTION_SCHEMA), f"{PREDICTIONS}.{log.generation(PREDICTIONS)}"
    lake.write(to_table(rows, 0, range(4)), source, 0)
    for path in tmp_path.glob("symbol=ETH-USD/date=*/part-*"):
        path.unlink()
    assert lake.last_offset(source, 0) == -1
    assert capture(log, tmp_path) == 4
    assert len(held(tmp_path)) == 4


def test_a_write_that_failed_is_not_taken_for_one_that_was_done(tmp_path: Path) -> None:
    distinct = Distinct(Lake(tmp_path, PREDICTION_SCHEMA))
    table = to_table([one(1), one(2)], 0, [0, 1])
    assert distinct.keep(table, "predictions.x", 0, 0).num_rows == 2
    assert distinct.keep(table, "predictions.x", 0, 0).num_rows == 2  # nothing was written


def test_a_stream_that_goes_on_does_not_look_into_the_lake(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, *(one(second) for second in range(100)))
    monkeypatch.setattr(Distinct, "_held", lambda *_: pytest.fail("it looked"))
    assert capture(log, tmp_path, rows=7) == 100
    append(log, *(one(second) for second in range(100, 200)))
    assert capture(log, tmp_path, rows=7) == 100
