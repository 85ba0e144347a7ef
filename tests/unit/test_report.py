from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from volatility.pages import MISSING, moment, number, plain, span, write_whole
from volatility.plots import NAMES, figures, inline, ranked, write_plots
from volatility.report import evaluation_page, verdict, write_evaluation
from volatility.report_index import write_index

BASE_RATE = 0.104
AREAS = {"ml": 0.317, "har": 0.285, "ewma": 0.271, "garch": 0.266, "persistence": 0.214}
FEATURES = [
    "volatility_ratio_15s",
    "ewma_ratio_10s",
    "range_ratio_60s",
    "intensity_ratio_5s",
    "spread_ratio_300s",
    "momentum_60s",
    "parkinson_ratio_60s",
    "bipower_ratio_300s",
    "volatility_of_volatility_300s",
    "quote_imbalance",
    "silence_ratio",
    "interarrival_dispersion_60s",
    "spread_bps",
    "momentum_300s",
    "microprice_distance_bps",
    "intensity_ratio_60s",
]


def _model(area: float) -> dict:
    return {
        "pr_auc": area,
        "pr_auc_interval": [area - 0.041, area + 0.052],
        "roc_auc": 0.5 + area,
        "brier": 0.093 - area / 10,
        "calibration_error": 0.021,
        "threshold": 0.31,
        "precision": 0.42,
        "recall": 0.18,
        "alerts_per_hour": 5.7,
        "event_recall": 0.55,
        "lead_seconds": 31.0,
        "events": 87,
    }


def _curve(area: float) -> dict:
    recall = np.linspace(0.005, 1, 200)
    return {"recall": recall, "precision": BASE_RATE + (1 - BASE_RATE) * (1 - recall) ** (1 / area)}


@pytest.fixture
def evaluation() -> dict:
    """Give what an evaluation of two lively days looks like, numpy values included."""
    days = ["2025-12-01", "2025-12-05", "2025-12-06", "2026-04-03", "2026-04-04"]
    score = np.linspace(0.02, 0.45, 10)
    return {
        "source": "walk-forward",
        "rows": 27_431,
        "effective_windows": 457,
        "base_rate": BASE_RATE,
        "symbols": ["BTC-USD", "ETH-USD"],
        "start": "2025-12-01T14:03:11Z",
        "stop": "2026-04-04T21:13:43Z",
        "horizon_seconds": 60,
        "label_kind": "relative",
        "block_seconds": 600,
        "resamples": 1000,
        "models": {name: _model(area) for name, area in sorted(AREAS.items())},
        "ml_vs_best_baseline": {"baseline": "har", "difference": 0.032, "interval": [0.004, 0.061]},
        "placebo": {
            "pr_auc": 0.101,
            "base_rate": 0.0987,
            "standard_error": np.float64(0.0061),
            "passed": True,
        },
        "per_day": [
            {
                "date": day,
                "rows": 5_000 + k,
                "base_rate": 0.06 + 0.02 * k,
                "pr_auc": {n: None if (k, n) == (4, "garch") else a for n, a in AREAS.items()},
            }
            for k, day in enumerate(days)
        ],
        "folds": [
            {
                "fold": k,
                "train_rows": 6_000 * k,
                "test_rows": 6_100,
                "train_stop": "2025-12-05T10:00:00Z",
                "start": "2025-12-05T10:22:00Z",
                "stop": "2025-12-06T01:00:00Z",
                "tau": 1.61 + k / 100,
                "base_rate": BASE_RATE,
                "pr_auc": dict(AREAS),
            }
            for k in range(1, 5)
        ],
        "reliability": {
            name: {"score": score, "share": score * (0.7 + a), "rows": np.full(10, 2_743)}
            for name, a in AREAS.items()
        },
        "curves": {name: _curve(area) for name, area in AREAS.items()},
        "importances": [
            {"feature": name, "importance": 0.04 / (k + 1) - 0.003, "standard_deviation": 0.003}
            for k, name in enumerate(FEATURES)
        ],
        "held_out": {
            "rows": 6_102,
            "effective_windows": 101,
            "base_rate": 0.118,
            "models": {name: {"pr_auc": area - 0.01} for name, area in AREAS.items()},
            "ml_vs_best_baseline": {
                "baseline": "har",
                "difference": 0.021,
                "interval": [-0.018, 0.06],
            },
            "ml_vs_champion": {"champion": "3", "difference": 0.002, "interval": [-0.01, 0.014]},
            "earned": False,
            "reasons": ["the interval against <har> contains zero"],
        },
        "model": {
            "digest": "9f2c" * 16,
            "train_start": "2025-12-01T14:03:11Z",
            "train_stop": "2026-04-03T23:00:00Z",
            "train_rows": 21_329,
            "tau": 1.6432,
            "threshold": 0.3127,
            "git_commit": "0123456789abcdef0123456789abcdef01234567",
        },
    }


@pytest.fixture
def undefined(evaluation) -> dict:
    """Give an evaluation of rows without one spike, by a fresh model without a gate."""
    result = copy.deepcopy(evaluation)
    nothing = dict.fromkeys(result["models"]["ml"])
    result |= {
        "models": {name: dict(nothing) | {"brier": 0.01} for name in AREAS},
        "ml_vs_best_baseline": {
            "baseline": "har",
            "difference": float("nan"),
            "interval": [float("nan"), float("nan")],
        },
        "base_rate": 0.0,
        "source": "model",
        "label_kind": "absolute",
        "per_day": [],
        "folds": [],
        "reliability": {},
        "curves": {},
        "importances": [],
        "held_out": None,
    }
    result["placebo"] = dict.fromkeys(result["placebo"], None) | {"passed": False}
    return result


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
        if self.open and self.open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data


def _text(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_json_holds_the_evaluation_with_null_for_nan_and_sorted_keys(undefined, tmp_path):
    written = write_evaluation(undefined, tmp_path / "deep" / "reports")
    assert [path.name for path in written] == ["evaluation.json", "evaluation.html"]
    text = written[0].read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert found == plain(undefined)
    assert found["ml_vs_best_baseline"]["interval"] == [None, None]
    assert list(found) == sorted(found)
    reordered = dict(reversed(undefined.items()))
    assert write_evaluation(reordered, tmp_path)[0].read_text() == text


def test_the_same_evaluation_gives_the_same_bytes(evaluation, tmp_path):
    first = [p.read_bytes() for p in write_evaluation(evaluation, tmp_path / "a")]
    assert first == [p.read_bytes() for p in write_evaluation(evaluation, tmp_path / "b")]


@pytest.mark.parametrize("kind", ["evaluation", "undefined"])
def test_page_is_whole_and_loads_nothing(kind, request):
    page = _Page(evaluation_page(request.getfixturevalue(kind)))
    assert page.open == []
    assert "script" not in page.tags
    outside = [a for a in page.addresses if not a.startswith("data:")]
    assert sorted(outside) == ["evaluation.json", "index.html"]
    assert sum(a.startswith("data:image/svg+xml") for a in page.addresses) == len(NAMES)


def test_page_without_any_defined_measure_says_so(undefined):
    text = _text(evaluation_page(undefined))
    assert "Too few spikes" in text
    assert "trust no figure" in text
    assert "nan" not in text.lower().replace("finance", "")
    assert "None" not in text
    assert "Folds" not in text
    assert "Held-out" not in text


def test_leaderboard_ranks_the_models_and_ends_with_the_base_rate(evaluation):
    rows = [row for row in _Page(evaluation_page(evaluation)).rows if len(row) == 12]
    assert [row[0] for row in rows] == ["model", *AREAS, "base rate"]
    assert rows[1][1:3] == ["0.317", "0.276 to 0.369"]
    assert rows[-1][1] == "0.104"
    assert rows[-1][4] == f"{BASE_RATE * (1 - BASE_RATE):.4f}"


def test_page_tells_what_was_evaluated_the_gate_the_placebo_and_the_model(evaluation):
    page = evaluation_page(evaluation)
    text = _text(page)
    assert "BTC-USD, ETH-USD, 2025-12-01 14:03 UTC to 2026-04-04 21:13 UTC" in text
    assert "27,431" in text
    assert "457" in text
    assert "10.4 %" in text
    assert "Promotion not earned" in text
    assert "champion (version 3)" in text
    assert "Allowed: 0.080 to 0.117" in text
    assert evaluation["model"]["digest"] in text
    assert "against &lt;har&gt; contains" in page


@pytest.mark.parametrize(
    ("interval", "state", "words"),
    [
        ([0.004, 0.061], "better", "beats the best baseline (har)"),
        ([-0.01, 0.061], "open", "not shown to beat the best baseline (har)"),
        ([0.0, 0.061], "open", "contains zero"),
        ([-0.06, -0.01], "worse", "worse than the best baseline (har)"),
        ([None, None], "unknown", "Too few spikes"),
    ],
)
def test_only_an_interval_clear_of_zero_decides(evaluation, interval, state, words):
    evaluation["ml_vs_best_baseline"]["interval"] = interval
    found = verdict(evaluation)
    assert found.state == state
    assert words in found.sentence
    assert f'class="box {state}"' in evaluation_page(evaluation)


def test_a_failed_placebo_comes_before_any_skill(evaluation):
    evaluation["placebo"]["passed"] = False
    found = verdict(evaluation)
    assert found.state == "worse"
    assert found.sentence.startswith("The placebo failed")
    assert "trust no figure" in _text(evaluation_page(evaluation))


def test_a_placebo_that_was_not_run_is_named(evaluation):
    evaluation["placebo"] = None
    assert verdict(evaluation).state == "better"
    assert "Placebo Not run." in _text(evaluation_page(evaluation))


def test_a_gate_without_enough_rows_gives_its_reason(evaluation):
    evaluation["held_out"] |= {
        "base_rate": None,
        "models": {},
        "ml_vs_best_baseline": None,
        "ml_vs_champion": None,
        "reasons": ["12 independent windows; 30 are needed"],
    }
    text = _text(evaluation_page(evaluation))
    assert "12 independent windows; 30 are needed" in text
    assert "None" not in text
    assert "model against" not in text


def test_rows_left_out_are_counted(evaluation):
    assert "left out" not in _text(evaluation_page(evaluation))
    assert "Rows left out: trained on 1,234" in _text(
        evaluation_page(evaluation | {"excluded_rows": 1_234})
    )


def test_plots_are_png_files_of_the_figures(evaluation, undefined, tmp_path):
    written = write_plots(evaluation, tmp_path)
    assert [path.name for path in written] == [f"{name}.png" for name in NAMES]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert all(path.stat().st_size > 10_000 for path in written)
    assert [path.name for path in write_plots(undefined, tmp_path)] == [p.name for p in written]
    assert not list(tmp_path.glob("*.tmp"))


def test_curves_show_the_base_rate_and_the_models_best_first(evaluation):
    axes = figures(plain(evaluation))["precision_recall"].axes[0]
    found = axes.get_legend()
    assert found is not None
    legend = [text.get_text() for text in found.get_texts()]
    assert legend == [*(f"{n} {a:.3f}" for n, a in AREAS.items()), "base rate 0.104"]
    assert np.asarray(axes.lines[-1].get_ydata()).tolist() == [BASE_RATE, BASE_RATE]


def test_days_show_each_model_and_leave_the_undefined_out(evaluation):
    axes = figures(plain(evaluation))["per_day"].axes[0]
    drawn = {line.get_label(): np.asarray(line.get_ydata()) for line in axes.lines}
    assert set(drawn) == set(AREAS)
    assert np.isnan(drawn["garch"]).tolist() == [False] * 4 + [True]
    assert drawn["ml"].tolist() == [AREAS["ml"]] * 5


def test_ninety_days_keep_their_labels_apart(evaluation):
    day = evaluation["per_day"][0]
    evaluation["per_day"] = [day | {"date": f"day {k}"} for k in range(90)]
    figure = figures(plain(evaluation))["per_day"]
    assert len(figure.axes[0].get_xticklabels()) <= 9
    assert inline(figure).startswith("data:image/svg+xml;base64,")


def test_importances_name_the_greatest_first(evaluation):
    axes = figures(plain(evaluation))["importances"].axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[int(np.argmax(axes.get_yticks()))] == FEATURES[0]
    assert len(names) == 15


def test_ranking_puts_the_undefined_last():
    assert ranked({"b": {"pr_auc": None}, "c": {"pr_auc": 0.1}, "a": {"pr_auc": 0.2}}) == [
        "a",
        "c",
        "b",
    ]


def test_numbers_are_plain():
    assert number(-1234.5678, 1) == "\N{MINUS SIGN}1,234.6"
    assert number(None) == MISSING
    assert span([0.1, None]) == MISSING
    assert span([-0.1, 0.2], sign=True) == "\N{MINUS SIGN}0.100 to +0.200"
    assert moment("2026-04-04T23:30:00+02:00") == "2026-04-04 21:30 UTC"
    assert moment(0) == "1970-01-01 00:00 UTC"


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "page.html", "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, "new")
    assert path.read_text() == "old"


DRIFT = {
    "drift_share": 0.1481,
    "drifted_features": 4,
    "features": 27,
    "alert": False,
    "reference": {"rows": 20_000, "start": "2025-12-01T14:03:11Z", "stop": "2026-04-03T00:00:00Z"},
    "current": {"rows": 7_001, "start": "2026-04-03T00:01:00Z", "stop": "2026-04-04T21:00:00Z"},
}


def test_index_links_what_exists_with_its_summary(evaluation, tmp_path):
    write_evaluation(evaluation, tmp_path)
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
    assert verdict(evaluation).sentence in text
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
