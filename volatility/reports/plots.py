"""Draw the figures of evaluations, for the report, MLflow and DVC, and of live performance.

Figures do not use pyplot, so drawing has no global state and needs no display.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure

from volatility.evaluation import Evaluation, LivePerformance
from volatility.files import write_whole
from volatility.units import Floats

Times = npt.NDArray[np.datetime64]

NAMES = ("forecast", "qlike", "per_day", "reliability", "importances")
SIZE_INCHES = (6.4, 4.2)
PANELS_INCHES = (11.0, 8.0)  # for three panels
TOP_FEATURES = 15
MOST_DATE_LABELS = 8
BREAK_STEPS = 4.0  # break a line where points are further apart than this many usual steps
SHOWN = ("ml", "prior", "baseline")  # models in the reliability figure
GREY = "#5f6b7a"
INK = "#1c2733"
# Okabe and Ito's colour-blind-safe palette; markers add a second cue.
STYLE = {
    "ml": ("#0072B2", "o"),
    "champion": ("#0072B2", "o"),
    "baseline": ("#D55E00", "s"),
    "prior": ("#009E73", "^"),
    "challenger": ("#009E73", "^"),
}
LABELS = {"baseline": "best simple"}


def figures(evaluation: Evaluation) -> dict[str, Figure]:
    """Draw the figures of an evaluation and return them by name."""
    draw = (_forecast, _qlike, _per_day, _reliability, _importances)
    return {name: figure(evaluation) for name, figure in zip(NAMES, draw, strict=True)}


def write_plots(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write the figures as PNG files, each atomically."""
    return [
        write_whole(folder / f"{name}.png", _bytes(figure, "png"))
        for name, figure in figures(evaluation).items()
    ]


def live(performance: LivePerformance) -> Figure:
    """Draw each model's live QLIKE and PR-AUC over time."""
    points = performance.rolling
    if not points:
        figure, axes = _axes("Live PR-AUC over time", "", "PR-AUC")
        _empty(axes)
        return figure
    time = _times([point.time for point in points])
    names = ranked(performance.models)
    figure = Figure(figsize=(SIZE_INCHES[0], 1.4 * SIZE_INCHES[1]), layout="constrained")
    top, axes = figure.subplots(2, sharex=True)
    _dress(top, "Live QLIKE over time: lower is better", "", "QLIKE")
    _dress(axes, "Live PR-AUC over time: higher is better", "", "PR-AUC")
    for name in names:
        loss = _floats([point.qlike[name] for point in points])
        top.plot(time, loss, markersize=3.5, **_style(name))
        area = _floats([point.pr_auc[name] for point in points])
        axes.plot(time, area, markersize=3.5, **_style(name))
    top.legend(frameon=False, fontsize=9)
    base = _floats([point.base_rate for point in points])
    axes.plot(time, base, color=GREY, linestyle="--", linewidth=1.3, label="base rate")
    axes.tick_params(axis="x", labelrotation=25)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9)
    return figure


def inline(figure: Figure) -> str:
    """Return a figure as a ``data:`` URL for an image tag; equal figures give equal text."""
    return "data:image/svg+xml;base64," + base64.b64encode(_bytes(figure, "svg")).decode()


class Measured(Protocol):
    """Represent what is known of a model's skill, offline or live."""

    @property
    def qlike(self) -> float | None:
        """Mean QLIKE."""

    @property
    def pr_auc(self) -> float | None:
        """Area under the precision-recall curve."""


def ranked(models: Mapping[str, Measured]) -> list[str]:
    """Return model names by PR-AUC, best first; undefined last, ties by name."""

    def key(name: str) -> tuple[bool, float, str]:
        area = models[name].pr_auc
        return area is None, -(area or 0.0), name

    return sorted(models, key=key)


def by_qlike(models: Mapping[str, Measured]) -> list[str]:
    """Return model names by QLIKE, lowest first; undefined last, ties by name."""

    def key(name: str) -> tuple[bool, float, str]:
        loss = models[name].qlike
        return loss is None, loss or 0.0, name

    return sorted(models, key=key)


def _bytes(figure: Figure, kind: str) -> bytes:
    # A fixed salt and no date or version, so that the same evaluation gives the same bytes.
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "volatility"}):
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()


def _axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    _dress(axes, title, x, y)
    return figure, axes


def _dress(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e3e7ec", linewidth=0.8)
    axes.set_axisbelow(True)


def _style(name: str) -> dict[str, Any]:
    color, marker = STYLE.get(name, (GREY, "x"))
    ml = name in {"ml", "champion"}
    return {
        "color": color,
        "marker": marker,
        "linewidth": 2.4 if ml else 1.3,
        "zorder": 4 if ml else 3,
        "label": LABELS.get(name, name),
    }


def _empty(axes: Axes) -> None:
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])


def _forecast(evaluation: Evaluation) -> Figure:
    """Draw the forecast with its band and the realised volatility, one panel per day."""
    days = evaluation.days
    if not days:
        figure, axes = _axes("Forecast and outcome", "", "")
        _empty(axes)
        return figure
    # With few days, one day may be both the median and the worst: draw it once.
    titles: dict[tuple[str, str], list[str]] = {}
    for day in days:
        titles.setdefault((day.symbol, day.date), []).append(day.title)
    drawn = {(day.symbol, day.date): day for day in days}
    height = PANELS_INCHES[1] * len(drawn) / 3 + 0.4
    figure = Figure(figsize=(PANELS_INCHES[0], height), layout="constrained")
    panels = figure.subplots(len(drawn), squeeze=False)[:, 0]
    for axes, (key, day) in zip(panels, drawn.items(), strict=True):
        title = f"{' and '.join(titles[key]).capitalize()} day: {', '.join(key)}"
        _dress(axes, title, "", f"bps over {evaluation.horizon_seconds} s")
        time, columns = _broken(
            _times(day.time),
            [
                _floats(column)
                for column in (day.low_bps, day.high_bps, day.realised_bps, day.forecast_bps)
            ],
        )
        low, high, realised, forecast = columns
        color = STYLE["ml"][0]
        axes.fill_between(
            time, low, high, color=color, alpha=0.2, linewidth=0, label="5 to 95 % band"
        )
        axes.plot(
            time,
            realised,
            color=INK,
            linestyle="",
            marker=".",
            markersize=2.6,
            alpha=0.75,
            rasterized=True,  # hundreds of markers are far smaller as an image
            label="realised",
        )
        axes.plot(time, forecast, color=color, linewidth=1.5, label="forecast")
        axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, frameon=False, ncols=3, loc="outside upper right")
    return figure


def _broken(time: Times, columns: Sequence[Floats]) -> tuple[Times, list[Floats]]:
    """Insert a missing point in each gap, so that no line bridges it."""
    step = np.diff(time).astype(np.float64)
    if not len(step):
        return time, list(columns)
    gap = np.flatnonzero(step > BREAK_STEPS * np.median(step)) + 1
    return (
        np.insert(time, gap, time[gap - 1]),
        [np.insert(column, gap, np.nan) for column in columns],
    )


def _qlike(evaluation: Evaluation) -> Figure:
    """Draw the QLIKE of each model with its interval, best on top."""
    figure, axes = _axes("QLIKE by model", "QLIKE, lower is better", "")
    models = evaluation.models
    names = [name for name in by_qlike(models) if models[name].qlike is not None]
    if not names:
        _empty(axes)
        return figure
    place = np.arange(len(names))[::-1]
    for y, name in zip(place, names, strict=True):
        (loss,) = _floats([models[name].qlike])
        low, high = _floats(models[name].qlike_interval)
        style = _style(name)
        axes.hlines(y, low, high, colors=style["color"], linewidth=1.6, zorder=2)
        marker = "o" if style["marker"] == "x" else style["marker"]
        axes.plot(loss, y, **style | {"linestyle": "", "marker": marker, "markersize": 6.5})
    axes.set_yticks(place, [LABELS.get(name, name) for name in names], fontsize=9)
    axes.grid(visible=False, axis="y")
    return figure


def _per_day(evaluation: Evaluation) -> Figure:
    """Draw the QLIKE of ml minus that of the best simple forecast, by day."""
    figure, axes = _axes("QLIKE by day: ml minus best simple", "", "below zero: ml is better")
    versus, days = evaluation.ml_vs_best_simple, evaluation.per_day
    if not days or not versus:
        _empty(axes)
        return figure
    apart = _floats([_apart(day.models) for day in days])
    place = np.arange(len(days))
    better, worse = STYLE["ml"][0], STYLE["baseline"][0]
    axes.bar(
        place,
        apart,
        width=0.7 if len(days) > 4 else 0.35,
        color=[worse if value > 0.0 else better for value in apart],
    )
    low, high = _floats(versus.qlike.interval)
    axes.axhspan(
        low, high, color=GREY, alpha=0.25, linewidth=0, zorder=0.5, label="all days, 95 % interval"
    )
    axes.axhline(
        _floats([versus.qlike.difference])[0],
        color=GREY,
        linestyle="--",
        linewidth=1.3,
        label="all days",
    )
    axes.axhline(0.0, color=INK, linewidth=0.9)
    labelled = place[:: -(-len(days) // MOST_DATE_LABELS)]
    axes.set_xticks(labelled, [days[k].date for k in labelled], rotation=25, ha="right")
    axes.set_xlim(-0.7, len(days) - 0.3)
    axes.grid(visible=False, axis="x")
    figure.legend(frameon=False, fontsize=9, ncols=2, loc="outside lower center")
    return figure


def _apart(models: Mapping[str, Measured]) -> float | None:
    ml, simple = models["ml"].qlike, models["baseline"].qlike
    return None if ml is None or simple is None else ml - simple


def _reliability(evaluation: Evaluation) -> Figure:
    figure, axes = _axes("Reliability", "forecast probability of a spike", "share of spikes")
    models = evaluation.models
    names = [name for name in SHOWN if name in models] or by_qlike(models)[:1]
    top = 0.0
    for name in names:
        bins = models[name].reliability
        score, share = _floats(bins.score), _floats(bins.share)
        axes.plot(score, share, markersize=4.5, **_style(name))
        top = max([top, *score[~np.isnan(score)], *share[~np.isnan(share)]])
    if top == 0.0:
        axes.clear()
        _dress(axes, "Reliability", "", "")
        _empty(axes)
        return figure
    top = min(1.0, 1.05 * top)
    axes.plot([0, top], [0, top], color=GREY, linestyle="--", linewidth=1.3, label="perfect")
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _importances(evaluation: Evaluation) -> Figure:
    figure, axes = _axes("What the model relies on", "rise of QLIKE when shuffled", "")
    rows = evaluation.importances[:TOP_FEATURES]
    if not rows:
        _empty(axes)
        return figure
    place = np.arange(len(rows))[::-1]
    axes.barh(
        place,
        _floats([row.importance for row in rows]),
        xerr=_floats([row.standard_deviation for row in rows]),
        color=STYLE["ml"][0],
        error_kw={"ecolor": GREY, "elinewidth": 1.2},
        height=0.7,
    )
    axes.set_yticks(place, [row.feature for row in rows], fontsize=8.5)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.grid(visible=False, axis="y")
    return figure


def _times(values: Sequence[str]) -> Times:
    return np.array([value[:19] for value in values], dtype="datetime64[s]")  # UTC


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
