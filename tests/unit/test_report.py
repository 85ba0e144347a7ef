"""The page of an evaluation, its figures, and the index of the reports."""

from __future__ import annotations

import copy
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.live import live_model
from volatility.evaluation import Evaluation, LivePerformance, Placebos
from volatility.evaluation.evidence import Evidence
from volatility.evaluation.live_results import RollingPoint
from volatility.files import plain, write_json
from volatility.reports.evaluation import (
    differences,
    evaluation_page,
    page_of,
    placebo_errors,
    verdict,
    write_evaluation,
)
from volatility.reports.index import write_index
from volatility.reports.pages import MISSING, moment, number, span
from volatility.reports.plots import NAMES, by_qlike, figures, inline, live, ranked, write_plots

Json = dict[str, Any]

MINUS = "\N{MINUS SIGN}"
LOSSES = {"prior": 2.61, "ml": 2.67, "har": 2.74, "garch": 2.80, "baseline": 2.86, "constant": 3.39}
SCORES = {"prior": 0.5, "ml": 0.49, "har": 0.48, "garch": 0.46, "baseline": 0.47, "constant": 0.13}
FEATURES = [f"feature_{k}" for k in range(18)]


def _model(name: str) -> Json:
    loss, area = LOSSES[name], SCORES[name]
    score = np.linspace(0.02, 0.45, 10)
    return {
        "qlike": loss,
        "qlike_interval": [loss - 0.2, loss + 0.25],
        "crps_bps": 0.3 * loss,
        "pr_auc": area,
        "pr_auc_interval": [area - 0.04, area + 0.05],
        "roc_auc": 0.5 + area,
        "pinball_bps": {"0.5": 0.4},
        "levels": {},
        "horizons": {},
        "brier": 0.09,
        "log_score": 0.3,
        "calibration_error": 0.021,
        "pit_error": 0.034,
        "reliability": {"score": score, "share": score * 1.1, "weight": np.full(10, 0.1)},
        "threshold": 0.31,
        "precision": 0.42,
        "recall": 0.18,
        "alerts_per_hour": 4.1,
        "event_recall": 0.84,
        "lead_seconds": 60.0,
        "events": 174,
    }


def _difference(value: float, error: float) -> Json:
    return {
        "difference": value,
        "interval": [value - 2 * error, value + 2 * error],
        "standard_error": error,
    }


def _part() -> Json:
    return {
        "rows": 5_000,
        "effective_windows": 833,
        "base_rate": 0.167,
        "models": {
            name: {"qlike": loss, "crps_bps": 0.3 * loss, "pr_auc": SCORES[name], "brier": 0.09}
            for name, loss in LOSSES.items()
        },
    }


def _day(title: str, date: str) -> Json:
    count = 60
    forecast = 2.0 + np.sin(np.arange(count) / 7.0)
    return {
        "title": title,
        "symbol": "BTC-USD",
        "date": date,
        "gain": 0.2,
        # An hour is missing in the middle.
        "time": [
            f"{date}T{9 + (k >= 30) + k // 30:02d}:{2 * (k % 30):02d}:00+00:00"
            for k in range(count)
        ],
        "forecast_bps": forecast,
        "low_bps": 0.1 * forecast,
        "high_bps": 2.2 * forecast,
        "realised_bps": forecast[::-1],
    }


def _skill(skill: float = -0.01, area: float = -0.02) -> Json:
    passed = skill <= 0.012 and area <= 0.03
    return {
        "skill": skill,
        "standard_error": 0.004,
        "pr_auc_skill": area,
        "pr_auc_standard_error": 0.01,
        "passed": passed,
    }


def _gate() -> Json:
    evidence = msgspec.to_builtins(Evidence(blocks=119, mean=0.031, best=math.log(8.2)))
    return {
        "recipe": "ab" * 32,
        "earned": False,
        "kind": "promotion",
        "reasons": ["no improvement over <har> yet"],
        "champion": "3",
        "best_simple": "har, garch",
        "evidence": evidence,
        "against_champion": evidence | {"blocks": 57},
        "refresh": None,
    }


@pytest.fixture
def evaluation() -> Json:
    """Return what an evaluation of five days looks like, numpy values included."""
    dates = ["2025-12-01", "2025-12-05", "2025-12-06", "2026-04-03", "2026-04-04"]
    return {
        "source": "walk-forward",
        "rows": 27_431,
        "effective_windows": 4_571,
        "blocks": 119,
        "base_rate": 0.167,
        "symbols": ["BTC-USD", "ETH-USD"],
        "start": "2025-12-01T14:03:11+00:00",
        "stop": "2026-04-04T21:13:43+00:00",
        "horizon_seconds": 60,
        "horizons_seconds": [60, 300],
        "level_quantiles": [0.9, 0.99],
        "spike_levels_bps": {"BTC-USD": 3.842, "ETH-USD": 5.5},
        "block_seconds": 1200,
        "resamples": 1000,
        "models": {name: _model(name) for name in sorted(LOSSES)},
        "ml_vs_best_simple": {
            "baseline": "har, garch",
            "qlike": _difference(-0.19, 0.05),
            "crps_bps": _difference(-0.014, 0.012),
            "pr_auc": _difference(0.02, 0.005),
            "brier": _difference(0.009, 0.004),
            "diebold_mariano": {"statistic": -1.92, "p_value": np.float64(0.054)},
            "horizons": {
                "60s": {"qlike": _difference(-0.19, 0.05)},
                "300s": {"qlike": _difference(-0.35, 0.1)},
            },
            "levels": {
                "0.9": {"pr_auc": _difference(0.02, 0.005)},
                "0.99": {"pr_auc": _difference(-0.05, 0.01)},
            },
        },
        "per_symbol": [{"name": name, **_part()} for name in ("BTC-USD", "ETH-USD")],
        "per_day": [{"date": date, **_part()} for date in dates],
        "folds": [
            {
                "fold": k,
                "train_rows": 6_000 * k,
                "train_stop": "2025-12-05T10:00:00+00:00",
                "best_simple": "har",
                **_part(),
            }
            for k in range(1, 5)
        ],
        "confidence_set": {
            "included": ["ml", "prior"],
            "p_values": dict.fromkeys(LOSSES, 0.5),
            "size": 0.1,
        },
        "days": [
            _day(title, date)
            for title, date in zip(("best", "median", "worst"), dates, strict=False)
        ],
        "importances": [
            {"feature": name, "importance": 0.4 / (k + 1), "standard_deviation": 0.003}
            for k, name in enumerate(FEATURES)
        ],
        "model": {
            "digest": "9f2c" * 16,
            "recipe": "bd87" * 16,
            "train_start": "2025-12-01T14:03:11+00:00",
            "train_stop": "2026-04-03T23:00:00+00:00",
            "train_rows": 21_329,
            "best_simple": "garch",
            "threshold": 0.3127,
            "git_commit": "0123456789abcdef0123456789abcdef01234567",
        },
        "placebo": {
            "constant": {name: _skill() for name in LOSSES},
            "har": {name: _skill(area=0.005) for name in LOSSES},
        },
        "gate": _gate(),
    }


@pytest.fixture
def undefined(evaluation) -> Json:
    """Return an evaluation of few rows without one spike, by one model, with no gate."""
    result = copy.deepcopy(evaluation)
    nan = float("nan")
    nothing = {"difference": nan, "interval": [nan, nan], "standard_error": nan}
    unmeasured = dict.fromkeys(("pr_auc", "calibration_error", "event_recall", "lead_seconds"))
    unmeasured["reliability"] = {"score": [None], "share": [None], "weight": [0.0]}
    for model in result["models"].values():
        model.update(unmeasured | {"qlike_interval": [nan, nan]})
    versus = result["ml_vs_best_simple"]
    versus |= dict.fromkeys(("qlike", "crps_bps", "pr_auc", "brier"), nothing)
    versus["horizons"]["300s"]["qlike"] = nothing
    versus["diebold_mariano"] = {"statistic": nan, "p_value": nan}
    result["placebo"]["har"]["ml"] |= {"pr_auc_skill": nan, "pr_auc_standard_error": math.inf}
    return result | {
        "base_rate": 0.0,
        "source": "model",
        "per_day": [],
        "folds": [],
        "days": [],
        "importances": [],
        "gate": None,
    }


def typed(content: Json) -> Evaluation:
    return msgspec.convert(plain(content), Evaluation)


class _Page(HTMLParser):
    """Collect what a browser would fetch or run, and whether tags are closed."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def leaderboard(self) -> list[list[str]]:
        """Return the rows of the first table, without its head."""
        return self.rows[1 : 1 + len(LOSSES)]


def _words(evaluation: Json) -> str:
    """Return the page without its figures, which take their time."""
    return page_of(typed(evaluation), {})


def _text(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_json_holds_the_evaluation_with_null_for_nan_and_sorted_keys(undefined, tmp_path):
    written = write_evaluation(typed(undefined), tmp_path / "deep" / "reports")
    assert [path.name for path in written] == ["evaluation.json", "evaluation.html"]
    text = written[0].read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert found == plain(typed(undefined))
    assert found["ml_vs_best_simple"]["qlike"]["interval"] == [None, None]
    assert list(found) == sorted(found)
    assert msgspec.json.decode(text, type=Evaluation) == typed(undefined)


def test_the_same_evaluation_gives_the_same_bytes(evaluation):
    first, again = (figures(typed(evaluation)) for _ in range(2))
    for name in ("forecast", "per_day"):
        assert inline(first[name]) == inline(again[name])
    assert _words(evaluation) == _words(evaluation)


@pytest.mark.parametrize("kind", ["evaluation", "undefined"])
def test_page_is_whole_and_loads_nothing(kind, request):
    page = _Page(evaluation_page(typed(request.getfixturevalue(kind))))
    assert page.open == []
    assert "script" not in page.tags
    outside = {a for a in page.addresses if not a.startswith("data:")}
    assert outside == {"evaluation.json", "index.html"}
    assert sum(a.startswith("data:image/svg+xml") for a in page.addresses) == len(NAMES)


def test_page_of_what_cannot_be_measured_says_so(undefined):
    text = _text(_words(undefined))
    assert "Too few rows to compare" in text
    assert not re.search(r"\b(nan|None|inf)\b", text)
    assert "Folds" not in text
    assert "Promotion gate" not in text
    assert "best simple (garch)" in text


def test_leaderboard_ranks_by_qlike_and_marks_the_confidence_set(evaluation):
    rows = _Page(_words(evaluation)).leaderboard()
    names = [" ".join(row[0].split()) for row in rows]
    assert names == [
        "prior ●",
        "ml ●",
        "har",
        "garch",
        "best simple (as chosen per fold)",
        "constant",
    ]
    assert rows[1][1:] == [
        "2.670", "2.470 to 2.920", "0.801", "0.490", "0.0900", "0.021", "0.034", "4.1", "0.84",
        "60", "+0.5",
    ]  # fmt: skip


def test_placebo_counts_the_largest_skill_in_standard_errors(evaluation):
    placebo = evaluation["placebo"]
    assert errors(placebo, "ml") == pytest.approx(0.5)
    placebo["constant"]["ml"] = _skill(skill=0.008)
    assert errors(placebo, "ml") == pytest.approx(2.0)
    assert errors(placebo, "absent") is None
    assert placebo_errors(None, "ml") is None
    placebo["constant"]["ml"]["standard_error"] = 0.0
    assert errors(placebo, "ml") == pytest.approx(0.5)


def errors(placebo: Json, model: str) -> float | None:
    return placebo_errors(msgspec.convert(placebo, Placebos), model)


def test_page_tells_what_was_evaluated_the_gate_and_the_model(evaluation):
    page = _words(evaluation)
    text = _text(page)
    assert "BTC-USD, ETH-USD, 2025-12-01 14:03 UTC to 2026-04-04 21:13 UTC" in text
    assert "27,431" in text
    assert "4,571" in text
    assert "16.7 %" in text
    assert "Spike level, BTC-USD 3.84 bps" in text
    assert "Promotion not earned" in text
    assert "improvement over &lt;har&gt; yet" in page
    assert "best simple forecast (har, garch) 119 +0.0310 8.20 1.00" in text
    assert "champion (version 3) 57 +0.0310 8.20 1.00" in text
    assert evaluation["model"]["digest"] in text


def test_a_refresh_shows_its_bound(evaluation):
    refresh = {
        "difference": -0.001, "bound": 0.0042, "margin": 0.01, "blocks": 40, "passed": True,
    }  # fmt: skip
    evaluation["gate"] |= {
        "kind": "refresh", "earned": True, "reasons": [], "refresh": refresh,
        "against_champion": None,
    }  # fmt: skip
    text = _text(_words(evaluation))
    assert "Refresh earned. Version 3 of the same recipe is already serving" in text
    assert f"QLIKE {MINUS}0.0010 over 40 blocks, upper bound +0.0042; the limit is +0.0100" in text


@pytest.mark.parametrize(
    ("interval", "state", "words"),
    [
        (
            [-0.29, -0.1],
            "better",
            "is better than the best simple forecast (har, garch): QLIKE 2.6",
        ),
        (
            [-0.29, 0.01],
            "open",
            "not shown to be better than the best simple forecast (har, garch)",
        ),
        ([-0.29, 0.0], "open", "contains zero"),
        ([0.02, 0.1], "worse", "is worse than the best simple forecast (har, garch)"),
        ([None, None], "unknown", "Too few rows"),
    ],
)
def test_only_a_qlike_interval_clear_of_zero_decides(evaluation, interval, state, words):
    evaluation["ml_vs_best_simple"]["qlike"]["interval"] = interval
    found = verdict(typed(evaluation))
    assert found.state == state
    assert words in found.sentence
    assert f'class="box {state}"' in _words(evaluation)


def test_a_failed_placebo_comes_before_any_skill(evaluation):
    evaluation["placebo"]["har"]["baseline"] = _skill(skill=0.02)
    found = verdict(typed(evaluation))
    assert found.state == "worse"
    assert found.sentence.startswith("The placebo failed")
    assert "on the simulated market har, best simple beats the true forecast" in found.sentence
    text = _text(_words(evaluation))
    assert "Failed. A model beats the true forecast" in text
    assert "Passed." not in text


def test_a_placebo_that_was_not_run_is_named(evaluation):
    evaluation["placebo"] = None
    assert verdict(typed(evaluation)).state == "better"
    assert "Placebo Not run." in _text(_words(evaluation))


def test_a_bundle_without_ml_names_its_best_forecast(evaluation):
    del evaluation["ml_vs_best_simple"]
    for holder in (evaluation, *evaluation["per_symbol"], *evaluation["per_day"]):
        holder["models"] = {"prior": holder["models"]["prior"]}
    evaluation |= {"folds": [], "days": [], "gate": None}
    found = verdict(typed(evaluation))
    assert found.state == "unknown"
    assert "prior has the lowest QLIKE: 2.610" in found.sentence
    assert "minus the best simple" not in _words(evaluation).split("<h2>Figures")[0]


def test_differences_judge_each_measure_in_its_own_direction(evaluation):
    found = {line.measure: line.state for line in differences(typed(evaluation))}
    assert found == {
        "QLIKE": "better",
        "CRPS [bps]": "open",
        "PR-AUC": "better",
        "Brier score": "worse",
        "QLIKE over 300 s": "better",
        "PR-AUC, level at quantile 0.9": "better",
        "PR-AUC, level at quantile 0.99": "worse",
    }


def test_rows_left_out_are_counted(evaluation):
    assert "excluded" not in _text(_words(evaluation))
    assert "Rows excluded (used in training) 1,234" in _text(
        _words(evaluation | {"excluded_rows": 1_234})
    )


def test_parts_show_ml_beside_the_best_simple_forecast(evaluation):
    evaluation["per_day"][0]["models"]["ml"]["pr_auc"] = None
    rows = _Page(_words(evaluation)).rows
    day = next(row for row in rows if row[0] == "2025-12-01")
    assert day[4:] == ["2.670", "2.860", "0.801", "0.858", MISSING, "0.470"]
    fold = next(row for row in rows if row[0] == "2" and len(row) == 13)
    assert fold[1:4] == ["2025-12-05 10:00 UTC", "12,000", "har"]


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


def test_numbers_are_plain():
    assert number(-1234.5678, 1) == f"{MINUS}1,234.6"
    assert number(None) == MISSING
    assert span([0.1, None]) == MISSING
    assert span([-0.1, 0.2], sign=True) == f"{MINUS}0.100 to +0.200"
    assert moment("2026-04-04T23:30:00+02:00") == "2026-04-04 21:30 UTC"
    assert moment(0) == "1970-01-01 00:00 UTC"


DRIFT = {
    "drift_share": 0.1481,
    "drifted_features": 4,
    "features": 27,
    "alert": False,
    "reference": {"rows": 20_000, "start": "2025-12-01T14:03:11Z", "stop": "2026-04-03T00:00:00Z"},
    "current": {"rows": 7_001, "start": "2026-04-03T00:01:00Z", "stop": "2026-04-04T21:00:00Z"},
}


def test_index_links_what_exists_with_its_summary(evaluation, tmp_path):
    write_json(tmp_path / "evaluation.json", evaluation)
    (tmp_path / "evaluation.html").write_text("<p>evaluation</p>")
    (tmp_path / "drift.json").write_text(json.dumps(DRIFT))
    (tmp_path / "drift.html").write_text("<p>drift</p>")
    (tmp_path / "simulator.png").write_bytes(b"\x89PNG")
    (tmp_path / "drift").mkdir()
    (tmp_path / "drift" / "2026-04-04 a&b.html").write_text("<p>older</p>")
    path = write_index(tmp_path)
    assert path == tmp_path / "index.html"
    page = path.read_text()
    parsed, text = _Page(page), _text(page)
    assert parsed.open == []
    links = {a for a in parsed.addresses if not a.startswith("data:")}
    assert links == {
        "evaluation.html",
        "evaluation.json",
        "drift.html",
        "drift.json",
        "simulator.png",
        "drift/2026-04-04%20a%26b.html",
    }
    assert verdict(typed(evaluation)).sentence in text
    assert "4 of 27 model inputs have drifted (14.8 %); no alert" in text
    assert "performance" not in text.lower()


def test_index_of_nothing_says_how_to_make_a_report(tmp_path):
    text = _text(write_index(tmp_path / "reports").read_text())
    assert "volatility evaluate" in text


@pytest.mark.parametrize("content", ["{", "[]", '{"models": {}}', '{"drift_share": null}'])
def test_index_survives_a_report_it_cannot_read(content, tmp_path):
    for name in ("evaluation", "drift"):
        (tmp_path / f"{name}.json").write_text(content)
    text = _text(write_index(tmp_path).read_text())
    assert text.count("cannot be read") == 2
