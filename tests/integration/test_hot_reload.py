"""The short form of `python -m tests.chaos alias`: two workers of a real `bentoml serve`."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.reload import reload_under_load


def test_an_alias_moved_under_load_fails_no_request_and_reaches_every_worker(
    tmp_path: Path,
) -> None:
    counts = reload_under_load(tmp_path, changes=4, corrupt=1, per_second=100.0)
    assert counts["answers"] > 100
