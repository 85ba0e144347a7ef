from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.state import (
    FlowState,
    add_deleted,
    add_rows,
    finished,
    flow_state,
    records_deleted,
    rows_written,
)


def end(folder: Path, *, succeeded: bool, now: float) -> None:
    finished(folder, "train", succeeded=succeeded, now=now, duration_seconds=2.0)


def test_what_never_ran_has_no_state(tmp_path: Path) -> None:
    assert flow_state(tmp_path, "train") is None
    assert rows_written(tmp_path) == {}


def test_a_failure_keeps_the_last_success_and_the_other_way_round(tmp_path: Path) -> None:
    end(tmp_path, succeeded=True, now=1.0)
    assert flow_state(tmp_path, "train") == FlowState("completed", 2.0, last_success=1.0)
    end(tmp_path, succeeded=False, now=2.0)
    assert flow_state(tmp_path, "train") == FlowState("failed", 2.0, 1.0, 2.0)
    end(tmp_path, succeeded=True, now=3.0)
    assert flow_state(tmp_path, "train") == FlowState("completed", 2.0, 3.0, 2.0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"state": "odd"}', b"\xff"])
def test_a_damaged_file_is_written_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.json").write_bytes(content)
    (tmp_path / "rows_written.json").write_bytes(content)
    (tmp_path / "records_deleted.json").write_bytes(content)
    end(tmp_path, succeeded=True, now=1.0)
    add_rows(tmp_path, "ticks", 5)
    add_deleted(tmp_path, "ticks", 0)
    assert flow_state(tmp_path, "train") == FlowState("completed", 2.0, last_success=1.0)
    assert rows_written(tmp_path) == {"ticks": 5}
    assert records_deleted(tmp_path) == {"ticks": 0}


def test_rows_add_up_by_topic(tmp_path: Path) -> None:
    for topic, rows in (("ticks", 5), ("predictions", 1), ("ticks", 2)):
        add_rows(tmp_path, topic, rows)
    assert rows_written(tmp_path) == {"ticks": 7, "predictions": 1}
