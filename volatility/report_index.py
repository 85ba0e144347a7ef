"""Write ``index.html``: every report of a folder, its time and its result in one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from volatility.pages import moment, percent, render, write_whole
from volatility.report import verdict

INDEX = "index.html"


@dataclass(frozen=True)
class Summary:
    """Say a report's result in one line; ``state`` is the colour of its box."""

    state: str
    sentence: str


@dataclass(frozen=True)
class Entry:
    """Describe one report: title, time [s since the epoch], files relative to the index."""

    title: str
    modified_seconds: float
    files: tuple[tuple[str, str], ...]
    summary: Summary
    image: str | None = None


def _evaluation(content: Mapping[str, Any]) -> Summary:
    found = verdict(content)
    return Summary(found.state, found.sentence)


def _drift(content: Mapping[str, Any]) -> Summary:
    alert = bool(content["alert"])
    return Summary(
        "worse" if alert else "better",
        f"{content['drifted_features']} of {content['features']} model inputs have drifted"
        f" ({percent(content['drift_share'])}); {'alert' if alert else 'no alert'}."
        f" Current rows from {moment(content['current']['start'])}"
        f" to {moment(content['current']['stop'])}.",
    )


REPORTS: tuple[tuple[str, str, Callable[[Mapping[str, Any]], Summary]], ...] = (
    ("evaluation", "Evaluation", _evaluation),
    ("drift", "Drift", _drift),
)


def write_index(folder: Path) -> Path:
    """Write ``index.html`` with links, relative ones alone, to what the folder holds.

    A report that cannot be read is named as such, and the others still stand.
    """
    entries = [
        _known(folder, stem, title, summarise)
        for stem, title, summarise in REPORTS
        if _files(folder, stem)
    ]
    taken = {INDEX} | {f"{stem}.html" for stem, _, _ in REPORTS}
    others = sorted(
        path for path in folder.rglob("*.html") if path.relative_to(folder).as_posix() not in taken
    )
    entries += [_other(folder, path) for path in others]
    picture = folder / "simulator.png"
    if picture.exists():
        entries.append(
            Entry(
                "Simulator",
                picture.stat().st_mtime,
                _links(folder, [picture]),
                Summary("unknown", "The simulated market beside the recorded one."),
                image=picture.name,
            )
        )
    return write_whole(folder / INDEX, render(INDEX, entries=entries))


def _known(
    folder: Path, stem: str, title: str, summarise: Callable[[Mapping[str, Any]], Summary]
) -> Entry:
    files = _files(folder, stem)
    content = folder / f"{stem}.json"
    try:
        summary = summarise(json.loads(content.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        summary = Summary("worse", f"{content.name} cannot be read; run `volatility {stem}` again.")
    return Entry(title, max(f.stat().st_mtime for f in files), _links(folder, files), summary)


def _other(folder: Path, path: Path) -> Entry:
    files = [file for file in (path, path.with_suffix(".json")) if file.exists()]
    name = path.relative_to(folder).with_suffix("").as_posix()
    title = name[:1].upper() + name[1:].replace("_", " ").replace("/", ": ")
    return Entry(title, path.stat().st_mtime, _links(folder, files), Summary("unknown", ""))


def _files(folder: Path, stem: str) -> list[Path]:
    return [f for f in (folder / f"{stem}.html", folder / f"{stem}.json") if f.exists()]


def _links(folder: Path, files: list[Path]) -> tuple[tuple[str, str], ...]:
    names = [file.relative_to(folder).as_posix() for file in files]
    return tuple((quote(name), name) for name in names)
