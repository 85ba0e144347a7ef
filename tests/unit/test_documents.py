"""Check README and docs: links, layout, figures, settings, roles, and a test for each command."""

from __future__ import annotations

import doctest
import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import click
import msgspec
import pytest
import yaml

from benchmarks import figures
from benchmarks.prediction.recordings import VENUES
from benchmarks.results import read
from tests import documents
from tests.documents import (
    DOCUMENTS,
    HELD,
    INLINE,
    LINK,
    ROOT,
    RUN,
    anchors,
    blocks,
    documented,
    held_by_rule,
    layout,
    plain,
    scripts,
    short,
)
from volatility.cli import main as cli
from volatility.settings import Environment, Schedules, Settings
from volatility.streaming.log import DEAD_LETTER, LAYOUT, PREDICTIONS, TICKS

DOCS = ROOT / "docs"


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


@pytest.mark.parametrize("path", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_link_leads_somewhere(path: Path) -> None:
    broken = []
    for link in LINK.findall(plain(path)):
        if link.startswith(("http://", "https://")):
            continue
        address, _, anchor = link.partition("#")
        target = (path.parent / address).resolve() if address else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_document_is_reached_from_the_readme() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for link in LINK.findall(plain(path)):
            target = (path.parent / link.partition("#")[0]).resolve()
            if target.is_dir():
                waiting += target.glob("*.md")
            elif target.suffix == ".md":
                waiting.append(target)
    assert set(DOCUMENTS) <= seen


def test_every_command_has_a_test() -> None:
    known = {*HELD, *(command for group in RUN.values() for command in group)}
    shown = documented()
    without = {c: where for c, where in shown.items() if c not in known and not held_by_rule(c)}
    assert without == {}
    assert known - shown.keys() == set(), "no document shows these any more"


def test_every_named_test_is_there() -> None:
    for name in {*HELD.values(), *filter(None, map(held_by_rule, documented()))}:
        file, _, function = name.partition("::")
        assert f"def {function}(" in (ROOT / file).read_text(), name


def test_commands_are_read_as_a_shell_reads_them() -> None:
    text = "make test  # all of it\n\n# nothing\ncurl -d '{\n  }' \\\n  localhost\nset -a; . ./x\n"
    assert [short(script) for script in scripts(text)] == [
        "make test",
        "curl -d { } localhost",
        "set -a; . ./x",
    ]


def test_the_layout_map_lists_the_directories_that_exist() -> None:
    (shown,) = [layout(b.text) for b in blocks(ROOT / "README.md") if "volatility/" in b.text]
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    paths = [Path(name) for name in tracked if (ROOT / name).exists()]
    top = {path.parts[0] for path in paths if len(path.parts) > 1}
    packages = {
        path.parts[1]
        for path in paths
        if path.parts[0] == "volatility" and len(path.parts) == 3 and path.name == "__init__.py"
    }
    assert set(shown) == {name for name in top if not name.startswith(".")}
    assert set(shown["volatility"]) == packages
    assert all(not inner for name, inner in shown.items() if name != "volatility")


def test_the_layout_map_lists_the_packages_in_the_order_of_their_layers() -> None:
    (shown,) = [layout(b.text) for b in blocks(ROOT / "README.md") if "volatility/" in b.text]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [c["layers"] for c in contracts["contracts"] if c.get("exhaustive")]
    place = {
        name.strip(" ()"): number
        for number, layer in enumerate(reversed(layers))
        for name in re.split("[|:]", layer)
    }
    places = [place[name] for name in shown["volatility"]]
    assert places == sorted(places)


def superseded(path: Path) -> bool:
    """Check whether a decision record describes what has since been replaced or removed."""
    return re.search(r"^Status: superseded", path.read_text(), re.MULTILINE) is not None


def inline() -> list[str]:
    """List the commands in sentences; a superseded decision record may name those of its time."""
    current = [path for path in DOCUMENTS if not superseded(path)]
    return sorted({c for path in current for c in INLINE.findall(path.read_text())})


@pytest.mark.parametrize("command", inline())
def test_every_command_in_a_sentence_exists(command: str) -> None:
    words = command.replace("'", "").split()
    if words[0] == "volatility":
        words = words[3:] if words[1] == "--params" else words[1:]
        if words[0] == "COMMAND":
            return
        found = cli.main.get_command(click.Context(cli.main), words[0])
        assert found is not None
        known = {name for option in found.params for name in (*option.opts, *option.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known
    elif words[:3] == ["prefect", "deployment", "run"]:
        flow, _, name = words[3].partition("/")
        assert flow == "FLOW" or hasattr(Schedules(), flow)
        assert name == "scheduled"
    elif words[0] == "prefect":
        assert command in {"prefect deploy --all", "prefect server start"}
    elif words[0] == "docker":
        services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
        parts = [word for word in words[2:] if not word.startswith("-")]
        known = {"up", "down", "ps", "logs", "restart", "exec", "live", "100", "SERVICE", *services}
        assert set(parts) <= known
    else:
        assert importlib.util.find_spec(words[2]) is not None


@pytest.mark.parametrize("name", figures.DOCUMENTS)
def test_quoted_figures_are_those_last_measured(name: str) -> None:
    text = (ROOT / name).read_text()
    assert figures.BLOCK.search(text)
    assert figures.renewed(text) == text, "run `python -m benchmarks.figures`"


@pytest.mark.parametrize("name", ["README.md", "docs/selection.md"])
def test_the_leaderboard_is_written_from_the_study(name: str) -> None:
    board = figures.leaderboard()
    assert board in (ROOT / name).read_text()
    for venue in VENUES:
        assert f"| {venue}: " in board
    assert "targets are met" in board


def tables(text: str) -> list[tuple[str, str]]:
    """Return the first two cells of each row of the tables, without code marks."""
    return re.findall(r"^\| `(\w+)` \| `?(.*?)`? \|", text, re.MULTILINE)


def test_every_parameter_is_described_with_its_default() -> None:
    text = (DOCS / "configuration.md").read_text().partition("## Environment")[0]
    sections = re.split(r"^### (\w+)$", text, flags=re.MULTILINE)[1:]
    described = {
        name: {key: yaml.safe_load(value) for key, value in tables(body)}
        for name, body in zip(sections[::2], sections[1::2], strict=True)
    }
    defaults = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert described == defaults
    assert described.keys() == msgspec.to_builtins(Settings()).keys()


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", DOCS / "configuration.md"],
    ids=names([ROOT / "README.md", DOCS / "configuration.md"]),
)
def test_every_variable_is_described_with_its_default(path: Path) -> None:
    text = path.read_text().partition("| variable | default |")[2].partition("\n\n")[0]
    described = {name: "" if value.startswith("unset") else value for name, value in tables(text)}
    defaults = msgspec.to_builtins(Environment())
    assert described == {name.upper(): str(value) for name, value in defaults.items()}


def test_the_example_lists_what_is_described_and_no_more() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))
    text = (DOCS / "configuration.md").read_text()
    silent = dict(tables(text.partition("| variable | value |")[2]))
    for name in ("COMPOSE_PROFILES", "VENUE"):
        assert re.search(rf"`{name}`.*`{example.pop(name)}`", text)
    for name in [name for name in example if name.endswith("_PORT")]:
        assert f"`{name}` ({example.pop(name)})" in text
    settings = {name.upper() for name in Environment.__struct_fields__}
    assert {name: value for name, value in example.items() if name not in settings} == silent
    assert settings <= example.keys()


def test_every_alert_is_answered_by_one_role() -> None:
    rules = sorted((ROOT / "monitoring" / "prometheus").rglob("rules/*.yml"))
    alerts = [
        rule["alert"]
        for path in rules
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    text = (DOCS / "team.md").read_text()
    lines = re.findall(r"\*\*Answers\*\*(.*?)^- ", text, re.DOTALL | re.MULTILINE)
    answered = [name for line in lines for name in re.findall(r"`(\w+)`", line)]
    assert sorted(answered) == sorted(alerts)


def test_what_a_role_owns_is_there() -> None:
    text = (DOCS / "team.md").read_text()
    roles = re.split(r"^## ", text, flags=re.MULTILINE)[1:-1]
    assert len(roles) == 6
    for role in roles:
        owned = role.partition("**Owns**")[2].partition("- **")[0]
        others = {TICKS, LAYOUT, PREDICTIONS, DEAD_LETTER, *Settings.__struct_fields__}
        names = [name for name in re.findall(r"`([\w./-]+)`", owned) if name not in others]
        assert names
        for name in names:
            assert (ROOT / name).exists(), name


def test_the_pictures_are_small_and_described_in_words() -> None:
    pictures = sorted((DOCS / "images").iterdir())
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 200_000
    drawn = (DOCS / "images" / "architecture.svg").read_text()
    assert "<title" in drawn
    assert "<desc" in drawn
    assert "href" not in drawn
    for path in DOCUMENTS:
        for text, _ in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", path.read_text()):
            assert len(text) > 40, f"{path.name}: a picture without words"


@pytest.mark.parametrize("module", [figures, documents], ids=["figures", "documents"])
def test_their_examples_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_a_missing_measure_is_an_error() -> None:
    with pytest.raises(ValueError, match="no measure speed"):
        figures.find(read(figures.RESULTS / "serving.json"), "speed")
