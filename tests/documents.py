"""Read the documents as a reader does: blocks, commands, links; name each command's test."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`((?:volatility|prefect|docker compose|python -m) [^`]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """Represent one fenced block: the document, the language, the text."""

    document: str
    language: str
    text: str


def blocks(path: Path) -> list[Block]:
    """List the fenced blocks of a document, in order."""
    name = path.relative_to(ROOT).as_posix()
    return [
        Block(name, language, re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))
        for indent, language, text in FENCE.findall(path.read_text())
    ]


def scripts(text: str) -> Iterator[str]:
    """Yield the commands of a shell block as they are written, each complete."""
    held = ""
    for line in text.splitlines(keepends=True):
        held += line
        if held.endswith("\\\n"):
            continue
        try:
            words = shlex.split(held, comments=True)
        except ValueError:  # a quotation continues on the next line
            continue
        if words:
            yield held
        held = ""


def short(script: str) -> str:
    """Return a command on one line, without quotes and comment: its name in the lists below.

    >>> short("curl -d '{\\n}' \\\\\\n  localhost  # ask")
    'curl -d { } localhost'
    """
    return " ".join(" ".join(shlex.split(script, comments=True)).split())


def documented() -> dict[str, list[str]]:
    """Return every command with the documents that show it."""
    found: dict[str, list[str]] = {}
    for path in DOCUMENTS:
        for block in blocks(path):
            if block.language == "sh":
                for script in scripts(block.text):
                    found.setdefault(short(script), []).append(block.document)
    return found


def plain(path: Path) -> str:
    """Return a document without its fenced blocks, where brackets are not links."""
    return FENCE.sub("", path.read_text())


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", plain(path), re.MULTILINE):
        text = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        number = sum(known == text or known.startswith(f"{text}-") for known in found)
        found.add(text if text not in found else f"{text}-{number}")
    return found


def layout(text: str) -> dict[str, list[str]]:
    """Return the directories of a layout map, each with its subdirectories.

    >>> layout("volatility/  the package\\n  lake/  parts\\ndocs/  documents\\n")
    {'volatility': ['lake'], 'docs': []}
    """
    found: dict[str, list[str]] = {}
    for indent, name in re.findall(r"^( *)([\w.-]+)/", text, re.MULTILINE):
        if indent:
            found[list(found)[-1]].append(name)
        else:
            found[name] = []
    return found


# Run as written, in this order, each list in a copy of the repository: test_documented_commands.
RUN: dict[str, list[str]] = {
    "demo": ["make demo"],
    "own ticks": [
        "volatility import recordings/",
        "volatility features",
        "volatility train",
        "volatility evaluate",
        "volatility promote",
        "bentoml serve",
    ],
    "dvc": ["dvc repro", "dvc metrics show", "python -m pipelines.chain"],
    "kafka": [
        "volatility ingest --source simulate --hours 2 --speed max",
        "volatility capture",
        "volatility score",
        "volatility capture --topic predictions",
    ],
    "environment": ["cp .env.example .env", "set -a; . ./.env; set +a"],
}

COMMANDS = "tests/integration/test_documented_commands.py"
LOOKED_UP = f"{COMMANDS}::test_every_make_target_is_there"
FLOWS = "tests/integration/test_flows_served.py"

# Run by another test, or only looked up where the test suite cannot run it.
HELD: dict[str, str] = {
    "make test": LOOKED_UP,  # it is what runs the tests
    "make test-fast": LOOKED_UP,  # a part of them
    "make lint": LOOKED_UP,  # CI runs it before the tests
    "make docs": LOOKED_UP,  # CI builds it before the tests
    "make hooks": LOOKED_UP,
    "make coverage": LOOKED_UP,  # the unit tests once more
    "make wheel": LOOKED_UP,  # tests/integration/test_wheel.py builds one
    "make install": LOOKED_UP,  # the environment that the tests run in
    # The test starts the same two processes, on other ports.
    "make prefect": f"{FLOWS}::test_a_schedule_fires_by_itself",
    "make flows": f"{FLOWS}::test_a_schedule_fires_by_itself",
    "export PREFECT_API_URL=http://127.0.0.1:4200/api": f"{FLOWS}::test_a_schedule_fires_by_itself",
    "prefect deployment run train/scheduled": (
        f"{FLOWS}::test_a_flow_runs_by_hand_and_its_failure_is_told_once"
    ),
    "volatility fetch tardis --symbol BTC-USD --from 2025-10-01 --to 2025-12-01": (
        "tests/unit/test_fetch.py::test_the_command_says_what_it_did"
    ),
    # `tests/compose/run` runs it on a real Docker engine, outside `make test`.
    "docker compose up -d --build": "tests/compose/check.py::start",
}


def held_by_rule(command: str) -> str | None:
    """Return the test of a kind of command: requests to the service, reading dead letters."""
    if command.startswith("curl ") and "localhost:3000" in command:
        return "tests/integration/test_clients.py::test_every_request_is_answered_as_shown"
    if command.startswith("python -c from kafka"):
        return f"{COMMANDS}::test_dead_letters_are_read_as_the_runbook_writes"
    if command.startswith("volatility void "):
        return "tests/integration/test_cli.py::test_a_period_is_voided_by_its_times"
    return None
