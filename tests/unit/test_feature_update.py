from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.streams import START, random_records, seeds
from volatility.features import update as feature_update
from volatility.features.engine import build_features
from volatility.features.files import FeatureFrame, FeaturesError, read_features
from volatility.features.update import MANIFEST, update_features
from volatility.lake.compaction import compact
from volatility.lake.lake import Lake
from volatility.records.columns import to_table
from volatility.records.tick import Record
from volatility.settings import Features
from volatility.units import DAY_NS, SECOND

SYMBOLS = ("BTC-USD", "ETH-USD")
MIDNIGHT = -(-START // DAY_NS) * DAY_NS


def market(seed: int, seconds: int = 5000, before_midnight: int = 3000) -> list[Record]:
    """Draw the streams of two symbols, in the order of their times but for the late ones."""
    both = []
    for place, symbol in enumerate(SYMBOLS):
        shift = MIDNIGHT - before_midnight * SECOND - START
        for number, record in enumerate(random_records(seed + place, seconds)):
            moved = msgspec.structs.replace(record, symbol=symbol, time=record.time + shift)
            both.append((number, place, moved))
    return [record for _, _, record in sorted(both, key=lambda entry: entry[:2])]


def write(lake: Lake, records: list[Record], first: int, topic: str = "ticks.a") -> None:
    if records:
        lake.write(to_table(records, 0, range(first, first + len(records))), topic, 0)


def same(frames: list[FeatureFrame], expected: list[FeatureFrame]) -> bool:
    return [(f.symbol, f.time.tobytes(), f.rows.tobytes()) for f in frames] == [
        (f.symbol, f.time.tobytes(), f.rows.tobytes()) for f in expected
    ]


def layout(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.name != MANIFEST}


def update(lake: Lake, folder: Path, rules: Features | None = None) -> dict[str, int]:
    """Update, and hold the folder against one that is built from scratch."""
    rules = rules or Features()
    found = update_features(lake, folder, rules, progress=False)
    with TemporaryDirectory() as scratch:
        build_features(lake, Path(scratch) / "f", rules, progress=False)
        expected = read_features(Path(scratch) / "f")
        assert layout(folder) == layout(Path(scratch) / "f")
    assert same(read_features(folder), expected)
    assert found["rows"] == sum(len(frame.time) for frame in expected)
    return found


def rows(folder: Path) -> int:
    return sum(len(frame.time) for frame in read_features(folder))


actions = st.lists(
    st.sampled_from(["nothing", "compact", "older", "drop", "rules", "damage"]), max_size=3
)


@pytest.mark.slow
@settings(max_examples=20)
@given(seed=seeds, cuts=st.lists(st.floats(0.02, 1), min_size=1, max_size=4), between=actions)
def test_however_the_ticks_come_the_rows_are_those_of_one_build(
    seed: int, cuts: list[float], between: list[str]
) -> None:
    with TemporaryDirectory() as scratch:
        lake, folder, rules = Lake(Path(scratch) / "ticks"), Path(scratch) / "features", Features()
        records = market(seed)
        edges = sorted({0, *(int(cut * len(records)) for cut in cuts), len(records)})
        todo = list(between)
        for first, last in pairwise(edges):
            write(lake, records[first:last], first)
            if lake.rows(SYMBOLS[0]) < 100:
                continue
            update(lake, folder, rules)
            rules = disturb(todo.pop(), lake, folder, records[first:last], rules) if todo else rules
        assert update(lake, folder, rules)["rows"] > 100
        assert update(lake, folder, rules)["new"] == 0
        assert {path.name for path in Path(scratch).iterdir()} == {"ticks", "features"}


def disturb(
    what: str, lake: Lake, folder: Path, records: list[Record], rules: Features
) -> Features:
    if what == "compact":
        compact(lake, older_than_seconds=0.0, progress=False)
    elif what == "older":  # of a source that the scan reads before, amid or after the others
        write(lake, records[:: len(records) // 50 + 1], 0, "other.b")
    elif what == "drop":
        parts = lake.parts(SYMBOLS[1])
        if len(parts) > 1:
            parts[-1].unlink()
    elif what == "rules":
        return msgspec.structs.replace(rules, gap_seconds=rules.gap_seconds + 5)
    elif what == "damage":
        file = min(folder.rglob("features.parquet"))
        file.write_bytes(file.read_bytes()[:-100])
    return rules


@pytest.fixture
def place(tmp_path: Path) -> tuple[Lake, Path, list[Record]]:
    """Return a lake with an hour on each side of midnight, in small parts, and its rows."""
    lake, folder = Lake(tmp_path / "ticks"), tmp_path / "features"
    records = market(5, 7200, 3600)
    for first in range(0, len(records), 2000):
        write(lake, records[first : first + 2000], first)
    update(lake, folder)
    return lake, folder, records


def again(records: list[Record], seconds: int) -> list[Record]:
    """Go on behind the records, with a copy of the first of them."""
    shift = max(r.time for r in records) - records[0].time + SECOND
    stop = records[0].time + seconds * SECOND
    return [
        msgspec.structs.replace(r, time=r.time + shift)
        for r in records
        if r.time < stop and getattr(r, "trade_id", None) is None
    ]


def test_only_the_new_ticks_and_the_memory_are_read(place, monkeypatch) -> None:
    lake, folder, records = place
    before = rows(folder)
    starts: list[int] = []
    scan = Lake.scan

    def noted(self: Lake, symbol: str, columns: object, start_ns: int) -> Iterator:
        starts.append(start_ns)
        return scan(self, symbol, columns, start_ns)  # type: ignore[arg-type]

    more = again(records, 600)
    write(lake, more, len(records))
    monkeypatch.setattr(Lake, "scan", noted)
    found = update_features(lake, folder, Features(), progress=False)
    monkeypatch.undo()
    assert 0 < found["new"] == rows(folder) - before
    assert min(starts) >= max(r.time for r in records) - 1802 * SECOND - 3600 * SECOND
    assert len(starts) == 2
    assert update(lake, folder)["new"] == 0


def test_merged_parts_are_the_same_ticks(tmp_path: Path) -> None:
    lake, folder = Lake(tmp_path / "ticks"), tmp_path / "features"
    records = sorted(market(5), key=lambda record: record.time)  # no late one at midnight
    for first in range(0, len(records), 2000):
        write(lake, records[first : first + 2000], first)
    update(lake, folder)
    manifest = (folder / MANIFEST).read_bytes()
    assert compact(lake, older_than_seconds=0.0, progress=False).merged > 4
    assert update(lake, folder)["new"] == 0
    assert (folder / MANIFEST).read_bytes() == manifest


@pytest.mark.slow
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_features_of_a_voided_period_are_those_without_its_ticks(
    tmp_path: Path, symbol: str
) -> None:
    lake, folder, without = (tmp_path / name for name in ("ticks", "features", "without"))
    records = market(7)
    start, stop = MIDNIGHT - 900 * SECOND, MIDNIGHT + 600 * SECOND
    write(Lake(lake), records, 0)
    update(Lake(lake), folder)
    before = read_features(folder)
    Lake(lake).void(symbol, start, stop, "bad feed")
    update(Lake(lake), folder)
    kept = [r for r in records if r.symbol != symbol or not start <= r.time < stop]
    write(Lake(without), kept, 0)
    build_features(Lake(without), tmp_path / "expected", Features(), progress=False)
    assert same(read_features(folder), read_features(tmp_path / "expected"))
    assert not same(read_features(folder), before)
    assert update(Lake(lake), folder)["new"] == 0


def test_what_was_filled_in_below_is_built_again_from_its_day_on(tmp_path: Path) -> None:
    lake, folder = Lake(tmp_path / "ticks"), tmp_path / "features"
    records = [r for r in market(5, 4000, 2000) if r.symbol == SYMBOLS[0]]
    old = [r for r in records if r.time < MIDNIGHT]
    young = [r for r in records if r.time > MIDNIGHT + SECOND]
    write(lake, old, 0)
    missing = slice(len(young) // 2, len(young) // 2 + 200)
    write(lake, young[: missing.start], len(old))
    write(lake, young[missing.stop :], len(old) + missing.stop)
    before = update(lake, folder)["rows"]
    write(lake, young[missing], 0, "filled.b")
    found = update(lake, folder)
    assert before < found["rows"]
    assert 0 < found["new"] < found["rows"]
    write(lake, [msgspec.structs.replace(r, time=r.time - DAY_NS) for r in old], 0, "oldest.c")
    assert update(lake, folder)["new"] > before


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / MANIFEST).unlink(),
        lambda folder: (folder / MANIFEST).write_text("{"),
        lambda folder: shutil.rmtree(next(folder.glob("symbol=*/date=*"))),
        lambda folder: next(folder.rglob("features.parquet")).write_bytes(b"PAR1"),
        lambda folder: shutil.copytree(next(folder.glob("symbol=*")), folder / "symbol=GONE-USD"),
        shutil.rmtree,
    ],
)
def test_a_folder_that_was_tampered_with_is_put_right(place, spoil: Callable) -> None:
    lake, folder, _ = place
    spoil(folder)
    update(lake, folder)


def test_other_rules_are_other_features(place, monkeypatch) -> None:
    lake, folder, _ = place
    every = rows(folder)
    assert update(lake, folder, Features(min_coverage=0.5))["new"] == every
    monkeypatch.setattr(feature_update, "table_digest", lambda: "another")
    assert update(lake, folder, Features(min_coverage=0.5))["new"] == every
    monkeypatch.setattr(feature_update, "KERNEL", ("kernel",))
    assert update(lake, folder, Features(min_coverage=0.5))["new"] == every


def test_a_lake_that_closes_no_step_leaves_the_rows_of_before(place, tmp_path: Path) -> None:
    _, folder, records = place
    before = read_features(folder)
    other = Lake(tmp_path / "other")
    write(other, records[:1], 0)
    with pytest.raises(FeaturesError, match="more than one second"):
        update_features(other, folder, Features(), progress=False)
    assert same(read_features(folder), before)


class Killed(BaseException):
    """End the process: nothing that would come after is done, not even tidying up."""


def killing(patch: pytest.MonkeyPatch, steps: int) -> None:
    left = iter(range(steps))

    def guard(function: Callable) -> Callable:
        def call(*arguments: object, **options: object) -> object:
            if next(left, None) is None:
                raise Killed
            return function(*arguments, **options)

        return call

    for module, name in (
        (os, "replace"), (shutil, "rmtree"), (Path, "replace"), (Path, "mkdir"),
        (pq.ParquetWriter, "write_batch"),
    ):  # fmt: skip
        patch.setattr(module, name, guard(getattr(module, name)))


@pytest.mark.slow
@pytest.mark.parametrize("change", ["newer", "older", "rules"])
def test_a_run_killed_between_any_two_steps_is_put_right_by_the_next(place, change: str) -> None:
    lake, folder, records = place
    rules = Features(gap_seconds=20) if change == "rules" else Features()
    if change == "newer":
        write(lake, again(records, 300), len(records))
    if change == "older":
        hour = [r for r in records if r.time > MIDNIGHT + 1800 * SECOND]
        write(lake, hour[:300], 0, "older")
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    for steps in range(200):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept, folder)
        with pytest.MonkeyPatch.context() as patch:
            killing(patch, steps)
            try:
                update_features(lake, folder, rules, progress=False)
            except Killed:
                pass
            else:
                break
        if folder.exists():  # whoever reads now gets whole files
            assert np.isfinite(read_features(folder)[0].time).all()
        update(lake, folder, rules)
    assert steps > 8
    assert {path.name for path in folder.parent.iterdir()} == {"ticks", "features", "kept"}
