"""Write drift reports: the newest at the path that DVC tracks, and one per run."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from volatility.evaluation import DriftError, DriftResult
from volatility.files import plain, write_json, write_whole
from volatility.reports.pages import render, stamp

FOLDER = "drift"


def write_drift(result: DriftResult, folder: Path) -> list[Path]:
    """Write ``drift.json`` and ``drift.html``; equal results give equal files."""
    page = drift_page(result, index="index.html", data="drift.json")
    return [
        write_json(folder / "drift.json", result.summary()),
        write_whole(folder / "drift.html", page),
    ]


def archive_drift(result: DriftResult, folder: Path, now: datetime, keep_html: int) -> list[Path]:
    """Write a run under ``drift/``, named after its time, and ``drift/latest.json``.

    Pages are 4 MB each, so only the newest ``keep_html`` are kept; all JSON files are kept.
    """
    name = stamp(now)
    page = drift_page(result, index="../index.html", data=f"{name}.json")
    content = result.summary() | {"checked": now.isoformat(timespec="seconds")}
    runs = folder / FOLDER
    written = [
        write_json(runs / f"{name}.json", content),
        write_whole(runs / f"{name}.html", page),
        write_json(runs / "latest.json", content),
    ]
    for old in sorted(runs.glob("*Z.html"), reverse=True)[keep_html:]:
        old.unlink(missing_ok=True)
    return written


def drift_page(result: DriftResult, *, index: str, data: str) -> str:
    """Insert a summary with links to ``index`` and ``data`` above Evidently's page."""
    head, body, rest = result.html.partition("<body>")
    if not body:
        raise DriftError("Evidently's page has no body; check its version")
    unmeasured = [f.feature for f in result.per_feature if f.distance is None]
    came_or_went = [
        f.feature
        for f in result.per_feature
        if f.drifted and (f.distance or 0.0) < result.threshold
    ]
    summary = render(
        "drift.html",
        drift=plain(result.summary()),
        unmeasured=unmeasured,
        came_or_went=came_or_went,
        index=index,
        data=data,
    )
    return head + body + summary + rest
