"""Hold the direction of the arrows between the rooms."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("volatility", "streaming", "pipelines", "service")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter with the project's contracts on the packages of ``folder``."""
    command = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def empty_house(tmp_path: Path) -> Path:
    """Four empty rooms under the project's contracts."""
    for room in ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_layers_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_empty_house_is_in_order(empty_house: Path) -> None:
    done = lint_imports(empty_house)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("room", "statement"),
    [
        ("volatility", "import streaming"),
        ("volatility", "import pipelines"),
        ("volatility", "import service"),
        ("volatility", "import kafka"),
        ("volatility", "from prefect import flow"),
        ("volatility", "import bentoml"),
        ("volatility", "import starlette.requests"),
        ("streaming", "import pipelines"),
        ("streaming", "import service"),
        ("service", "import pipelines"),
        ("service", "import streaming"),
    ],
)
def test_an_arrow_the_wrong_way_is_found(empty_house: Path, room: str, statement: str) -> None:
    (empty_house / room / "wrong.py").write_text(f"def run():\n    {statement}\n")
    done = lint_imports(empty_house)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout
