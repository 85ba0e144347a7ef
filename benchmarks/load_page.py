"""Render the page of the load test: responses in each burst, and latency by request rate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks.serving_page import LATENCY_TICKS_MS, RATE_TICKS
from benchmarks.serving_rows import BOUND_MS, kept_up
from volatility.files import write_json, write_whole
from volatility.reports import GREY, inline, render, write_index

if TYPE_CHECKING:
    from benchmarks.load import Found

SIZE_INCHES = (11.0, 4.4)
MEDIAN, P99 = "#0072B2", "#D55E00"  # Okabe and Ito's palette, as in the other reports


def write_page(found: Found, sentence: str, slo_ms: float, folder: Path) -> Path:
    """Write ``load.html`` and its data ``load.json``; return the page."""
    content = {
        "model": found.model,
        "measured": time.time(),
        "passed": found.passed,
        "keeps_up": found.keeps_up,
        "within_slo": found.within_slo,
        "slo_ms": slo_ms,
        "bound_ms": BOUND_MS,
        "burst_p95_ms": found.burst_p95_ms,
        "bursts": [{"times_ms": b.times_ms, "failed": b.failed} for b in found.bursts],
        "ramp": [
            {
                "rate": rate,
                "answered_per_second": load.per_second,
                "p50_ms": load.p50_ms,
                "p99_ms": load.p99_ms,
                "requests": load.requests,
                "failed": load.failed,
                "kept": kept_up(rate, load),
            }
            for rate, load in found.ramp
        ],
    }
    page = render("load.html", found=content, sentence=sentence, plot=inline(draw(found, slo_ms)))
    write_json(folder / "load.json", content)
    written = write_whole(folder / "load.html", page)
    write_index(folder)
    return written


def draw(found: Found, slo_ms: float) -> Figure:
    """Draw both panels; hollow markers are rates that the service cannot sustain."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.35))
    for burst in found.bursts:
        left.plot(sorted(burst.times_ms), np.arange(1, len(burst.times_ms) + 1),
                  color=MEDIAN, alpha=0.35, linewidth=1.2)  # fmt: skip
    left.set_xlim(left=0.0)
    left.set_ylim(bottom=0.0)
    left.set_xlabel("time since the burst [ms]")
    left.set_ylabel("requests answered")
    _title(left, f"{len(found.bursts)} bursts of {len(found.bursts[0].times_ms)} at once")

    right.set_xscale("log")
    right.set_yscale("log")
    rates = [rate for rate, _ in found.ramp]
    lost = [k for k, (rate, load) in enumerate(found.ramp) if not kept_up(rate, load)]
    latencies = []
    for name, key, color in (("median", "p50_ms", MEDIAN), ("p99", "p99_ms", P99)):
        taken = [getattr(load, key) for _, load in found.ramp]
        latencies += taken
        right.plot(rates, taken, color=color, marker="o", markersize=5, linewidth=2.0, label=name)
        hollow = {"markerfacecolor": "white", "markeredgewidth": 1.6, "markersize": 8}
        right.plot([rates[k] for k in lost], [taken[k] for k in lost], "o", color=color, **hollow)
    for bound, name, style in ((slo_ms, "objective", ":"), (BOUND_MS, "keeps up", "--")):
        right.axhline(bound, color=GREY, linestyle=style, linewidth=1.1,
                      label=f"{name}: {bound:.0f} ms")  # fmt: skip
    right.set_xlabel("requests a second")
    right.set_ylabel("time to the answer [ms]")
    for axis, ticks in ((right.xaxis, RATE_TICKS), (right.yaxis, LATENCY_TICKS_MS)):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_ticks(ticks)
        axis.set_minor_locator(NullLocator())
    right.set_ylim(min([0.2, *latencies]) * 0.8, max([BOUND_MS, *latencies]) * 1.5)
    right.legend(frameon=False, fontsize=9, loc="upper left")
    _title(right, "Open-loop ramp")
    return figure


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=12, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e3e7ec", linewidth=0.8)
    axes.set_axisbelow(True)
