"""The figures of an evaluation and of live performance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.evaluations import FEATURES, Json, evaluation_of_five_days, typed
from tests.live import live_model
from volatility.evaluation import LivePerformance
from volatility.evaluation.live_results import RollingPoint
from volatility.reports.plots import NAMES, by_qlike, figures, inline, live, ranked, write_plots


@pytest.fixture
def evaluation() -> Json:
    return evaluation_of_five_days()


def test_plots_are_png_files_of_the_figures(evaluation, tmp_path):
    written = write_plots(typed(evaluation), tmp_path)
    assert [path.name for path in written] == [f"{name}.png" for name in NAMES]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert all(path.stat().st_size > 10_000 for path in written)
    assert not list(tmp_path.glob("*.tmp"))


def test_the_drawn_forecast_has_a_panel_a_day_and_no_line_across_a_gap(evaluation):
    figure = figures(typed(evaluation))["forecast"]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[1] == "Median day: BTC-USD, 2025-12-05"
    line = next(one for one in figure.axes[0].lines if one.get_label() == "forecast")
    drawn = np.asarray(line.get_ydata())
    assert np.flatnonzero(np.isnan(drawn)).tolist() == [30]
    assert np.delete(drawn, 30) == pytest.approx(evaluation["days"][0]["forecast_bps"])


def test_a_day_that_is_median_and_worst_is_drawn_once(evaluation):
    evaluation["days"][2] = evaluation["days"][1] | {"title": "worst"}
    figure = figures(typed(evaluation))["forecast"]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [
        "Best day: BTC-USD, 2025-12-01",
        "Median and worst day: BTC-USD, 2025-12-05",
    ]


def test_days_show_ml_less_the_best_simple_forecast(evaluation):
    evaluation["per_day"][1]["models"]["ml"]["qlike"] = 3.0
    evaluation["per_day"][2]["models"]["ml"]["qlike"] = None
    axes = figures(typed(evaluation))["per_day"].axes[0]
    (bars,) = axes.containers
    heights = [bar.get_height() for bar in bars]
    expected = [-0.19, 0.14, math.nan, -0.19, -0.19]
    assert heights == pytest.approx(expected, nan_ok=True)
    assert bars[0].get_facecolor() != bars[1].get_facecolor()


def test_ninety_days_keep_their_labels_apart(evaluation):
    day = evaluation["per_day"][0]
    evaluation["per_day"] = [day | {"date": f"day {k}"} for k in range(90)]
    figure = figures(typed(evaluation))["per_day"]
    assert len(figure.axes[0].get_xticklabels()) <= 9
    assert inline(figure).startswith("data:image/svg+xml;base64,")


def test_losses_are_drawn_with_the_best_on_top(evaluation):
    axes = figures(typed(evaluation))["qlike"].axes[0]
    named = dict(zip(axes.get_yticks(), axes.get_yticklabels(), strict=True))
    assert [named[y].get_text() for y in sorted(named, reverse=True)] == [
        "prior", "ml", "har", "garch", "best simple", "constant",
    ]  # fmt: skip


def test_importances_name_the_greatest_first(evaluation):
    axes = figures(typed(evaluation))["importances"].axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[int(np.argmax(axes.get_yticks()))] == FEATURES[0]
    assert len(names) == 15


def test_live_figure_draws_what_the_points_hold():
    models = {"champion": live_model(2.0, 0.4), "baseline": live_model(2.1, 0.3)}
    points = tuple(
        RollingPoint(
            time=f"2026-04-04T0{hour}:00:00+00:00",
            rows=100,
            base_rate=0.1,
            pr_auc={"champion": 0.4, "baseline": None},
            qlike={"champion": 2.0 + hour, "baseline": None},
        )
        for hour in range(5)
    )
    figure = live(LivePerformance(hours=24.0, reason=None, models=models, rolling=points))
    top, bottom = figure.axes
    drawn = {line.get_label(): np.asarray(line.get_ydata()) for line in bottom.lines}
    assert drawn["champion"].tolist() == [0.4] * 5
    assert np.isnan(drawn["best simple"]).all()
    assert drawn["base rate"].tolist() == [0.1] * 5
    losses = {line.get_label(): np.asarray(line.get_ydata()) for line in top.lines}
    assert losses["champion"].tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
    assert live(LivePerformance(hours=24.0, reason="none")).axes[0].lines[:] == []


def test_ranking_puts_the_undefined_last():
    areas = {name: live_model(0.0, area) for name, area in (("b", None), ("c", 0.1), ("a", 0.2))}
    assert ranked(areas) == ["a", "c", "b"]
    losses = {name: live_model(loss, 0.0) for name, loss in (("b", None), ("c", -1.0), ("a", 0.2))}
    assert by_qlike(losses) == ["c", "a", "b"]
