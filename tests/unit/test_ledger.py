from __future__ import annotations

import os
from pathlib import Path

import pytest

from volatility.lake.lake import Gap, Lake, LakeError


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def test_the_ledger_keeps_each_gap_once_and_survives_a_torn_line(lake, caplog):
    lake.record_gap("A", 1, 2, "reconnect", lost=[3, 4])
    lake.record_gap("B", 5, 6, "silence")
    lake.record_gap("A", 1, 2, "reconnect", lost=[3, 4])
    expected = [Gap("A", 1, 2, "reconnect", {"lost": [3, 4]}), Gap("B", 5, 6, "silence")]
    assert lake.gaps() == expected
    assert lake.gaps("B") == expected[1:]
    path = lake.root / "gaps.jsonl"
    with path.open("ab") as file:
        file.write(path.read_bytes().splitlines()[1][:-9])
    assert lake.gaps() == expected
    assert "incomplete" in caplog.text
    lake.record_gap("C", 7, 8, "sequence")
    assert lake.gaps() == [*expected, Gap("C", 7, 8, "sequence")]


def test_a_ledger_that_cannot_be_written_is_one_clear_error(lake):
    (lake.root / "gaps.jsonl").mkdir(parents=True)
    with pytest.raises(LakeError, match=r"cannot write .*gaps\.jsonl"):
        lake.record_gap("A", 1, 2, "silence")


def test_a_gap_that_did_not_fit_on_the_disk_is_not_taken_for_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up amid a line takes part of it, without an error."""
    lake, whole = Lake(tmp_path), os.write
    lake.record_gap("BTC-USD", 1, 2, "first")
    monkeypatch.setattr(os, "write", lambda handle, line: whole(handle, line[:10]))
    with pytest.raises(LakeError, match="free some space"):
        lake.record_gap("BTC-USD", 3, 4, "second")
    monkeypatch.undo()
    lake.record_gap("BTC-USD", 3, 4, "second")
    assert [gap.reason for gap in lake.gaps()] == ["first", "second"]
