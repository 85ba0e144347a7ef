"""The page of an evaluation, and its JSON."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from tests.evaluations import (
    LOSSES,
    Json,
    evaluation_of_five_days,
    evaluation_of_little,
    placebo_skill,
    typed,
)
from tests.pages import Page, text_of
from volatility.evaluation import Evaluation, Placebos
from volatility.files import plain
from volatility.reports.evaluation import (
    differences,
    evaluation_page,
    page_of,
    placebo_errors,
    verdict,
    write_evaluation,
)
from volatility.reports.pages import MISSING
from volatility.reports.plots import NAMES, figures, inline

MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def evaluation() -> Json:
    return evaluation_of_five_days()


@pytest.fixture
def undefined() -> Json:
    return evaluation_of_little()


def _words(evaluation: Json) -> str:
    """Return the page without its figures, which take their time."""
    return page_of(typed(evaluation), {})


def test_json_holds_the_evaluation_with_null_for_nan_and_sorted_keys(undefined, tmp_path):
    written = write_evaluation(typed(undefined), tmp_path / "deep" / "reports")
    assert [path.name for path in written] == ["evaluation.json", "evaluation.html"]
    text = written[0].read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert found == plain(typed(undefined))
    assert found["ml_vs_best_simple"]["qlike"]["interval"] == [None, None]
    assert list(found) == sorted(found)
    assert msgspec.json.decode(text, type=Evaluation) == typed(undefined)


@pytest.mark.slow
def test_the_same_evaluation_gives_the_same_bytes(evaluation):
    first, again = (figures(typed(evaluation)) for _ in range(2))
    for name in ("forecast", "per_day"):
        assert inline(first[name]) == inline(again[name])
    assert _words(evaluation) == _words(evaluation)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [evaluation_of_five_days, evaluation_of_little])
def test_page_is_whole_and_loads_nothing(kind):
    page = Page(evaluation_page(typed(kind())))
    assert page.open == []
    assert "script" not in page.tags
    outside = {a for a in page.addresses if not a.startswith("data:")}
    assert outside == {"evaluation.json", "index.html"}
    assert sum(a.startswith("data:image/svg+xml") for a in page.addresses) == len(NAMES)


def test_page_of_what_cannot_be_measured_says_so(undefined):
    text = text_of(_words(undefined))
    assert "Too few rows to compare" in text
    assert not re.search(r"\b(nan|None|inf)\b", text)
    assert "Folds" not in text
    assert "Promotion gate" not in text
    assert "best simple (garch)" in text


def test_leaderboard_ranks_by_qlike_and_marks_the_confidence_set(evaluation):
    rows = Page(_words(evaluation)).rows[1 : 1 + len(LOSSES)]
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
    placebo["constant"]["ml"] = placebo_skill(skill=0.008)
    assert errors(placebo, "ml") == pytest.approx(2.0)
    assert errors(placebo, "absent") is None
    assert placebo_errors(None, "ml") is None
    placebo["constant"]["ml"]["standard_error"] = 0.0
    assert errors(placebo, "ml") == pytest.approx(0.5)


def errors(placebo: Json, model: str) -> float | None:
    return placebo_errors(msgspec.convert(placebo, Placebos), model)


def test_page_tells_what_was_evaluated_the_gate_and_the_model(evaluation):
    page = _words(evaluation)
    text = text_of(page)
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
    text = text_of(_words(evaluation))
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


def test_a_failed_placebo_comes_before_anyplacebo_skill(evaluation):
    evaluation["placebo"]["har"]["baseline"] = placebo_skill(skill=0.02)
    found = verdict(typed(evaluation))
    assert found.state == "worse"
    assert found.sentence.startswith("The placebo failed")
    assert "on the simulated market har, best simple beats the true forecast" in found.sentence
    text = text_of(_words(evaluation))
    assert "Failed. A model beats the true forecast" in text
    assert "Passed." not in text


def test_a_placebo_that_was_not_run_is_named(evaluation):
    evaluation["placebo"] = None
    assert verdict(typed(evaluation)).state == "better"
    assert "Placebo Not run." in text_of(_words(evaluation))


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
    assert "excluded" not in text_of(_words(evaluation))
    assert "Rows excluded (used in training) 1,234" in text_of(
        _words(evaluation | {"excluded_rows": 1_234})
    )


def test_parts_show_ml_beside_the_best_simple_forecast(evaluation):
    evaluation["per_day"][0]["models"]["ml"]["pr_auc"] = None
    rows = Page(_words(evaluation)).rows
    day = next(row for row in rows if row[0] == "2025-12-01")
    assert day[4:] == ["2.670", "2.860", "0.801", "0.858", MISSING, "0.470"]
    fold = next(row for row in rows if row[0] == "2" and len(row) == 13)
    assert fold[1:4] == ["2025-12-05 10:00 UTC", "12,000", "har"]
