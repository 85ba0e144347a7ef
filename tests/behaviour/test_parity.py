"""DESIGN 6.1: live, batch and replay give the same bits."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bundles import small_bundle
from tests.streams import random_records, seeds, to_batch
from volatility.features.engine import FeatureEngine, build_features, feature_batches, read_features
from volatility.lake.importing import import_files
from volatility.lake.lake import Lake
from volatility.records.columns import to_records
from volatility.records.tick import Record, decode, encode
from volatility.settings import Features


def live(records: list[Record]) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    engine = FeatureEngine()
    rows = [row for record in records for row in engine.update(record)]
    times = np.array([row.time for row in rows], dtype=np.int64)
    counts = engine.counts(records[0].symbol)
    return times, np.array([row.values for row in rows]), counts


def batch(batches: list[pa.RecordBatch]) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    counts: dict[str, int] = {}
    parts = [(t.copy(), r.copy()) for t, r in feature_batches(batches, Features(), counts)]
    return np.concatenate([t for t, _ in parts]), np.concatenate([r for _, r in parts]), counts


def assert_same_bits(first: np.ndarray, second: np.ndarray) -> None:
    assert first.shape == second.shape
    assert np.array_equal(first.view(np.int64), second.view(np.int64))


@settings(max_examples=25, deadline=None)
@given(seed=seeds, cuts=st.lists(st.floats(0, 1), max_size=6))
def test_live_equals_batch_however_it_is_cut(seed: int, cuts: list[float]) -> None:
    records = [decode(encode(record)) for record in random_records(seed, 3000)]
    whole = to_batch(records)
    edges = sorted({0, len(whole), *(int(cut * len(whole)) for cut in cuts)})
    pieces = [whole.slice(a, b - a) for a, b in pairwise(edges)]

    live_times, live_rows, live_counts = live(records)
    times, rows, counts = batch(pieces)

    assert np.array_equal(live_times, times)
    assert_same_bits(live_rows, rows)
    assert live_counts == counts
    assert len(rows) > 50
    assert live_counts["late"] > 0


def test_recordings_live_equals_lake_rows_and_scores(recordings: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "ticks")
    import_files([recordings / "ticks"], lake, progress=False)
    build_features(lake, tmp_path / "features", Features(), progress=False)
    bundle = small_bundle()
    for frame in read_features(tmp_path / "features"):
        records = [r for part in lake.scan(frame.symbol) for r in to_records(part)]
        times, rows, _ = live(records)
        assert np.array_equal(times, frame.time)
        assert_same_bits(rows, frame.rows)
        place = np.zeros(len(rows), dtype=np.int64)
        one_by_one = np.array([bundle.score(row[None], place[:1])[0] for row in rows[:2000]])
        assert_same_bits(one_by_one, bundle.score(frame.rows, place)[:2000])
