"""The short form of `make fuzz`: a real `bentoml serve` under generated and mutated requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.run import Fuzz


@pytest.mark.parametrize("kind", ["requests", "bodies"])
def test_nothing_is_answered_with_a_fault_of_ours(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Fuzz(tmp_path, monkeypatch, requests=300, bodies=1_500, seed=7).run(kind)
    assert not found.wrong, "\n".join(found.wrong)
