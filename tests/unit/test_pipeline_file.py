"""Hold `dvc.yaml` against the code: a stage that does not know what it runs would not rerun."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Where the work of a stage begins.
ROOTS = {
    "ticks": {"simulate"},
    "features": {"feature_update"},
    "train": {"training", "placebo", "model"},
    "evaluate": {"evaluation", "promotion", "report"},
    "drift": {"drift", "drift_pages"},
}
# What changes no figure: where things are kept, looked up and shown.
OTHER = {
    "__init__", "columns", "compiled", "duplicates", "importing", "lake", "ledger", "pages",
    "parts", "plots", "prediction", "registry", "settings", "tracking", "wire",
}  # fmt: skip


def imported(module: str) -> set[str]:
    tree = ast.parse((ROOT / "volatility" / f"{module}.py").read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "volatility":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("volatility."):
            found.add((node.module or "").split(".")[1])
    return found


def needed(stage: str) -> set[str]:
    """Give the modules that a stage runs, but those whose change its inputs would show."""
    todo, found = set(ROOTS[stage]), set[str]()
    inputs = {dep for dep in STAGES[stage]["deps"] if not dep.startswith("volatility/")}
    upstream = {
        dep
        for one in STAGES.values()
        if inputs & {out if isinstance(out, str) else next(iter(out)) for out in one["outs"]}
        for dep in named(one)
    }
    while todo:
        module = todo.pop()
        found.add(module)
        todo |= imported(module) - found - OTHER - upstream
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
        assert dep in outs or (ROOT / dep).is_file()
