"""The short form of `make fuzz`: a real `bentoml serve` under generated and mutated requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.run import fuzz


def test_no_body_is_answered_with_a_fault_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = fuzz(tmp_path, monkeypatch, requests=300, bodies=1_500, seed=7)
    assert not found.wrong, "\n".join(found.wrong)
