from __future__ import annotations

import itertools
import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from volatility.files import sync
from volatility.lake import compaction, parts
from volatility.lake.compaction import Compaction, compact
from volatility.lake.lake import Lake, LakeError
from volatility.records.columns import to_table
from volatility.records.tick import Heartbeat, Tick
from volatility.units import DAY_NS, SECOND

NOON = 1_775_304_000_000_000_000  # 2026-04-04 12:00
HOUR = 3600 * SECOND


def table(times, first_offset=0, symbols="A", partition=0):
    symbols = [symbols] * len(times) if isinstance(symbols, str) else symbols
    offsets = range(first_offset, first_offset + len(times))
    records = [
        Tick(symbol, at, 1.0 + offset, 1.0, 1.0) if offset % 5 else Heartbeat(symbol, at)
        for symbol, at, offset in zip(symbols, times, offsets, strict=True)
    ]
    return to_table(records, partition, offsets)


def rows(lake, **bounds):
    return {
        symbol: pa.Table.from_batches(lake.scan(symbol, **bounds), lake.schema).to_pylist()
        for symbol in lake.symbols()
    }


def compacted(lake, **options):
    return compact(lake, **{"older_than_seconds": 0.0, "progress": False} | options)


class KilledError(BaseException):
    """End a process as a signal does: nothing that would clean up works any more."""


@contextmanager
def killed_after(steps):
    """Allow this many disk operations and no more; yield the number attempted."""
    taken = [0]

    def counted(real):
        def step(*arguments, **options):
            taken[0] += 1
            if taken[0] > steps:
                raise KilledError
            return real(*arguments, **options)

        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", counted(Path.replace))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        patch.setattr(parts, "sync", counted(sync))
        patch.setattr(parts._Open, "close", counted(parts._Open.close))
        yield taken


@pytest.fixture(autouse=True, scope="module")
def without_waiting_for_the_disk():
    """No test here cuts the power, and there are thousands of writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "sync", lambda _: None)
        yield


@pytest.fixture
def lake(tmp_path):
    """Ten small parts of one symbol and date, and one of the next date."""
    lake = Lake(tmp_path / "lake")
    for n in range(10):
        lake.write(table([NOON + n * SECOND, NOON + n * SECOND], 2 * n), "ticks", 0)
    lake.write(table([NOON + DAY_NS], 20), "ticks", 0, through=29)
    return lake


@st.composite
def lakes(draw):
    """Batches of some sources: late ticks around midnight, two symbols, sources that interleave."""
    batches = []
    for source in range(draw(st.integers(1, 3))):
        hours = draw(st.lists(st.integers(0, 30), min_size=1, max_size=24))
        symbols = draw(st.lists(st.sampled_from("AB"), min_size=len(hours), max_size=len(hours)))
        first = draw(st.integers(0, 9))
        whole = table([NOON + hour * HOUR for hour in hours], first, symbols)
        cuts = draw(st.sets(st.integers(1, len(hours))))
        edges = [0, *sorted(cuts), len(hours)]
        batches += [
            (f"ticks.{source}", whole.slice(start, stop - start), first + stop - 1)
            for start, stop in itertools.pairwise(edges)
            if stop > start
        ]
    return draw(st.permutations(batches)) if draw(st.booleans()) else batches


def write(folder, batches):
    lake = Lake(folder)
    for topic, batch, last in batches:
        # Capture says how far it has read, beyond rejected records; an import does not.
        through = None if topic == "ticks.1" else last + 2 if last % 3 == 0 else last
        lake.write(batch, topic, 0, through)
    return lake


def held(lake):
    return [lake.last_offset(f"ticks.{source}", 0) for source in range(3)]


BOUNDS = {"start_ns": NOON + 9 * HOUR, "stop_ns": NOON + 15 * HOUR}


@pytest.mark.slow
@given(lakes(), st.sampled_from([3, 8, 1000]))
def test_a_scan_gives_the_same_after_compaction(tmp_path_factory, batches, target_rows):
    lake = write(tmp_path_factory.mktemp("lake"), batches)
    before = rows(lake), rows(lake, **BOUNDS), held(lake)
    number = sum(len(lake.parts(symbol)) for symbol in lake.symbols())
    done = compacted(lake, target_rows=target_rows)
    fresh = Lake(lake.root)
    assert (rows(fresh), rows(fresh, **BOUNDS), held(fresh)) == before
    assert (rows(lake), rows(lake, **BOUNDS), held(lake)) == before
    left = sum(len(lake.parts(symbol)) for symbol in lake.symbols())
    assert left == number - done.merged + done.became
    assert sum(lake.rows(symbol) for symbol in lake.symbols()) == sum(map(len, before[0].values()))
    if len({topic for topic, *_ in batches}) == 1:
        assert compacted(lake, target_rows=target_rows) == Compaction(0, 0)


@pytest.mark.slow
@hypothesis_settings(max_examples=20)
@given(lakes(), st.sampled_from([6, 1000]))
def test_a_kill_at_any_instant_loses_and_doubles_nothing(tmp_path_factory, batches, target_rows):
    steps, ended = 0, False
    while not ended:
        lake = write(tmp_path_factory.mktemp("lake"), batches)
        before = rows(lake), rows(lake, **BOUNDS), held(lake)
        try:
            with killed_after(steps):
                compacted(lake, target_rows=target_rows)
            ended = True
        except KilledError:
            steps += 1
        fresh = Lake(lake.root)
        assert (rows(fresh), rows(fresh, **BOUNDS), held(fresh)) == before
        compacted(fresh, target_rows=target_rows)
        assert (rows(fresh), rows(fresh, **BOUNDS), held(fresh)) == before
        assert sum(map(fresh.rows, fresh.symbols())) == sum(map(len, before[0].values()))


def test_the_steps_of_a_kill_reach_from_the_first_to_the_last(lake):
    with killed_after(1000) as taken:
        compacted(lake)
    assert taken[0] >= 1 + 1 + 1 + 9  # the file, its rename, the folder, the small parts


def test_small_parts_become_one_a_date(lake):
    before = rows(lake), lake.last_offset("ticks", 0)
    assert compacted(lake) == Compaction(10, 1)
    names = [path.name for path in lake.parts("A")]
    assert names == ["part-ticks-0-0.parquet", "part-ticks-0-20.parquet"]
    assert (rows(lake), lake.last_offset("ticks", 0)) == before == (before[0], 29)
    assert parts.read_part(lake.parts("A")[0]).through == 19


def test_a_merged_part_holds_its_source_as_far_as_its_parts_did(tmp_path):
    lake = Lake(tmp_path)
    lake.write(table([NOON]), "ticks", 0)
    lake.write(table([NOON], 1), "ticks", 0, through=9)
    assert compacted(lake) == Compaction(2, 1)
    assert lake.last_offset("ticks", 0) == 9


def test_a_part_is_not_made_bigger_than_asked(lake):
    assert compacted(lake, target_rows=6) == Compaction(9, 3)
    assert [parts.read_part(path).rows for path in lake.parts("A")] == [6, 6, 6, 2, 1]


def test_young_parts_stay_as_they_are(lake):
    young = lake.parts("A")[4]
    for path in lake.parts("A"):
        past = time.time() - 7200
        os.utime(path, (past, past))
    os.utime(young)
    identity = young.stat()
    before = rows(lake)
    assert compacted(lake, older_than_seconds=3600) == Compaction(9, 2)
    assert young.stat() == identity
    assert rows(lake) == before
    assert compact(lake, progress=False) == Compaction(0, 0)  # all others are young now


def test_the_rest_of_a_batch_cut_short_is_left_to_capture(tmp_path, monkeypatch):
    lake = Lake(tmp_path)
    lake.write(table([NOON]), "ticks", 0)
    batch = table([NOON, NOON + DAY_NS], 1)
    publish = parts._Open.publish
    done: list[object] = []

    def dies(self):
        if done:
            raise KilledError
        done.append(self)
        publish(self)

    monkeypatch.setattr(parts._Open, "publish", dies)
    with pytest.raises(KilledError):
        lake.write(batch, "ticks", 0)
    monkeypatch.undo()
    assert compacted(lake) == Compaction(0, 0)
    assert lake.last_offset("ticks", 0) == 0
    lake.write(batch, "ticks", 0)
    assert compacted(lake) == Compaction(2, 1)
    assert [row["offset"] for row in rows(lake)["A"]] == [0, 1, 2]


def test_a_merger_that_would_move_rows_of_another_source_is_left_out(tmp_path):
    lake = Lake(tmp_path)
    lake.write(table([NOON, NOON + 1], 0), "x", 0)
    lake.write(table([NOON + 10], 2), "x", 0)
    lake.write(table([NOON + 5], 0), "y", 0)
    lake.write(table([NOON + 20], 3), "x", 0)
    before = rows(lake)
    assert compacted(lake) == Compaction(2, 1)  # the parts at 10 and 20
    assert rows(lake) == before


def test_a_scan_that_is_under_way_goes_on(lake):
    before = rows(lake)["A"]
    for read_first in range(len(lake.parts("A"))):
        copy = Lake(lake.root.parent / f"copy{read_first}")
        for path in lake.parts("A"):
            target = copy.root / path.relative_to(lake.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        scan = copy.scan("A")
        batches = [next(scan) for _ in range(read_first)]
        assert compacted(copy).merged
        assert pa.Table.from_batches([*batches, *scan]).to_pylist() == before


@pytest.mark.slow
def test_readers_and_capture_notice_nothing(tmp_path):
    """One thread captures, one compacts without pause; what is read is always all there is."""
    lake = Lake(tmp_path)
    number, ended, failures = 400, threading.Event(), []
    lake.write(table([NOON], 0), "ticks", 0)

    def keep_compacting():
        try:
            while not ended.is_set():
                compacted(Lake(tmp_path), target_rows=100)
        except LakeError as error:
            failures.append(error)

    compactor = threading.Thread(target=keep_compacting)
    compactor.start()
    try:
        for offset in range(1, number):
            if offset % 10 == 0:
                reader = Lake(tmp_path)
                seen = [n for b in reader.scan("A", ["offset"]) for n in b["offset"].to_pylist()]
                assert seen == list(range(offset))
                assert reader.last_offset("ticks", 0) == offset - 1
            lake.write(table([NOON + offset * SECOND], offset), "ticks", 0)
    finally:
        ended.set()
        compactor.join()
    assert not failures
    compacted(lake, target_rows=100)
    assert len(lake.parts("A")) <= 8


def test_a_part_that_was_replaced_meanwhile_is_not_deleted(lake, monkeypatch):
    victim = lake.parts("A")[3]
    gathered = compaction._gathered

    def slow(batches):
        yield from gathered(batches)
        content = victim.read_bytes()
        victim.unlink()
        victim.write_bytes(content)

    before = rows(lake)
    monkeypatch.setattr(compaction, "_gathered", slow)
    compacted(lake)
    assert victim.exists()
    assert rows(lake) == before
    monkeypatch.undo()
    compacted(lake)
    assert not victim.exists()
    assert rows(lake) == before


def test_two_compactions_of_one_symbol_keep_apart(lake, monkeypatch):
    monkeypatch.setattr(compaction, "_plan", lambda *_: compacted(lake))
    with pytest.raises(LakeError, match="already being compacted"):
        compacted(lake)


def test_a_full_disk_leaves_the_lake_as_it_was(lake, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    before, names = rows(lake), lake.parts("A")
    monkeypatch.setattr(parts, "sync", full)
    with pytest.raises(LakeError, match=r"No space left on device.*free some space"):
        compacted(lake)
    monkeypatch.undo()
    assert (rows(lake), lake.parts("A")) == (before, names)
    assert not [path for path in lake.root.rglob(".*") if path.is_file()]


def test_many_small_batches_become_few_row_groups(lake):
    compacted(lake)
    assert pq.read_metadata(lake.parts("A")[0]).num_row_groups == 1


def test_an_empty_lake_is_one_clear_error(tmp_path):
    with pytest.raises(LakeError, match="is empty"):
        compacted(Lake(tmp_path))
