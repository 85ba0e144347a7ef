"""Each sub-package says what is public; nothing reaches past that, and imports have no effect."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "volatility"
PRODUCT = ("volatility", "pipelines", "service")
# Programs, which nothing imports from.
PROGRAMS = {"cli", "dev"}
SUB_PACKAGES = sorted(file.parent.name for file in PACKAGE.glob("*/__init__.py"))
LIBRARIES = [name for name in SUB_PACKAGES if name not in PROGRAMS]
CORE = ["volatility", *(
    f"volatility.{name}"
    for name in ("records", "simulation", "sources", "lake", "features", "dataset", "models",
                 "evaluation", "units", "files", "settings", "compiled")
)]  # fmt: skip
FRAMEWORKS = ("kafka", "mlflow", "prefect", "bentoml", "click", "jinja2")

LOOK = """
import importlib, json, os, sys
before = dict(os.environ)
for name in sys.argv[1:]:
    importlib.import_module(name)
changed = sorted(k for k in {*before, *os.environ} if before.get(k) != os.environ.get(k))
print(json.dumps([changed, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_sub_package_says_what_is_public_and_has_it(name: str) -> None:
    package = importlib.import_module(f"volatility.{name}")
    names = package.__all__
    assert names
    assert [n for n in names if not hasattr(package, n)] == []
    assert len(set(names)) == len(names)


def imports(file: Path) -> Iterator[tuple[int, str, str | None]]:
    """Return line, module and name of each import of a file; a plain import has no name."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, node.module, alias.name) for alias in node.names)


def reaches_past(module: str, name: str | None, own: str | None) -> bool:
    """Return whether an import takes from inside a sub-package what it does not offer.

    ``own`` is the sub-package of the file that imports: inside one all is open.
    """
    root, _, rest = module.partition(".")
    sub_package, _, inner = rest.partition(".")
    if root != "volatility" or sub_package not in LIBRARIES or sub_package == own:
        return False
    if inner:
        # A nested package is entered as a sub-package is: by its own front.
        nested = (PACKAGE / rest.replace(".", "/") / "__init__.py").exists()
        return not nested or (name is not None and not offers(module, name))
    return name is not None and not offers(module, name)


def offers(module: str, name: str) -> bool:
    """Return whether a package has a name in ``__all__``, or a module of that name."""
    folder = ROOT / module.replace(".", "/")
    if (folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists():
        return True
    return name in getattr(importlib.import_module(module), "__all__", ())


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        ("volatility.lake", "Lake", False),
        ("volatility.lake", "compaction", False),
        ("volatility.lake.parts", "LakeError", True),
        ("volatility.lake.parts", None, True),
        ("volatility.lake", "no_such_name", True),
        ("volatility.units", "SECOND", False),
        ("volatility.streaming.log", "TICKS", False),
        ("volatility.streaming.log.kafka_log", "KafkaLog", True),
    ],
)
def test_the_rule_itself(module: str, name: str | None, wrong: bool) -> None:
    assert reaches_past(module, name, own="models") is wrong
    assert reaches_past(module, name, own=module.split(".")[1]) is False


def test_product_code_imports_through_the_package() -> None:
    wrong = []
    for root in PRODUCT:
        for file in sorted((ROOT / root).rglob("*.py")):
            parts = file.relative_to(ROOT).parts
            own = parts[1] if root == "volatility" and len(parts) > 2 else None
            if own in PROGRAMS:
                continue
            wrong += [
                f"{file.relative_to(ROOT)}:{line}: {module} {name or ''}".rstrip()
                for line, module, name in imports(file)
                if reaches_past(module, name, own)
            ]
    assert wrong == []


@pytest.mark.slow
def test_an_import_of_the_core_changes_no_environment_and_loads_no_framework() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *CORE],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    changed, loaded = json.loads(done.stdout)
    assert changed == []
    assert sorted({*FRAMEWORKS} & {*loaded}) == []
