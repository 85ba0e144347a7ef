"""Write ``index.html``: every report in a folder with its time and one-line result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import msgspec

from volatility.evaluation import Evaluation, LivePerformance
from volatility.files import write_whole
from volatility.reports.evaluation import verdict
from volatility.reports.pages import moment, percent, render
from volatility.reports.performance import verdict as live_verdict

INDEX = "index.html"


@dataclass(frozen=True)
class Summary:
    """Represent a report's one-line result; ``state`` selects the colour of its box."""

    state: str
    sentence: str


@dataclass(frozen=True)
class Entry:
    """Represent one report: title, time [s since the epoch], files relative to the index."""

    title: str
    modified_seconds: float
    files: tuple[tuple[str, str], ...]
    summary: Summary
    image: str | None = None


def _evaluation(content: bytes) -> Summary:
    found = verdict(msgspec.json.decode(content, type=Evaluation))
    return Summary(found.state, found.sentence)


class _Side(msgspec.Struct):
    start: str
    stop: str


class _Drift(msgspec.Struct):
    """Read what the index shows of ``drift.json``."""

    alert: bool
    drifted_features: int
    features: int
    drift_share: float
    current: _Side


def _drift(content: bytes) -> Summary:
    found = msgspec.json.decode(content, type=_Drift)
    return Summary(
        "worse" if found.alert else "better",
        f"{found.drifted_features} of {found.features} model inputs have drifted"
        f" ({percent(found.drift_share)}); {'alert' if found.alert else 'no alert'}."
        f" Current rows from {moment(found.current.start)} to {moment(found.current.stop)}.",
    )


def _performance(content: bytes) -> Summary:
    found = live_verdict(msgspec.json.decode(content, type=LivePerformance))
    return Summary(found.state, found.sentence)


@dataclass(frozen=True)
class Report:
    """Represent a report written by the stages: stem, title, content and summary."""

    stem: str
    title: str
    content: str
    summarise: Callable[[bytes], Summary]

    def files(self, folder: Path) -> list[Path]:
        """Return the page, the content, and then earlier pages, newest first."""
        newest = [folder / f"{self.stem}.html", folder / self.content]
        earlier = sorted((folder / self.stem).glob("*.html"), reverse=True)
        return [path for path in newest if path.exists()] + earlier


REPORTS = (
    Report("evaluation", "Evaluation", "evaluation.json", _evaluation),
    Report("performance", "Live performance", "performance/latest.json", _performance),
    Report("drift", "Drift", "drift.json", _drift),
)


def write_index(folder: Path) -> Path:
    """Write ``index.html`` with relative links to all reports in the folder.

    An unreadable report is listed as such and does not affect the others.
    """
    entries = [_known(folder, report) for report in REPORTS if report.files(folder)]
    taken = {folder / INDEX, *(path for report in REPORTS for path in report.files(folder))}
    others = sorted(path for path in folder.rglob("*.html") if path not in taken)
    entries += [_other(folder, path) for path in others]
    picture = folder / "simulator.png"
    if picture.exists():
        entries.append(
            Entry(
                "Simulator",
                picture.stat().st_mtime,
                _links(folder, [picture]),
                Summary("unknown", "Comparison of the simulated market with the recordings."),
                image=picture.name,
            )
        )
    return write_whole(folder / INDEX, render(INDEX, entries=entries))


def _known(folder: Path, report: Report) -> Entry:
    files = report.files(folder)
    try:
        summary = report.summarise((folder / report.content).read_bytes())
    except (OSError, ValueError, LookupError, msgspec.MsgspecError):
        text = f"{report.content} cannot be read; run `volatility {report.stem}` again."
        summary = Summary("worse", text)
    modified = max(file.stat().st_mtime for file in files)
    return Entry(report.title, modified, _links(folder, files), summary)


def _other(folder: Path, path: Path) -> Entry:
    files = [file for file in (path, path.with_suffix(".json")) if file.exists()]
    name = path.relative_to(folder).with_suffix("").as_posix()
    title = name[:1].upper() + name[1:].replace("_", " ").replace("/", ": ")
    return Entry(title, path.stat().st_mtime, _links(folder, files), Summary("unknown", ""))


def _links(folder: Path, files: list[Path]) -> tuple[tuple[str, str], ...]:
    names = [file.relative_to(folder).as_posix() for file in files]
    return tuple((quote(name), name) for name in names)
