"""The contracts of import-linter hold, and fail when an import points the wrong way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("volatility", "pipelines", "service")


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


def test_the_contracts_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("package", "statement"),
    [
        ("volatility/records", "import volatility.lake"),
        ("volatility/models", "import mlflow"),
        ("volatility/reports", "import prefect"),
        ("volatility/streaming/sources", "import kafka"),
        ("volatility/stages_of_another_kind", "import volatility.records"),
        ("service", "import pipelines"),
    ],
)
def test_an_import_the_wrong_way_breaks_a_contract(
    tmp_path: Path, package: str, statement: str
) -> None:
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / package).mkdir(exist_ok=True)
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / "wrong.py").write_text(f"def run():\n    {statement}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout
