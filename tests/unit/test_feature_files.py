from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.streams import START, to_batch
from volatility.features.engine import FeatureEngine, FeaturesError, build_features, read_features
from volatility.lake.lake import Lake, LakeError
from volatility.records.tick import Record, Tick
from volatility.settings import Features
from volatility.units import SECOND

SYMBOL = "BTC-USD"


def walk(first: int, last: int) -> list[Record]:
    """One tick in the middle of each second ``first..last``."""
    random = np.random.default_rng(0)
    prices = 100.0 * np.exp(np.cumsum(random.normal(0.0, 3e-5, last - first + 1)))
    return [
        Tick(SYMBOL, START + s * SECOND - SECOND // 2, price=p, bid=p * 0.9999, ask=p * 1.0001)
        for s, p in enumerate(prices.tolist(), first)
    ]


def lake(folder, records: list[Record]) -> Lake:
    lake = Lake(folder / "ticks")
    lake.write(pa.Table.from_batches([to_batch(records)]), "test", 0)
    return lake


def contents(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_build_features_writes_a_file_a_day_and_reads_back_the_same_rows(tmp_path) -> None:
    midnight = -(-START // (86_400 * SECOND)) * 86_400
    shift = midnight * SECOND - START - 700 * SECOND
    records = [msgspec.structs.replace(r, time=r.time + shift) for r in walk(1, 1400)]
    built = build_features(lake(tmp_path, records), tmp_path / "features", Features())
    (frame,) = read_features(tmp_path / "features")
    engine = FeatureEngine()
    rows = [row for record in records for row in engine.update(record)]
    assert built == {"rows": len(rows), "late": 0, "duplicates": 0}
    assert frame.time.tolist() == [row.time for row in rows]
    assert frame.rows.tobytes() == np.array([row.values for row in rows]).tobytes()
    assert len(list((tmp_path / "features").rglob("features.parquet"))) == 2


class Broken:
    """A lake whose disk fails in the middle."""

    def symbols(self) -> list[str]:
        return [SYMBOL, "ETH-USD"]

    def scan(self, symbol: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        yield to_batch(walk(1, 1000)).select(columns)
        if symbol == "ETH-USD":
            raise OSError("the disk is gone")


def test_a_failed_build_leaves_what_was_there_and_nothing_else(tmp_path) -> None:
    build_features(lake(tmp_path, walk(1, 500)), tmp_path / "features", Features())
    before = contents(tmp_path)
    with pytest.raises(OSError, match="the disk is gone"):
        build_features(Broken(), tmp_path / "features", Features())
    assert contents(tmp_path) == before
    newer = lake(tmp_path / "newer", walk(600, 900))
    build_features(newer, tmp_path / "features", Features())
    assert len(read_features(tmp_path / "features")[0].time) == 300
    assert {path.name for path in tmp_path.iterdir()} == {"features", "newer", "ticks"}


def test_an_empty_lake_is_refused_and_the_old_features_stay(tmp_path) -> None:
    build_features(lake(tmp_path, walk(1, 500)), tmp_path / "features", Features())
    before = contents(tmp_path / "features")
    with pytest.raises(LakeError):
        build_features(Lake(tmp_path / "none"), tmp_path / "features", Features())
    with pytest.raises(FeaturesError, match="more than one second"):
        build_features(lake(tmp_path / "short", walk(1, 1)), tmp_path / "features", Features())
    assert contents(tmp_path / "features") == before
    assert not (tmp_path / "features.building").exists()


def test_unusable_features_are_refused_in_one_line(tmp_path) -> None:
    with pytest.raises(FeaturesError, match="no features; run `volatility features`"):
        read_features(tmp_path)
    folder = tmp_path / "features"
    build_features(lake(tmp_path, walk(1, 500)), folder, Features())
    (file,) = folder.rglob("features.parquet")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FeaturesError, match="volatility features") as error:
        read_features(folder)
    assert "\n" not in str(error.value)
    pq.write_table(pa.table({"time": pa.array([1], pa.int64()), "midprice": [1.0]}), file)
    with pytest.raises(FeaturesError, match="feature table"):
        read_features(folder)
