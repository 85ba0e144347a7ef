"""The log within one process: what it takes outlives the process, and what is trimmed is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.logs import append, by_partition
from tests.waiting import until
from volatility.streaming.log import LogError
from volatility.streaming.log import journal as journals
from volatility.streaming.log.local_log import LocalLog


def values(log: LocalLog, topic: str = "ticks") -> list[tuple[int, int, bytes]]:
    found = by_partition(log.reader(topic, log.start_offsets(topic)).poll(10_000, 0.0))
    return [(p, m.offset, m.value) for p, kept in sorted(found.items()) for m in kept]


def test_a_new_process_finds_what_the_last_one_left(tmp_path: Path) -> None:
    log = LocalLog(tmp_path)
    log.create("ticks", 4)
    log.create("ticks.layout", 1, forever=True)
    append(log, "ticks", 100)
    append(log, "ticks.layout", 3)
    before, generation = values(log), log.generation("ticks")
    assert len(before) == 100
    log.close()
    log = LocalLog(tmp_path)
    assert (values(log), log.generation("ticks")) == (before, generation)
    assert len(values(log, "ticks.layout")) == 3
    append(log, "ticks", 10, start=100)
    assert len(values(log)) == 110
    log.close()


def test_partitions_that_were_added_stay(tmp_path: Path) -> None:
    log = LocalLog(tmp_path)
    log.create("ticks", 1)
    log.extend("ticks", 3)
    append(log, "ticks", 30)
    log.close()
    log = LocalLog(tmp_path)
    assert log.partitions("ticks") == (0, 1, 2)
    assert len(values(log)) == 30
    log.close()


def test_two_processes_cannot_use_a_folder(tmp_path: Path) -> None:
    log = LocalLog(tmp_path)
    with pytest.raises(LogError, match="another process uses"):
        LocalLog(tmp_path)
    log.close()
    LocalLog(tmp_path).close()


@given(cut=st.integers(1, 400))
def test_a_record_that_was_half_written_is_cut_off(tmp_path_factory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = LocalLog(folder)
    log.create("ticks", 1)
    append(log, "ticks", 20)
    before = values(log)
    log.close()
    (path,) = folder.glob("*.journal")
    os.truncate(path, path.stat().st_size - cut)
    log = LocalLog(folder)
    left = values(log)
    assert left == before[: len(left)]
    assert 0 < len(left) < 20
    append(log, "ticks", 20 - len(left), start=len(left))
    assert values(log) == before
    log.close()


def test_a_damaged_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "SEGMENT_BYTES", 200)
    log = LocalLog(tmp_path)
    log.create("ticks", 1)
    append(log, "ticks", 100)
    log.close()
    first, *_ = sorted(tmp_path.glob("*.journal"))
    content = bytearray(first.read_bytes())
    content[30] ^= 1
    first.write_bytes(content)
    with pytest.raises(LogError, match=r"damaged at byte 0: delete the folder"):
        LocalLog(tmp_path)


def test_what_is_trimmed_is_gone_from_memory_and_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "SEGMENT_BYTES", 1_000)
    log = LocalLog(tmp_path)
    log.create("ticks", 2)
    log.create("ticks.layout", 1, forever=True)
    append(log, "ticks.layout", 1)
    append(log, "ticks", 1_000)
    files = len(list(tmp_path.glob("*.journal")))
    ends = log.end_offsets("ticks")
    log.trim("ticks", {partition: end - 10 for partition, end in ends.items()})
    left = values(log)
    assert len(left) == 20
    assert log.start_offsets("ticks") == {p: end - 10 for p, end in ends.items()}
    assert len(list(tmp_path.glob("*.journal"))) < files / 4
    with pytest.raises(LogError, match="deleted"):
        log.reader("ticks", {0: 0}).poll(1, 0.0)
    log.close()
    log = LocalLog(tmp_path)
    assert values(log) == left
    assert log.end_offsets("ticks") == ends
    assert len(values(log, "ticks.layout")) == 1
    log.close()


def test_a_full_disk_makes_records_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LocalLog(tmp_path)
    log.create("ticks", 1)
    append(log, "ticks", 5)
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[: len(data) // 2]))
    writer = log.writer()
    for number in range(5, 8):
        writer.append("ticks", b"key", b"%d" % number)
    assert (writer.pending(), log.end_offsets("ticks")) == (3, {0: 5})
    monkeypatch.setattr(os, "write", write)
    writer.append("ticks", b"key", b"8")
    assert (writer.pending(), log.end_offsets("ticks")) == (0, {0: 9})
    before = values(log)
    assert [int(value) for *_, value in before] == list(range(9))
    log.close()
    log = LocalLog(tmp_path)
    assert values(log) == before
    log.close()


def _has_more(folder: Path, size: int) -> bool:
    return sum(path.stat().st_size for path in folder.glob("*.journal")) > size


def _append_forever(folder: Path) -> None:
    log = LocalLog(folder)
    log.create("ticks", 1)
    start = log.end_offsets("ticks")[0]
    writer = log.writer()
    while True:
        writer.append("ticks", b"key", b"%d" % start)
        start += 1


def test_a_kill_loses_and_repeats_nothing(tmp_path: Path) -> None:
    seen = 0
    for _ in range(3):
        process = multiprocessing.get_context("spawn").Process(
            target=_append_forever, args=(tmp_path,)
        )
        process.start()
        until(partial(_has_more, tmp_path, 100 * (seen + 1)), "the process appends")
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        log = LocalLog(tmp_path)
        found = [int(value) for *_, value in values(log)]
        log.close()
        assert found == list(range(len(found)))
        assert len(found) >= seen
        seen = len(found)
