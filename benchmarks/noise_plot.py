"""Plot what evaluations find in noise: their PR-AUC, and two precision-recall curves."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from volatility.files import write_whole
from volatility.reports import GREY

WRONG, RIGHT = "#D55E00", "#0072B2"  # Okabe and Ito's palette, as in the reports
SIZE_INCHES = (11.0, 4.0)
CURVE_POINTS = 300

Curve = tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]


def write(
    areas: Mapping[str, Sequence[float]], base_rate: float, curves: Mapping[str, Curve], path: Path
) -> Path:
    """Write a plot of each evaluation's PR-AUC on each market, and some curves on one."""
    figure = draw(areas, base_rate, curves)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return write_whole(path, buffer.getvalue())


def draw(
    areas: Mapping[str, Sequence[float]], base_rate: float, curves: Mapping[str, Curve]
) -> Figure:
    """Draw both panels, with evaluations near the base rate in blue and others in orange."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1.0))
    colors = {
        name: RIGHT if np.mean(values) < 2.0 * base_rate else WRONG
        for name, values in areas.items()
    }
    for place, (name, values) in enumerate(reversed(list(areas.items()))):
        mean = float(np.mean(values))
        left.barh(place, mean, height=0.58, color=colors[name], alpha=0.85)
        left.plot(values, [place] * len(values), "o", color="#1c2733", markersize=3)
        left.annotate(
            f"{mean:.2f}", (max(values), place), (7, 0), textcoords="offset points", va="center"
        )
    left.set_yticks(range(len(areas)), list(areas)[::-1])
    left.set_xlim(0.0, 1.12)
    left.set_xlabel("PR-AUC on pure noise")
    left.axvline(base_rate, color=GREY, linestyle="--", linewidth=1.2)
    left.annotate(
        f"base rate {base_rate:.2f}: all there is to know",
        (base_rate, -0.5), (6, -1), textcoords="offset points", color=GREY, fontsize=8, va="bottom",
    )  # fmt: skip
    _title(left, "What evaluations find where there is nothing")

    for name, (spikes, scores) in curves.items():
        precision, recall, _ = precision_recall_curve(spikes, scores)
        kept = np.unique(np.linspace(0, len(recall) - 1, CURVE_POINTS).astype(int))
        right.plot(recall[kept], precision[kept], color=colors[name], linewidth=2.0, label=name)
    right.axhline(base_rate, color=GREY, linestyle="--", linewidth=1.2, label="base rate")
    right.set_xlim(0.0, 1.0)
    right.set_ylim(0.0, 1.02)
    right.set_xlabel("recall")
    right.set_ylabel("precision")
    right.legend(frameon=False, fontsize=8, loc="center", bbox_to_anchor=(0.5, 0.42))
    _title(right, "Same rows, label and forest")
    return figure


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
