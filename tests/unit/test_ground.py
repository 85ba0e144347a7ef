"""Check the files that everything else depends on: locks, settings, examples."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import msgspec
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from volatility import settings

ROOT = Path(__file__).parents[2]
PACKAGES = ("volatility", "pipelines", "service")
LOCKS = (
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-bootstrap.lock",
    "requirements-audit.lock",
    "requirements-postgres.lock",
)
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(lock: str) -> dict[str, str]:
    """Version of every package pinned in a lock file."""
    text = (ROOT / lock).read_text()
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_only_pins_with_hashes(lock: str) -> None:
    text = (ROOT / lock).read_text()
    entries = re.sub(r"\\\n", "", re.sub(r"^#.*\n|^ +#.*\n", "", text, flags=re.MULTILINE))
    lines = entries.splitlines()
    assert lines
    pinned = re.compile(
        r"[a-z0-9._-]+(\[[a-z0-9, -]+\])?==\S+( ; [^\\]+?)?( +--hash=sha256:\w{64})+"
    )
    assert [line for line in lines if not pinned.fullmatch(line)] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address_and_no_folder(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"(^|\s)(/|--(extra-)?index|--find-links|-[ef] )", text, re.MULTILINE)


def test_the_locks_agree() -> None:
    runtime, dev, bootstrap = map(pins, LOCKS[:3])
    assert {name: dev.get(name) for name in runtime} == runtime
    assert bootstrap["setuptools"] == runtime["setuptools"]


@pytest.mark.parametrize(("lock", "extra"), [(LOCKS[0], None), (LOCKS[1], "dev")])
def test_every_requirement_is_pinned_within_its_caps(lock: str, extra: str | None) -> None:
    declared = [*PROJECT["dependencies"]]
    if extra:
        declared += PROJECT["optional-dependencies"][extra]
    pinned = pins(lock)
    for requirement in map(Requirement, declared):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} but {version}"


def test_params_hold_every_setting_and_no_other() -> None:
    written = yaml.safe_load((ROOT / "params.yaml").read_text())
    defaults = msgspec.to_builtins(settings.Settings())
    assert {key: set(section) for key, section in written.items()} == {
        key: set(section) for key, section in defaults.items()
    }
    settings.load(ROOT / "params.yaml")


def test_the_make_file_and_the_example_silence_the_same_reporters() -> None:
    makefile = (ROOT / "Makefile").read_text()
    exported = dict(
        re.findall(r"^export (\w+(?:TRACK|TELEMETRY|ANALYTICS\w*)) = (\w+)", makefile, re.MULTILINE)
    )
    assert len(exported) >= 6
    example = (ROOT / ".env.example").read_text().splitlines()
    assert [f"{k}={v}" for k, v in exported.items() if f"{k}={v}" not in example] == []


def test_the_hooks_run_what_make_lint_runs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^lint: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe
    linters = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook for repository in repositories for hook in repository["hooks"]]
    assert {repository["repo"] for repository in repositories} == {"local"}, "nothing is fetched"
    assert [hook["entry"] for hook in hooks] == linters
    assert all(hook["always_run"] and not hook["pass_filenames"] for hook in hooks)


def test_every_action_is_pinned_by_commit_and_to_one_version() -> None:
    versions: dict[str, set[str]] = {}
    for file in WORKFLOWS:
        for line in re.findall(r"uses: (.+)", file.read_text()):
            pinned = re.fullmatch(r"([\w-]+/[\w-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)", line)
            assert pinned, f"{file.name}: {line}"
            versions.setdefault(pinned[1], set()).add(pinned[2])
    assert len(versions) >= 3
    assert {action: found for action, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_may_only_read(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    allowed = {"release.yml": {"contents": "write"}}.get(file.name)
    assert {str(job.get("permissions")) for job in workflow["jobs"].values()} == {str(allowed)}
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())


def test_every_lock_is_audited_each_night_by_a_pinned_tool() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "nightly.yml").read_text())
    script = "\n".join(step.get("run", "") for step in workflow["jobs"]["audit"]["steps"])
    assert "--require-hashes -r requirements-audit.lock" in script
    assert "pip-audit --disable-pip --require-hashes" in script
    assert "requirements*.lock" in script
    assert {"pip-audit", "cyclonedx-bom", "pip-licenses"} <= set(pins("requirements-audit.lock"))


def test_make_lock_writes_every_lock() -> None:
    makefile = (ROOT / "Makefile").read_text()
    written = re.findall(r"-o (requirements\S*\.lock)", makefile)
    assert sorted(written) == sorted(LOCKS) == sorted(p.name for p in ROOT.glob("*.lock"))


def test_ci_lints_builds_the_site_and_tests() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^make ([a-z-]+)", script, re.MULTILINE) == ["lint", "docs", "test"]


def _modules_with_examples() -> list[str]:
    files = sorted((ROOT / "volatility").rglob("*.py"))
    with_examples = [file for file in files if ">>> " in file.read_text()]
    return [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in with_examples]


@pytest.mark.parametrize("name", _modules_with_examples())
def test_examples_in_docstrings_run(name: str, tmp_path: Path, monkeypatch) -> None:
    module = importlib.import_module(name.removesuffix(".__init__"))
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def _imported(room: str) -> set[str]:
    names = set()
    for file in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    rooms = {*PACKAGES, "benchmarks", "monitoring", "tests"}
    return names - rooms - set(sys.stdlib_module_names)


@pytest.mark.slow
@pytest.mark.parametrize("room", [*PACKAGES, "benchmarks", "tests"])
def test_every_package_that_is_imported_is_declared(room: str) -> None:
    declared = [*PROJECT["dependencies"]]
    if room not in PACKAGES:
        declared += PROJECT["optional-dependencies"]["dev"]
    known = {canonicalize_name(Requirement(line).name) for line in declared}
    distributions = packages_distributions()
    imported = _imported(room)
    owners = {n: {*map(canonicalize_name, distributions.get(n, [n]))} for n in imported}
    assert owners
    assert [name for name, owner in owners.items() if not owner & known] == []
