from __future__ import annotations

import itertools
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volatility.lake import lake as lake_module
from volatility.lake import parts, progress
from volatility.lake.compaction import compact
from volatility.lake.duplicates import duplicated
from volatility.lake.lake import Gap, Lake, LakeError
from volatility.lake.parts import Stage
from volatility.records.columns import to_table
from volatility.records.tick import LAKE_SCHEMA, Heartbeat, Tick
from volatility.units import DAY_NS, SECOND

NOON = 1_775_304_000_000_000_000  # 2026-04-04 12:00
MIDNIGHT = NOON + DAY_NS // 2


def tick(time, symbol="BTC-USD", **fields):
    return Tick(symbol, time, price=1.0, bid=1.0, ask=1.0, **fields)


def table(times, first_offset=0, symbols="BTC-USD", partition=0):
    symbols = [symbols] * len(times) if isinstance(symbols, str) else symbols
    records = [tick(time, symbol) for time, symbol in zip(times, symbols, strict=True)]
    return to_table(records, partition, range(first_offset, first_offset + len(times)))


def offsets(lake, symbol="BTC-USD", **bounds):
    return [n for batch in lake.scan(symbol, ["offset"], **bounds) for n in batch[0].to_pylist()]


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def test_rows_come_back_as_they_were_written(lake):
    records = [
        tick(NOON, bid_size=2.0, side="buy", sequence=7, trade_id=8, received=NOON - 5),
        Heartbeat("BTC-USD", NOON + 1),
    ]
    written = to_table(records, 2, [5, 9])
    paths = lake.write(written, "ticks", 2)
    assert files(lake.root) == ["symbol=BTC-USD/date=2026-04-04/part-ticks-2-5.parquet"]
    assert [path.relative_to(lake.root).as_posix() for path in paths] == files(lake.root)
    (batch,) = lake.scan("BTC-USD")
    assert batch.schema == LAKE_SCHEMA
    assert pa.Table.from_batches([batch]).equals(written)
    assert (lake.symbols(), lake.dates("BTC-USD")) == (["BTC-USD"], ["2026-04-04"])
    assert (lake.rows("BTC-USD"), lake.span("BTC-USD")) == (2, (NOON, NOON + 1))


def test_a_batch_is_split_by_symbol_and_utc_date(lake):
    times = [MIDNIGHT - 1, MIDNIGHT - 1, MIDNIGHT, MIDNIGHT]
    lake.write(table(times, 10, ["A", "B", "B", "A"]), "ticks.2-x", 0)
    assert files(lake.root) == [
        "symbol=A/date=2026-04-04/part-ticks.2-x-0-10.parquet",
        "symbol=A/date=2026-04-05/part-ticks.2-x-0-13.parquet",
        "symbol=B/date=2026-04-04/part-ticks.2-x-0-11.parquet",
        "symbol=B/date=2026-04-05/part-ticks.2-x-0-12.parquet",
    ]
    assert lake.last_offset("ticks.2-x", 0) == 13
    assert lake.last_offset("ticks.2", 0) == lake.last_offset("x", 0) == -1


def test_late_ticks_around_midnight_keep_their_place(lake):
    steps = [-2, 1, -1, 2, 3, -3, 4]
    lake.write(table([MIDNIGHT + step * SECOND for step in steps]), "ticks", 0)
    assert len(lake.parts("BTC-USD")) == 2
    assert offsets(lake) == list(range(7))
    assert offsets(lake, batch_rows=1) == list(range(7))
    assert offsets(lake, start_ns=MIDNIGHT) == [1, 3, 4, 6]
    assert offsets(lake, stop_ns=MIDNIGHT, batch_rows=2) == [0, 2, 5]
    bounds = {"start_ns": MIDNIGHT - 2 * SECOND, "stop_ns": MIDNIGHT + 3 * SECOND}
    assert offsets(lake, **bounds) == [0, 1, 2, 3]


@pytest.mark.slow
@given(st.data())
def test_the_scan_is_arrival_order_however_rows_were_batched(tmp_path_factory, data):
    lake = Lake(tmp_path_factory.mktemp("lake"))
    hours = data.draw(st.lists(st.integers(0, 72), min_size=1, max_size=40))
    symbols = data.draw(st.lists(st.sampled_from("AB"), min_size=len(hours), max_size=len(hours)))
    whole = table([NOON + hour * 3600 * SECOND for hour in hours], 0, symbols)
    cuts = sorted({0, len(hours), *data.draw(st.lists(st.integers(0, len(hours)), max_size=4))})
    for start, stop in itertools.pairwise(cuts):
        lake.write(whole.slice(start, stop - start), "ticks", 0)
        assert lake.last_offset("ticks", 0) == stop - 1
    low, high = NOON + 20 * 3600 * SECOND, NOON + 40 * 3600 * SECOND
    for symbol in set(symbols):
        mine = [i for i, name in enumerate(symbols) if name == symbol]
        assert offsets(lake, symbol, batch_rows=3) == mine
        within = [i for i in mine if 20 <= hours[i] < 40]
        assert offsets(lake, symbol, start_ns=low, stop_ns=high) == within


def test_sources_come_by_their_first_time_and_keep_their_own_order(lake):
    day = DAY_NS
    lake.write(table([NOON + 2 * day], 0), "early", 0)
    lake.write(table([NOON], 7), "early", 0)  # its time lies back, its offset does not
    lake.write(table([NOON + 1 * day], 100), "late", 0)
    lake.write(table([NOON + 3 * day], 10, partition=1), "late", 1)
    assert offsets(lake) == [100, 0, 7, 10]
    assert offsets(lake, start_ns=NOON + 2 * day) == [0, 10]


def test_writing_the_same_again_changes_nothing(lake):
    rows = table([NOON, MIDNIGHT])
    first = lake.write(rows, "ticks", 0)
    before = files(lake.root), lake.digest()
    assert lake.write(rows, "ticks", 0) == first
    assert (files(lake.root), lake.digest()) == before


def test_a_column_that_the_schema_has_gained_reads_as_null_in_older_parts(lake):
    lake.write(table([NOON, NOON + 1, NOON + 2]), "ticks", 0)
    venue = pa.field("venue", pa.string())
    entries = pa.field("levels", pa.list_(pa.struct([pa.field("size", pa.float64())])))
    newer = Lake(lake.root, pa.schema([*LAKE_SCHEMA, venue, entries]))
    written = table([NOON + 3], first_offset=3)
    written = written.append_column(venue, pa.array(["X"]))
    written = written.append_column(entries, pa.array([[{"size": 2.0}]], entries.type))
    newer.write(written, "ticks", 0)
    rows = pa.Table.from_batches(newer.scan("BTC-USD"))
    assert rows.schema == newer.schema
    assert rows.column("venue").to_pylist() == [None, None, None, "X"]
    assert rows.column("levels").to_pylist() == [None, None, None, [{"size": 2.0}]]
    assert rows.column("offset").to_pylist() == [0, 1, 2, 3]
    part = list(newer.scan("BTC-USD", ["venue"], NOON + 1, NOON + 4, batch_rows=1))
    assert [batch.to_pydict() for batch in part] == [
        {"venue": [None]},
        {"venue": [None]},
        {"venue": ["X"]},
    ]


def test_parts_of_before_a_column_are_compacted_with_those_of_after(lake):
    lake.write(table([NOON, NOON + 1]), "ticks", 0)
    venue = pa.field("venue", pa.string())
    newer = Lake(lake.root, pa.schema([*LAKE_SCHEMA, venue]))
    written = table([NOON + 2], first_offset=2).append_column(venue, pa.array(["X"]))
    newer.write(written, "ticks", 0)
    done = compact(newer, older_than_seconds=-1.0, progress=False)
    assert (done.merged, done.became) == (2, 1)
    (batch,) = newer.scan("BTC-USD", ["offset", "venue"])
    assert batch.to_pydict() == {"offset": [0, 1, 2], "venue": [None, None, "X"]}


def test_a_column_that_is_never_null_must_be_in_every_part(lake):
    lake.write(table([NOON]), "ticks", 0)
    newer = Lake(lake.root, pa.schema([*LAKE_SCHEMA, pa.field("venue", pa.string(), False)]))
    with pytest.raises(LakeError, match="has no column venue"):
        list(newer.scan("BTC-USD"))


def test_the_digest_follows_content_and_not_file_times(lake):
    (path,) = lake.write(table([NOON]), "ticks", 0)
    digest = lake.digest()
    os.utime(path, ns=(1, 1))
    assert Lake(lake.root).digest() == digest
    assert lake.digest("BTC-USD") == digest
    lake.write(table([NOON + 1], 1, symbols="A"), "ticks", 0)
    assert lake.digest() != digest
    assert lake.digest("BTC-USD") == digest
    lake.write(table([NOON + 1]), "ticks", 0)
    assert lake.digest("BTC-USD") != digest


def test_a_leftover_of_a_killed_writer_is_ignored_and_cleared(lake, monkeypatch):
    def killed(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(parts._Open, "publish", killed)
    monkeypatch.setattr(Stage, "_discard", killed)
    with pytest.raises(KeyboardInterrupt):
        lake.write(table([NOON]), "ticks", 0)
    assert len(files(lake.root)) == 1
    assert lake.last_offset("ticks", 0) == -1
    with pytest.raises(LakeError, match="is empty"):
        lake.symbols()
    monkeypatch.undo()
    lake.write(table([NOON]), "ticks", 0)
    assert files(lake.root) == ["symbol=BTC-USD/date=2026-04-04/part-ticks-0-0.parquet"]


@pytest.mark.parametrize("survivors", [0, 1, 2, 3])
def test_a_batch_cut_short_between_its_parts_is_not_held(lake, monkeypatch, survivors):
    """Whatever number of renames a crash lets through, writing on restores every row once."""
    times = [MIDNIGHT - 1, MIDNIGHT, MIDNIGHT - 1, MIDNIGHT - 1, MIDNIGHT]
    rows = table(times, 0, ["A", "A", "B", "A", "B"])
    publish = parts._Open.publish
    done: list[object] = []

    def dies(self):
        if len(done) == survivors:
            raise KeyboardInterrupt
        done.append(self)
        publish(self)

    monkeypatch.setattr(parts._Open, "publish", dies)
    with pytest.raises(KeyboardInterrupt):
        lake.write(rows, "ticks", 0)
    monkeypatch.undo()
    assert lake.last_offset("ticks", 0) == -1
    for start in range(0, 5, 2):  # resume in batches of another size
        assert lake.last_offset("ticks", 0) == start - 1
        lake.write(rows.slice(start, 2), "ticks", 0)
    assert offsets(lake, "A") == [0, 1, 3]
    assert offsets(lake, "B") == [2, 4]
    assert lake.rows("A") + lake.rows("B") == 5


def test_an_exception_while_staging_leaves_no_trace(lake):
    def fails():
        with lake.stage("ticks", 0) as stage:
            stage.append(table([NOON]))
            stage.append(table([NOON]))  # the offset does not ascend

    with pytest.raises(ValueError, match="offsets must ascend"):
        fails()
    assert files(lake.root) == []
    assert list(lake.root.glob("*")) == []


def test_a_stage_appends_to_few_open_files(lake, monkeypatch):
    monkeypatch.setattr(parts, "MAX_OPEN_PARTS", 2)
    days = [0, 1, 2, 0, 0, 2]
    with lake.stage("import.x", 0) as stage:
        for offset, day in enumerate(days):
            stage.append(table([NOON + day * DAY_NS], offset))
    assert [path.name for path in stage.paths][-1] == "part-import.x-0-2.parquet"
    assert len(stage.paths) == 4
    assert offsets(lake) == list(range(6))
    assert lake.last_offset("import.x", 0) == 5


def batches(lake, count, days=1):
    """Write one-row batches of a topic, as capture does."""
    for offset in range(count):
        day = offset * days // count
        lake.write(table([NOON + day * DAY_NS], offset), "ticks", 0, through=offset)


def test_where_a_source_continues_is_found_without_reading_its_footers(lake, monkeypatch):
    batches(lake, 12, days=3)
    read: list = []
    monkeypatch.setattr(lake_module, "read_part", read.append)
    assert Lake(lake.root).last_offset("ticks", 0) == 11
    assert read == []


def test_records_without_a_valid_row_advance_their_source(lake):
    lake.write(table([]), "ticks", 0, through=4)
    assert lake.last_offset("ticks", 0) == 4, "also where nothing was valid yet"
    lake.write(table([NOON], 5), "ticks", 0, through=5)
    lake.write(table([]), "ticks", 0, through=9)
    assert Lake(lake.root).last_offset("ticks", 0) == 9
    assert lake.last_offset("ticks", 1) == -1
    assert offsets(lake) == [5]


def test_a_part_deleted_by_hand_is_captured_again(lake):
    batches(lake, 4)
    lake.write(table([]), "ticks", 0, through=7)
    lake._paths()[-1].unlink()
    assert Lake(lake.root).last_offset("ticks", 0) == 2


def test_compaction_loses_no_progress(lake):
    batches(lake, 6)
    lake.write(table([]), "ticks", 0, through=9)
    lake.write(table([NOON + 2 * DAY_NS], 12), "other", 0, through=12)
    compact(lake, older_than_seconds=0.0, progress=False)
    assert Lake(lake.root).last_offset("ticks", 0) == 9
    batches(lake, 11)
    assert Lake(lake.root).last_offset("ticks", 0) == 10


def test_a_part_that_no_note_names_yet_is_not_forgotten_when_it_is_merged(lake, monkeypatch):
    lake.write(table([NOON]), "ticks", 0, through=0)
    lake.write(table([NOON + 1], 1, "ETH-USD"), "ticks", 0, through=1)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(progress, "advance", killed)
        with pytest.raises(KeyboardInterrupt):
            lake.write(table([NOON + 2], 2), "ticks", 0, through=2)
    assert Lake(lake.root).last_offset("ticks", 0) == 2
    compact(Lake(lake.root), older_than_seconds=0.0, progress=False)
    assert len(lake.parts("BTC-USD")) == 1, "it was merged"
    assert Lake(lake.root).last_offset("ticks", 0) == 2


@pytest.mark.parametrize("content", [b"", b"{", b'{"through": "x"}', b"\xff"])
def test_a_damaged_note_is_made_good_by_the_footers(lake, content):
    batches(lake, 3)
    (note,) = (lake.root / "captured").iterdir()
    note.write_bytes(content)
    assert Lake(lake.root).last_offset("ticks", 0) == 2


def test_a_batch_may_hold_its_source_beyond_its_last_row(lake):
    lake.write(table([NOON]), "ticks", 0, through=4)
    assert lake.last_offset("ticks", 0) == 4
    assert lake.write(table([]), "ticks", 0) == []


def test_a_full_disk_is_one_clear_error(lake, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts, "sync", full)
    lake.root.mkdir()
    with pytest.raises(LakeError, match=r"No space left on device.*free some space"):
        lake.write(table([NOON]), "ticks", 0)
    assert files(lake.root) == []


@pytest.mark.parametrize(
    "rows",
    [
        table([NOON, NOON]).take(pa.array([1, 0])),
        table([NOON]).drop_columns(["bid"]),
        table([NOON], symbols="../up"),
        table([NOON], partition=1),
    ],
)
def test_a_table_that_breaks_a_rule_is_refused(lake, rows):
    with pytest.raises((ValueError, KeyError)):
        lake.write(rows, "ticks", 0)
    assert not lake.root.exists() or files(lake.root) == []


@pytest.mark.parametrize(("topic", "partition"), [("../x", 0), ("", 0), ("ticks", -1)])
def test_a_source_that_cannot_name_a_part_is_refused(lake, topic, partition):
    with pytest.raises(ValueError, match="topic partition"):
        lake.write(table([NOON]), topic, partition)


def test_an_empty_lake_says_how_to_fill_it(lake):
    for ask in (lake.symbols, lake.digest, lambda: lake.scan("A"), lambda: lake.dates("A")):
        with pytest.raises(LakeError, match="does not exist; fill it by `volatility simulate`"):
            ask()
    assert lake.gaps() == []
    lake.write(table([NOON]), "ticks", 0)
    with pytest.raises(LakeError, match="no symbol ETH-USD; it has BTC-USD"):
        lake.scan("ETH-USD")
    with pytest.raises(ValueError, match="no column colour"):
        lake.scan("BTC-USD", ["colour"])


def corrupt_end(path):
    path.write_bytes(path.read_bytes()[:-20])


def corrupt_page(path):
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = b"\xaa" * (len(content) // 2 - 4)
    path.write_bytes(content)


def foreign(path):
    pq.write_table(pa.table({"a": [1]}), path)


def no_rows(path):
    pq.write_table(LAKE_SCHEMA.empty_table(), path)


@pytest.mark.parametrize("damage", [corrupt_end, corrupt_page, foreign, no_rows])
def test_a_broken_part_is_named_with_what_to_do(lake, damage):
    rng = np.random.default_rng(1)
    times = (NOON + np.sort(rng.integers(0, 3600 * SECOND, 1000))).tolist()
    (path,) = lake.write(table(times), "ticks", 0)
    damage(path)
    with pytest.raises(LakeError, match=r"part-ticks-0-0\.parquet is truncated.*delete it"):
        list(lake.scan("BTC-USD"))


def test_a_part_that_goes_while_it_is_read_is_named(lake):
    (path,) = lake.write(table([NOON]), "ticks", 0)
    batches = lake.scan("BTC-USD")
    path.unlink()
    with pytest.raises(LakeError, match="was deleted"):
        list(batches)


def test_other_files_in_the_lake_are_no_parts(lake):
    (path,) = lake.write(table([NOON]), "ticks", 0)
    for name in ("part-x.parquet", ".part-ticks-0-9.parquet.ab.tmp", "notes.txt"):
        (path.parent / name).write_text("?")
    assert lake.parts("BTC-USD") == [path]
    assert lake.last_offset("ticks", 0) == 0


def test_the_same_message_twice_is_one_row():
    rows = [
        tick(NOON, trade_id=1, sequence=1),
        tick(NOON, trade_id=1, sequence=2),  # the trade is the same
        tick(NOON, "ETH-USD", trade_id=1),
        tick(NOON, sequence=1),  # an absent trade id is no trade id
        tick(NOON + 1, trade_id=1),
        tick(NOON, sequence=1),
        tick(NOON),
        tick(NOON),  # neither: two messages may say the same
        Heartbeat("BTC-USD", NOON),
        Heartbeat("BTC-USD", NOON),
        tick(NOON, trade_id=0),
        tick(NOON, sequence=0),
    ]
    found = duplicated(to_table(rows, 0, range(len(rows))))
    assert np.flatnonzero(~found).tolist() == [0, 2, 3, 4, 6, 7, 8, 9, 10, 11]


@given(
    st.lists(
        st.tuples(
            st.sampled_from("AB"),
            st.integers(0, 3),
            st.none() | st.integers(0, 2),
            st.none() | st.integers(0, 2),
        ),
        max_size=30,
    )
)
def test_duplicates_are_those_that_a_set_of_keys_finds(rows):
    records = [tick(NOON + t, s, trade_id=i, sequence=q) for s, t, i, q in rows]
    kept, seen = [], set()
    for offset, (symbol, time, trade, sequence) in enumerate(rows):
        key = (symbol, time, trade is not None, sequence if trade is None else trade)
        if key[3] is None or key not in seen:
            kept.append(offset)
        seen.add(key)
    found = duplicated(to_table(records, 0, range(len(rows))))
    assert np.flatnonzero(~found).tolist() == kept


def test_no_scan_returns_a_voided_record_and_the_part_keeps_it(lake):
    lake.write(table([NOON, NOON + 1, NOON + 2]), "ticks", 0)
    before = [path.read_bytes() for path in lake.parts("BTC-USD")]
    assert lake.void("BTC-USD", NOON + 1, NOON + 2, "fat finger") == 1
    assert offsets(lake) == [0, 2]
    assert offsets(lake, start_ns=NOON + 1) == [2]
    assert [path.read_bytes() for path in lake.parts("BTC-USD")] == before
    assert lake.last_offset("ticks", 0) == 2
    assert lake.gaps() == [Gap("BTC-USD", NOON + 1, NOON + 2, "void", {"why": "fat finger"})]


def test_a_voided_stretch_stays_void_when_parts_are_merged(lake):
    for first in range(0, 12, 4):
        lake.write(table([NOON + n for n in range(first, first + 4)], first), "ticks", 0)
    lake.write(table([NOON + 5], symbols="ETH-USD", partition=1), "ticks", 1)
    assert lake.void("BTC-USD", NOON + 3, NOON + 9, "bad feed") == 6
    compact(lake, older_than_seconds=0.0, progress=False)
    assert len(lake.parts("BTC-USD")) == 1
    assert lake.rows("BTC-USD") == 12  # stored
    assert offsets(lake) == [0, 1, 2, 9, 10, 11]
    assert offsets(lake, "ETH-USD") == [0]


@pytest.mark.parametrize(
    ("symbol", "start", "stop", "message"),
    [
        ("BTC-USD", NOON + 9, NOON + 10, "no row of BTC-USD"),
        ("BTC-USD", NOON + 1, NOON + 1, "period to void is empty"),
        ("XRP-USD", NOON, NOON + 1, "no symbol XRP-USD"),
    ],
)
def test_a_void_that_would_change_nothing_is_an_error(lake, symbol, start, stop, message):
    lake.write(table([NOON]), "ticks", 0)
    with pytest.raises((LakeError, ValueError), match=message):
        lake.void(symbol, start, stop, "typo")
    assert lake.gaps() == []
