from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import suppress
from itertools import count, islice
from pathlib import Path

import pyarrow as pa
import pytest

from tests.chaos import market
from tests.chaos.checks import check_lake, read_all
from tests.short_log import ShortLog
from tests.waiting import PATIENCE_SECONDS, until
from volatility.lake import parts
from volatility.lake.lake import Lake, LakeError
from volatility.records.tick import encode
from volatility.streaming import capture as module
from volatility.streaming import metrics
from volatility.streaming.capture import Capture, Rotation, capture_topic
from volatility.streaming.decoding import decode_ticks
from volatility.streaming.history import RewrittenError
from volatility.streaming.log.interface import (
    DEAD_LETTER,
    LARGEST_RECORD,
    TICKS,
    DeniedError,
    LogError,
)
from volatility.streaming.log.memory_log import MemoryLog


def append(log: MemoryLog, count: int, seed: int = 0, start_ns: int = market.START_NS) -> None:
    writer = log.writer()
    for record in islice(market.records(seed, start_ns=start_ns), count):
        writer.append(TICKS, record.symbol.encode(), encode(record))


def filled(count: int, partitions: int = 2, log: MemoryLog | None = None) -> MemoryLog:
    log = log or MemoryLog()
    log.create(TICKS, partitions)
    log.create(DEAD_LETTER, 1)
    append(log, count)
    return log


def rows(folder: Path) -> int:
    lake = Lake(folder)
    return sum(lake.rows(symbol) for symbol in lake.symbols())


def opened(log: MemoryLog, folder: Path, **options: object) -> Capture:
    return Capture(log, TICKS, Lake(folder), decode_ticks, **options)  # type: ignore[arg-type]


def counter(name: str) -> float:
    value = metrics.registry.get_sample_value(f"volatility_{name}_total")
    assert value is not None
    return value


def test_the_lake_is_the_log_and_a_second_run_adds_nothing(tmp_path: Path) -> None:
    log = filled(1_000)
    assert capture_topic(log, TICKS, tmp_path, rotation=Rotation(rows=70)) == 1_000
    assert capture_topic(log, TICKS, tmp_path) == 0
    append(log, 500, seed=1)
    assert capture_topic(log, TICKS, tmp_path) == 500
    assert check_lake(log, tmp_path) == 1_500


def test_parts_are_written_at_so_many_rows(tmp_path: Path) -> None:
    log = filled(1_000, partitions=1)
    capture_topic(log, TICKS, tmp_path, rotation=Rotation(rows=10_000))
    few = len(Lake(tmp_path).parts("BTC-USD"))
    work = opened(log, tmp_path / "other", rotation=Rotation(rows=1, seconds=1e9))
    module.POLL_RECORDS, before = 100, module.POLL_RECORDS
    try:
        work.run(follow=False)
    finally:
        module.POLL_RECORDS = before
    assert few == 1
    assert len(Lake(tmp_path / "other").parts("BTC-USD")) == 10


def test_a_topic_created_anew_overwrites_nothing(tmp_path: Path) -> None:
    log = filled(300)
    capture_topic(log, TICKS, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("part-*")}
    log.delete(TICKS)
    log.create(TICKS, 2)
    append(log, 400, seed=1, start_ns=market.START_NS + 10**12)
    assert capture_topic(log, TICKS, tmp_path) == 400
    assert all(path.read_bytes() == content for path, content in before.items())
    assert rows(tmp_path) == 700


def test_a_topic_created_anew_amid_a_run_is_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = filled(300)
    work = opened(log, tmp_path, rotation=Rotation(rows=10**6, seconds=0.0))
    stop = threading.Event()

    def recreate() -> None:
        log.delete(TICKS)
        log.create(TICKS, 2)
        append(log, 400, seed=1, start_ns=market.START_NS + 10**12)

    with _following(work, stop):
        until(lambda: _held(tmp_path) == 300, "300 records in the lake")
        recreate()
        until(lambda: _held(tmp_path) == 700, "700 records in the lake")
    assert rows(tmp_path) == 700


def test_what_was_read_of_a_topic_that_is_no_more_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Between the read and the write the topic may have become another one."""
    log = filled(300)
    work = opened(log, tmp_path)
    inner, polls = work._reader.poll, iter(range(100))

    def poll(*arguments: object) -> object:
        found = inner(*arguments)  # type: ignore[arg-type]
        if next(polls) == 0:
            log.delete(TICKS)
            log.create(TICKS, 2)
            append(log, 40, seed=1)
        return found

    monkeypatch.setattr(work._reader, "poll", poll)
    work.run(follow=False)
    work.close()
    assert "re-created" in caplog.text
    assert check_lake(log, tmp_path) == 40


def test_records_deleted_before_they_were_captured_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = ShortLog()
    filled(600, 1, log)
    log.forget(0, 250)
    before = counter("lost_messages")
    assert capture_topic(log, TICKS, tmp_path) == 350
    assert counter("lost_messages") - before == 250
    assert "offsets 0 to 249 were deleted before they were captured" in caplog.text


def test_records_deleted_after_the_last_capture_fail_one_run_and_are_in_the_ledger(
    tmp_path: Path,
) -> None:
    log = ShortLog()
    filled(300, partitions=1, log=log)
    assert capture_topic(log, TICKS, tmp_path) == 300
    newest = Lake(tmp_path).newest(f"{TICKS}.{log.generation(TICKS)}", 0)
    append(log, 100, seed=1)
    log.forget(0, 350)
    with pytest.raises(LogError, match="captured 50 rows of ticks, but 50 records had been"):
        capture_topic(log, TICKS, tmp_path)
    gaps = Lake(tmp_path).gaps()
    assert {gap.symbol: gap.start_ns for gap in gaps} == newest
    assert {gap.reason for gap in gaps} == {"deleted before capture"}
    assert {tuple(gap.detail["offsets"]) for gap in gaps} == {(300, 349)}
    assert all(gap.stop_ns >= gap.start_ns for gap in gaps)
    append(log, 10, seed=2)
    assert capture_topic(log, TICKS, tmp_path) == 10
    assert len(Lake(tmp_path).gaps()) == len(gaps), "told once"


def test_a_capture_that_follows_exports_how_many_were_deleted_and_when(tmp_path: Path) -> None:
    log = ShortLog()
    filled(300, partitions=1, log=log)
    capture_topic(log, TICKS, tmp_path)
    append(log, 100, seed=1)
    log.forget(0, 350)
    before, polls, began = metrics.deleted_records.labels(TICKS)._value.get(), count(), time.time()
    capture_topic(log, TICKS, tmp_path, follow=True, stopped=lambda: next(polls) == 5)
    assert metrics.deleted_records.labels(TICKS)._value.get() - before == 50
    assert metrics.deleted_at.labels(TICKS)._value.get() >= began
    assert {gap.detail["partition"] for gap in Lake(tmp_path).gaps()} == {0}


def test_when_all_that_was_new_is_deleted_it_is_told_once(tmp_path: Path) -> None:
    log = ShortLog()
    filled(300, partitions=1, log=log)
    capture_topic(log, TICKS, tmp_path)
    append(log, 100, seed=1)
    log.forget(0, 400)
    with pytest.raises(LogError, match="100 records had been deleted"):
        capture_topic(log, TICKS, tmp_path)
    assert capture_topic(log, TICKS, tmp_path) == 0


def cut(log: MemoryLog, partition: int, end: int) -> None:
    """Lose the newest records of a partition, as a broker does that did not sync its disk."""
    del log._topics[TICKS].records[partition][end:]


@pytest.mark.parametrize("regrown", [0, 5, 10, 15])
def test_a_log_that_lost_captured_records_stops_capture_and_names_the_offset(
    tmp_path: Path, regrown: int
) -> None:
    log = filled(100, partitions=1)
    assert capture_topic(log, TICKS, tmp_path) == 100
    cut(log, 0, 90)
    append(log, regrown, seed=3)
    for follow, group in ((False, None), (True, None), (True, "capture")):
        polls = count()
        with pytest.raises(RewrittenError, match="captured through offset 99, but the log") as told:
            capture_topic(
                *(log, TICKS, tmp_path),
                follow=follow,
                group=group,
                stopped=lambda: next(polls) == 20,  # noqa: B023
            )
        assert "runbook" in str(told.value)
    assert rows(tmp_path) == 100
    gaps = Lake(tmp_path).gaps()
    assert {(gap.reason, gap.detail["through"]) for gap in gaps} == {("log rewritten", 99)}
    assert len(gaps) == len({gap.symbol for gap in gaps}), "one entry, however often it is seen"
    log.delete(TICKS)
    filled(20, partitions=1, log=log)
    assert capture_topic(log, TICKS, tmp_path) == 20


def test_a_log_that_loses_what_a_running_capture_has_read_stops_it_and_is_in_the_ledger(
    tmp_path: Path,
) -> None:
    log = filled(100, partitions=1)
    polls = count()

    def stopped() -> bool:
        number = next(polls)
        if number == 3:
            cut(log, 0, 90)
        return number == 20

    patient = Rotation(rows=1_000, seconds=1e9)
    with pytest.raises(RewrittenError, match="captured through offset 99, but the log ends at"):
        capture_topic(log, TICKS, tmp_path, follow=True, stopped=stopped, rotation=patient)
    assert rows(tmp_path) == 100, "the lake keeps what only it has"
    assert {gap.reason for gap in Lake(tmp_path).gaps()} == {"log rewritten"}


def test_a_log_that_ends_where_the_lake_does_is_not_suspected(tmp_path: Path) -> None:
    log = filled(100, partitions=2)
    for _ in range(3):
        capture_topic(log, TICKS, tmp_path)
    append(log, 7, seed=1)
    assert capture_topic(log, TICKS, tmp_path) == 7
    assert not Lake(tmp_path).gaps()


def test_unparsable_records_go_to_the_dead_letter_topic_with_reason_and_place(
    tmp_path: Path,
) -> None:
    log = filled(10, partitions=1)
    writer = log.writer()
    for bad in (b"not json", b'{"symbol":"BTC-USD","time":1,"price":1,"bid":2,"ask":1}', b"\xff"):
        writer.append(TICKS, b"BTC-USD", bad)
    append(log, 10, seed=1)
    assert capture_topic(log, TICKS, tmp_path) == 20
    assert capture_topic(log, TICKS, tmp_path) == 0
    dead = read_all(log, DEAD_LETTER)
    assert [m.value for m in dead] == [
        b"not json",
        b'{"symbol":"BTC-USD","time":1,"price":1,"bid":2,"ask":1}',
        b"\xff",
    ]
    source = f"{TICKS}.{log.generation(TICKS)}/0/"
    for offset, message in zip((10, 11, 12), dead, strict=True):
        headers = dict(message.headers)
        assert headers["source"].decode() == f"{source}{offset}"
        assert headers["reason"]
    assert "2009" in dict(dead[1].headers)["reason"].decode()


def test_rejected_records_at_the_end_are_buried_once_however_often_capture_runs(
    tmp_path: Path,
) -> None:
    log = filled(20, partitions=1)
    writer = log.writer()
    for _ in range(5):
        writer.append(TICKS, b"BTC-USD", b"no tick")
    for _ in range(5):
        capture_topic(log, TICKS, tmp_path)
    assert len(read_all(log, DEAD_LETTER)) == 5
    assert rows(tmp_path) == 20


def test_a_topic_without_any_valid_record_is_buried_once(tmp_path: Path) -> None:
    log = MemoryLog()
    log.create(TICKS, 2)
    writer = log.writer()
    for key in (b"a", b"b", b"c"):
        writer.append(TICKS, key, b"{}")
    for _ in range(3):
        assert capture_topic(log, TICKS, tmp_path) == 0
    assert len(read_all(log, DEAD_LETTER)) == 3


def test_what_is_too_long_for_a_record_is_buried_cut(tmp_path: Path) -> None:
    """Another client may have written it, up to the broker's own limit."""
    log = filled(10, partitions=1)
    long = b"x" * (LARGEST_RECORD + 50)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("volatility.streaming.log.memory_log.LARGEST_RECORD", 2**20)
        log.writer().append(TICKS, b"BTC-USD", long)
    assert capture_topic(log, TICKS, tmp_path) == 10
    (dead,) = read_all(log, DEAD_LETTER)
    assert dead.value == long[:LARGEST_RECORD]
    assert dict(dead.headers)["length"] == str(len(long)).encode()


def test_a_full_disk_is_told_once_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log, stop, tries = filled(300), threading.Event(), []
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    publish = parts.Stage._publish

    def full(stage: parts.Stage) -> None:
        tries.append(1)
        if len(tries) < 5:
            raise OSError(28, "No space left on device")
        publish(stage)

    monkeypatch.setattr(parts.Stage, "_publish", full)
    work = opened(log, tmp_path, rotation=Rotation(rows=10**6, seconds=0.0))
    with caplog.at_level(logging.WARNING), _following(work, stop):
        until(lambda: _held(tmp_path) == 300, "300 records in the lake")
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "No space left on device" in errors[0]
    assert "free some space" in errors[0]
    assert "capture resumed" in caplog.text
    assert check_lake(log, tmp_path) == 300


def test_a_full_disk_ends_a_run_that_does_not_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled(300)
    with monkeypatch.context() as patched:
        patched.setattr(parts.Stage, "_publish", lambda _: (_ for _ in ()).throw(OSError(28, "x")))
        with pytest.raises(LakeError, match="free some space"):
            capture_topic(log, TICKS, tmp_path)
    assert capture_topic(log, TICKS, tmp_path) == 300


def test_without_permission_for_dead_letters_a_capture_that_follows_ends(tmp_path: Path) -> None:
    log = filled(20)
    log.deny(DEAD_LETTER)
    writer = log.writer()
    writer.append(TICKS, b"A", b"no tick")
    with pytest.raises(DeniedError, match=f"`{DEAD_LETTER}`"):
        capture_topic(log, TICKS, tmp_path, follow=True, rotation=Rotation(rows=1))


def test_no_topic_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="volatility ingest"):
        capture_topic(MemoryLog(), TICKS, tmp_path)


def test_members_of_a_group_split_the_partitions(tmp_path: Path) -> None:
    log = MemoryLog()
    log.create(TICKS, 4)
    writer, stop = log.writer(), threading.Event()
    source = market.records(0, [f"S{n}-USD" for n in range(12)])

    def more(count: int) -> None:
        for record in islice(source, count):
            writer.append(TICKS, record.symbol.encode(), encode(record))

    options = {"rotation": Rotation(rows=50, seconds=0.05), "group": "capture"}
    one, two = (opened(log, tmp_path, **options) for _ in range(2))
    with _following(one, stop), _following(two, stop):
        more(600)
        until(
            lambda: len(one._reader.assignment()) == len(two._reader.assignment()) == 2,
            "two partitions each",
        )
        more(600)
        until(lambda: _held(tmp_path) == 1_200, "1,200 records in the lake")
        assert not set(one._reader.assignment()) & set(two._reader.assignment())
    assert check_lake(log, tmp_path) == 1_200


def test_a_run_of_a_group_waits_until_it_has_joined(tmp_path: Path) -> None:
    log = filled(100)
    work = opened(log, tmp_path, group="capture")
    join, polls = work._reader._take_part, iter(range(100))  # type: ignore[attr-defined]

    def slowly(group: object) -> None:
        if next(polls) > 3:
            join(group)

    work._reader._take_part = slowly  # type: ignore[attr-defined]
    assert work.run(follow=False) == 100
    work.close()


def test_a_zombie_that_publishes_late_does_not_shrink_the_newer_part(tmp_path: Path) -> None:
    log = filled(200, partitions=1)
    messages = log.reader(TICKS, {0: 0}).poll(200, 0.0)
    lake, source = Lake(tmp_path), f"{TICKS}.{log.generation(TICKS)}"
    assert capture_topic(log, TICKS, tmp_path) == 200
    with lake.stage(source, 0, through=messages[89].offset) as zombie:
        zombie.append(_table(messages[:90]))
    assert check_lake(log, tmp_path) == 200
    assert capture_topic(log, TICKS, tmp_path) == 0


def test_a_zombie_that_was_overtaken_while_it_wrote_changes_nothing(tmp_path: Path) -> None:
    log = filled(200, partitions=1)
    messages = log.reader(TICKS, {0: 0}).poll(200, 0.0)
    zombie = Lake(tmp_path).stage(f"{TICKS}.{log.generation(TICKS)}", 0, messages[89].offset)
    zombie.append(_table(messages[:90]))
    assert capture_topic(log, TICKS, tmp_path) == 200
    with suppress(LakeError):  # its unfinished parts may have been cleared away
        zombie.__exit__(None, None, None)
    assert check_lake(log, tmp_path) == 200
    assert capture_topic(log, TICKS, tmp_path) == 0


def test_a_zombie_that_has_captured_more_leaves_each_record_once(tmp_path: Path) -> None:
    log = filled(200, partitions=1)
    messages = log.reader(TICKS, {0: 0}).poll(200, 0.0)
    lake, source = Lake(tmp_path), f"{TICKS}.{log.generation(TICKS)}"
    lake.write(_table(messages[:90]), source, 0)
    with lake.stage(source, 0, through=messages[149].offset) as zombie:
        zombie.append(_table(messages[:150]))
    lake.write(_table(messages[90:]), source, 0)
    offsets = [
        offset
        for symbol in lake.symbols()
        for batch in lake.scan(symbol, ["offset"])
        for offset in batch.column("offset").to_pylist()
    ]
    assert sorted(offsets) == list(range(200))


def test_each_value_that_was_sent_is_in_the_lake(tmp_path: Path) -> None:
    log = MemoryLog()
    log.create(TICKS, 1)
    told = {
        "symbol": "BTC-USD",
        "time": market.START_NS + 123_456_789,
        "received": market.START_NS + 987_654_321,
        "price": 0.1 + 0.2,
        "bid": 0.3,
        "ask": 0.30000000000000010,
        "bid_size": 1e-8,
        "ask_size": 0.0,
        "size": 3.0,
        "side": "sell",
        "sequence": 2**53 + 1,
        "trade_id": 2**63 - 1,
    }
    log.writer().append(TICKS, b"BTC-USD", json.dumps(told).encode())
    capture_topic(log, TICKS, tmp_path)
    assert check_lake(log, tmp_path) == 1


def _table(messages: list) -> pa.Table:
    return decode_ticks(messages, 0)[0]


def _held(folder: Path) -> int:
    try:
        return rows(folder) if any(folder.glob("symbol=*/date=*/part-*")) else 0
    except FileNotFoundError:  # capture discards a folder that it could not fill
        return 0


class _following:  # noqa: N801  reads as what it is: a block
    """Run a capture in a thread during a block; what it raises is raised at the end."""

    def __init__(self, work: Capture, stop: threading.Event) -> None:
        self.work, self.stop, self.errors = work, stop, []  # type: ignore[var-annotated]
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        try:
            self.work.run(follow=True, stopped=self.stop.is_set)
        except Exception as error:  # noqa: BLE001  handed to the test's own thread
            self.errors.append(error)
        finally:
            self.work.close()

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, kind: object, *_: object) -> None:
        self.stop.set()
        self.thread.join(PATIENCE_SECONDS)
        assert not self.thread.is_alive()
        if kind is None and self.errors:
            raise self.errors[0]
