from __future__ import annotations

import math
from pathlib import Path

import numba
import pytest

from volatility import compiled


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(compiled, "HERE", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "kernel.py").write_text("@njit()\ndef caller(): return called()\n")
    (tmp_path / "sums.py").write_text("@njit()\ndef called(): return 1\n")
    (tmp_path / "table.py").write_text("FEATURES = ()\n")
    (tmp_path / "cli.py").write_text("print()\n")
    return tmp_path


def folder() -> Path:
    found = compiled.cache_folder()
    assert found is not None
    assert found.is_dir()
    return found


@pytest.mark.parametrize("name", ["kernel.py", "sums.py", "table.py"])
def test_a_change_of_any_compiled_file_is_another_cache(sources: Path, name: str) -> None:
    before = folder()
    assert folder() == before
    (sources / name).write_text((sources / name).read_text() + "# changed\n")
    after = folder()
    assert after != before
    assert not before.exists()  # old machine code is of no use to anyone
    assert after.parent == sources / "__pycache__"


def test_what_is_not_compiled_does_not_count(sources: Path) -> None:
    before = folder()
    (sources / "cli.py").write_text("print(1)\n")
    assert folder() == before


def test_a_moved_function_or_another_numba_is_another_cache(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {folder().name}
    (sources / "sums.py").rename(sources / "totals.py")
    found.add(folder().name)
    monkeypatch.setattr(numba, "__version__", "0.0")
    found.add(folder().name)
    assert len(found) == 3


def test_it_falls_back_to_the_home_folder_and_then_to_none(sources: Path) -> None:
    (sources / "__pycache__").write_text("in the way")
    assert folder().parent == sources / "home" / ".cache" / "volatility"
    for path in sorted((sources / "home").rglob("*"), reverse=True):
        path.rmdir()
    (sources / "home" / ".cache").write_text("in the way")
    assert compiled.cache_folder() is None


def test_division_by_zero_is_numpy_s() -> None:
    def divide(a: float, b: float) -> float:
        return a / b

    compiled_divide = compiled.njit()(divide)
    assert compiled_divide(1.0, 2.0) == 0.5
    assert compiled_divide(1.0, 0.0) == math.inf
    assert math.isnan(compiled_divide(0.0, 0.0))
