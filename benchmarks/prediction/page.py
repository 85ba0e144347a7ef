"""Write the study as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from benchmarks.prediction.rows import StudyRow
from volatility.files import write_whole
from volatility.reports import GREY, inline, render

if TYPE_CHECKING:
    from benchmarks.prediction.study import Venue

BLUE = "#0072B2"
MOST = 2.0  # QLIKE: a larger difference would shrink the others to dots
MAIN = "QLIKE of ml less best simple"
POOL = "equal-weight pool of all venues, qlike"


def write(rows: Sequence[StudyRow], venues: Sequence[Venue], path: Path) -> Path:
    """Write ``study.html``: verdict, venues, transfer, ablations, and every row."""
    promised = [row for row in rows if row.met is not None]
    page = render(
        "study.html",
        rows=rows,
        promised=promised,
        missed=[row for row in promised if not row.met],
        venues=[venue.name for venue in venues],
        skill=inline(forest([r for r in rows if MAIN in r.measure or r.measure.startswith(POOL)])),
        transfer=inline(forest([r for r in rows if r.measure.startswith("pool of")])),
        ablation=inline(forest([r for r in rows if r.measure.startswith("pool, newest")])),
    )
    return write_whole(path, page)


def forest(rows: Sequence[StudyRow]) -> Figure:
    """Draw differences with intervals, one per line; left of zero, the first model is better."""
    shown = [
        row
        for row in rows
        if row.difference is not None and row.interval is not None and abs(row.difference) < MOST
    ]
    figure = Figure(figsize=(11.0, 0.9 + 0.34 * max(len(shown), 1)), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(reversed(shown)):
        assert row.difference is not None
        assert row.interval is not None
        low, high = row.interval
        axes.plot([low, high], [place, place], color=BLUE, linewidth=1.6)
        axes.plot(row.difference, place, "o", color=BLUE, markersize=5)
    axes.axvline(0.0, color=GREY, linewidth=1.0)
    axes.set_yticks(range(len(shown)), [row.measure for row in reversed(shown)], fontsize=8)
    axes.set_xlabel("difference of QLIKE, 95 % interval; below zero is better")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e3e7ec", linewidth=0.8, axis="x")
    return figure
