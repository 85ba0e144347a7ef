"""Draw the figures of an evaluation, for its report, MLflow and DVC, and of live performance.

Figures are made without pyplot, so drawing keeps no global state and needs no display.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from volatility.pages import write_whole

NAMES = ("precision_recall", "reliability", "per_day", "importances")
SIZE_INCHES = (6.4, 4.2)
TOP_FEATURES = 15
MOST_DATE_LABELS = 8
GREY = "#5f6b7a"
# Okabe and Ito's palette: told apart with any colour vision; markers say it once more.
STYLE = {
    "ml": ("#0072B2", "o"),
    "har": ("#D55E00", "s"),
    "ewma": ("#009E73", "^"),
    "garch": ("#CC79A7", "D"),
    "persistence": ("#E69F00", "v"),
    "champion": ("#0072B2", "o"),
    "challenger": ("#009E73", "^"),
    "baseline": ("#D55E00", "s"),
}


def figures(evaluation: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw the precision-recall, reliability, per-day and importance figures, by name."""
    draw = (_precision_recall, _reliability, _per_day, _importances)
    return {name: figure(evaluation) for name, figure in zip(NAMES, draw, strict=True)}


def write_plots(evaluation: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the figures as PNG files, each whole or not at all."""
    return [
        write_whole(folder / f"{name}.png", _bytes(figure, "png"))
        for name, figure in figures(evaluation).items()
    ]


def live(performance: Mapping[str, Any]) -> Figure:
    """Draw how the live PR-AUC of each model came and went, beside the base rate."""
    figure, axes = _axes("Live PR-AUC over time", "", "PR-AUC")
    points = performance["rolling"]
    if not points:
        _empty(axes)
        return figure
    time = np.array([point["time"][:19] for point in points], dtype="datetime64[s]")  # UTC
    for name in ranked(performance["models"]):
        area = _floats([point["pr_auc"][name] for point in points])
        axes.plot(time, area, markersize=3.5, **_style(name))
    base = _floats([point["base_rate"] for point in points])
    axes.plot(time, base, color=GREY, linestyle="--", linewidth=1.3, label="base rate")
    axes.tick_params(axis="x", labelrotation=25)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9)
    return figure


def inline(figure: Figure) -> str:
    """Give a figure as a ``data:`` address for an image tag; equal figures, equal text."""
    return "data:image/svg+xml;base64," + base64.b64encode(_bytes(figure, "svg")).decode()


def ranked(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Order model names by PR-AUC, best first; the undefined last, equals by name."""

    def key(name: str) -> tuple[bool, float, str]:
        area = models[name].get("pr_auc")
        return area is None, -(area or 0.0), name

    return sorted(models, key=key)


def _bytes(figure: Figure, kind: str) -> bytes:
    # A fixed salt and no date or version: the same evaluation gives the same bytes.
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "volatility"}):
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()


def _axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e3e7ec", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _style(name: str) -> dict[str, Any]:
    color, marker = STYLE.get(name, (GREY, "x"))
    ml = name in {"ml", "champion"}
    return {
        "color": color,
        "marker": marker,
        "linewidth": 2.4 if ml else 1.3,
        "zorder": 4 if ml else 3,
        "label": name,
    }


def _empty(axes: Axes) -> None:
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])


def _precision_recall(evaluation: Mapping[str, Any]) -> Figure:
    figure, axes = _axes("Precision and recall", "recall", "precision")
    models, curves = evaluation["models"], evaluation["curves"]
    for name in [name for name in ranked(models) if name in curves]:
        curve, area = curves[name], models[name]["pr_auc"]
        style = _style(name) | {"marker": None}
        style["label"] = name if area is None else f"{name} {area:.3f}"
        axes.plot(curve["recall"], curve["precision"], **style)
    if not curves:
        _empty(axes)
        return figure
    base_rate = evaluation["base_rate"]
    axes.axhline(
        base_rate, color=GREY, linestyle="--", linewidth=1.3, label=f"base rate {base_rate:.3f}"
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.legend(title="PR-AUC", frameon=False, fontsize=9, title_fontsize=9)
    return figure


def _reliability(evaluation: Mapping[str, Any]) -> Figure:
    figure, axes = _axes("Reliability", "mean score of a tenth of the rows", "share of spikes")
    top = 0.0
    bins = evaluation["reliability"]
    for name in [name for name in ranked(evaluation["models"]) if name in bins]:
        score, share = _floats(bins[name]["score"]), _floats(bins[name]["share"])
        axes.plot(score, share, markersize=4.5, **_style(name))
        top = max(top, float(np.nanmax([*score, *share, 0.0])))
    if not bins:
        _empty(axes)
        return figure
    top = min(1.0, 1.05 * top) or 1.0
    axes.plot([0, top], [0, top], color=GREY, linestyle="--", linewidth=1.3, label="perfect")
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _per_day(evaluation: Mapping[str, Any]) -> Figure:
    figure, axes = _axes("PR-AUC by day", "", "PR-AUC")
    days = evaluation["per_day"]
    if not days:
        _empty(axes)
        return figure
    names = [name for name in ranked(evaluation["models"]) if name in days[0]["pr_auc"]]
    place = np.arange(len(days))
    for k, name in enumerate(names):
        shift = 0.6 * ((k + 0.5) / len(names) - 0.5)
        area = _floats([day["pr_auc"].get(name) for day in days])
        size = 6.0 if len(days) <= 2 * MOST_DATE_LABELS else 3.5
        axes.plot(place + shift, area, **_style(name) | {"linestyle": "", "markersize": size})
    axes.hlines(
        _floats([day["base_rate"] for day in days]),
        place - 0.4,
        place + 0.4,
        colors=GREY,
        linestyles="--",
        linewidth=1.3,
        label="base rate",
    )
    labelled = place[:: -(-len(days) // MOST_DATE_LABELS)]
    axes.set_xticks(labelled, [days[k]["date"] for k in labelled], rotation=25, ha="right")
    axes.set_xlim(-0.6, len(days) - 0.4)
    axes.set_ylim(bottom=0)
    axes.grid(visible=False, axis="x")
    figure.legend(frameon=False, fontsize=9, ncols=len(names) + 1, loc="outside lower center")
    return figure


def _importances(evaluation: Mapping[str, Any]) -> Figure:
    figure, axes = _axes("What the model relies on", "drop of PR-AUC when shuffled", "")
    rows = evaluation["importances"][:TOP_FEATURES]
    if not rows:
        _empty(axes)
        return figure
    place = np.arange(len(rows))[::-1]
    axes.barh(
        place,
        _floats([row["importance"] for row in rows]),
        xerr=_floats([row["standard_deviation"] or 0.0 for row in rows]),
        color=STYLE["ml"][0],
        error_kw={"ecolor": GREY, "elinewidth": 1.2},
        height=0.7,
    )
    axes.set_yticks(place, [row["feature"] for row in rows], fontsize=8.5)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.grid(visible=False, axis="y")
    return figure


def _floats(values: Sequence[float | None]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
