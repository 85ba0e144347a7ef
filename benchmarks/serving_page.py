"""Render the page of the serving benchmark: latency by request rate, and all figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks.results import Row, missed
from benchmarks.serving_names import BARE, BENTO, HELLO, OURS, USUAL
from benchmarks.serving_rows import BOUND_MS, Found, Ramp, highest_rate, kept_up
from volatility.files import write_json, write_whole
from volatility.reports import GREY, inline, render

SIZE_INCHES = (11.0, 4.6)
# Okabe and Ito's palette, as in the other reports; markers add a second cue.
STYLE: dict[str, tuple[str, str]] = {
    OURS: ("#0072B2", "o"),
    USUAL: ("#D55E00", "s"),
    HELLO: ("#009E73", "^"),
    BENTO: ("#CC79A7", "D"),
    BARE: (GREY, "v"),
}
RATE_TICKS = (100, 200, 500, 1000, 2000, 4000, 8000)
LATENCY_TICKS_MS = (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def write_page(rows: Sequence[Row], found: Found, folder: Path) -> Path:
    """Write ``serving.html`` and its data ``serving.json``; return the page."""
    page = render(
        "serving.html",
        found=found,
        servers=list(found.ramp),
        promised=[row for row in rows if row.met is not None],
        missed=missed(rows),
        machine=rows[0],
        rates=sorted({rate for ramp in found.ramp.values() for rate, _ in ramp}),
        ramp={name: cells(ramp) for name, ramp in found.ramp.items()},
        highest={name: highest_rate(ramp) for name, ramp in found.ramp.items()},
        bound_ms=BOUND_MS,
        plot=inline(latency_figure(found.ramp)),
    )
    write_json(folder / "serving.json", asdict(found))
    return write_whole(folder / "serving.html", page)


def cells(ramp: Ramp) -> dict[int, dict[str, Any]]:
    """Return the table's values by rate: p50 and p99 [ms], and whether it was sustained."""
    return {
        rate: {"p50_ms": load.p50_ms, "p99_ms": load.p99_ms, "kept": kept_up(rate, load)}
        for rate, load in ramp
    }


def latency_figure(ramp: Mapping[str, Ramp]) -> Figure:
    """Draw p50 and p99 by rate, one line per server; hollow markers are not sustained."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _panel(left, "Median", ramp, "p50_ms")
    _panel(right, "p99", ramp, "p99_ms")
    left.set_ylabel("time to the answer [ms]")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(
        handles, labels, frameon=False, fontsize=9, ncols=len(labels), loc="outside lower center"
    )
    return figure


def _panel(axes: Axes, title: str, ramp: Mapping[str, Ramp], quantile: str) -> None:
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for name, entries in ramp.items():
        color, marker = STYLE[name]
        width, order = (2.4, 4) if name == OURS else (1.3, 3)
        latency = [getattr(load, quantile) for _, load in entries]
        rates = [rate for rate, _ in entries]
        axes.plot(rates, latency, color=color, marker=marker, markersize=5, linewidth=width,
                  zorder=order, label=name)  # fmt: skip
        lost = [k for k, (rate, load) in enumerate(entries) if not kept_up(rate, load)]
        axes.plot([rates[k] for k in lost], [latency[k] for k in lost], linestyle="",
                  color=color, marker=marker, markersize=8, markerfacecolor="white",
                  markeredgewidth=1.6, zorder=order + 1)  # fmt: skip
    axes.axhline(BOUND_MS, color=GREY, linestyle="--", linewidth=1.0)
    axes.set_xlabel("requests a second")
    for axis, ticks in ((axes.xaxis, RATE_TICKS), (axes.yaxis, LATENCY_TICKS_MS)):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_ticks(ticks)
        axis.set_minor_locator(NullLocator())
    times = [getattr(load, quantile) for entries in ramp.values() for _, load in entries]
    axes.set_ylim(min([0.2, *times]) * 0.8, max([BOUND_MS, *times]) * 1.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e3e7ec", linewidth=0.8)
    axes.set_axisbelow(True)
