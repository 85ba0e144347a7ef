"""Compare `dvc.yaml` with the code: a stage that does not know what it runs would not rerun."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from volatility.settings import Settings

ROOT = Path(__file__).parents[2]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Where the work of a stage begins.
ROOTS = {
    "ticks": {"simulation", "lake"},
    "features": {"features"},
    "train": {"dataset", "evaluation", "models"},
    "evaluate": {"evaluation", "reports"},
    "drift": {"evaluation", "reports"},
}
# What changes no figure: units, and where things are kept, looked up and shown.
OTHER = {"__init__", "compiled", "files", "memory", "registry", "settings", "units"}


def files(module: str) -> list[Path]:
    """Return the files of a module, or of a whole package: a stage depends on its folder."""
    path = ROOT / "volatility" / module
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def imported(module: str) -> set[str]:
    """Return the modules and packages directly below ``volatility`` that a module imports."""
    found = set()
    for node in [node for file in files(module) for node in ast.walk(ast.parse(file.read_text()))]:
        if isinstance(node, ast.ImportFrom) and node.module == "volatility":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("volatility."):
            found.add((node.module or "").split(".")[1])
    return found


def upstream(stage: str) -> set[str]:
    """Return the modules of the stages before: a change of theirs shows in the stage's inputs."""
    inputs = {dep for dep in STAGES[stage]["deps"] if not dep.startswith("volatility/")}
    found = set[str]()
    for name, one in STAGES.items():
        outs = {out if isinstance(out, str) else next(iter(out)) for out in one["outs"]}
        if inputs & outs:
            found |= named(one) | upstream(name)
    return found


def needed(stage: str) -> set[str]:
    """Return the modules that a stage runs, but those whose change its inputs would show."""
    todo, found = set(ROOTS[stage]), set[str]()
    while todo:
        module = todo.pop()
        found.add(module)
        todo |= imported(module) - found - OTHER - upstream(stage)
    return found


def named(stage: dict[str, Any]) -> set[str]:
    prefix = "volatility/"
    return {Path(dep).stem for dep in stage["deps"] if dep.startswith(prefix)}


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_depends_on_the_modules_that_it_runs(stage: str) -> None:
    assert needed(stage) - named(STAGES[stage]) == set()


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_what_a_stage_depends_on_exists(stage: str) -> None:
    outs = {o if isinstance(o, str) else next(iter(o)) for s in STAGES.values() for o in s["outs"]}
    for dep in STAGES[stage]["deps"]:
        assert dep in outs or (ROOT / dep).exists()


def test_the_ticks_depend_on_the_recordings_and_their_parsers() -> None:
    assert {"lake", "sources"} <= named(STAGES["ticks"])
    assert "data/recordings" in STAGES["ticks"]["deps"]


def test_a_package_counts_as_a_whole() -> None:
    assert len(files("models")) > 5
    assert {"dataset", "features"} <= imported("models")


def test_every_parameter_of_a_stage_exists() -> None:
    settings = msgspec.to_builtins(Settings())
    for stage in STAGES.values():
        for name in stage["params"]:
            section, _, key = name.partition(".")
            assert section in settings
            assert not key or key in settings[section]


def unpacked(folder: Path) -> Path:
    """Put what these tests need of the repository into a folder, as an archive has it: no git."""
    for name in (".dvc/config", "dvc.yaml", "params.yaml", "Makefile", "data/README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["archive", "ein Ordner für DVC"])
def test_dvc_works_without_git(tmp_path: Path, name: str) -> None:
    folder = unpacked(tmp_path / name)
    command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout.split()) == (0, list(STAGES)), found.stderr


@pytest.mark.parametrize("name", ["archive", "ein Ordner"])
def test_the_data_is_cleaned_without_git_but_not_the_recordings(tmp_path: Path, name: str) -> None:
    folder = unpacked(tmp_path / name)
    kept = ["data/README.md", "data/recordings/mine.parquet", "params.yaml", "reports/README.md"]
    gone = ["data/ticks/a", "data/.b", "reports/c/d.html", "mlartifacts/e", "mlruns/f", "mlflow.db"]
    for path in (*kept, *gone, "mlflow.db-wal"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    subprocess.run(["make", "clean", "DATA=1"], cwd=folder, capture_output=True, check=True)
    assert all((folder / path).exists() for path in kept)
    assert not [path for path in gone if (folder / path).exists()]
    assert not (folder / "data/ticks").exists()
    assert not list(folder.glob("ml*"))
