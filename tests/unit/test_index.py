"""The index of the reports, and the numbers on pages."""

from __future__ import annotations

import json

import pytest

from tests.evaluations import Json, evaluation_of_five_days, typed
from tests.pages import Page, text_of
from volatility.files import write_json
from volatility.reports.evaluation import (
    verdict,
)
from volatility.reports.index import write_index
from volatility.reports.pages import MISSING, moment, number, span

MINUS = "\N{MINUS SIGN}"
DRIFT = {
    "drift_share": 0.1481,
    "drifted_features": 4,
    "features": 27,
    "alert": False,
    "reference": {"rows": 20_000, "start": "2025-12-01T14:03:11Z", "stop": "2026-04-03T00:00:00Z"},
    "current": {"rows": 7_001, "start": "2026-04-03T00:01:00Z", "stop": "2026-04-04T21:00:00Z"},
}


@pytest.fixture
def evaluation() -> Json:
    return evaluation_of_five_days()


def test_numbers_are_plain():
    assert number(-1234.5678, 1) == f"{MINUS}1,234.6"
    assert number(None) == MISSING
    assert span([0.1, None]) == MISSING
    assert span([-0.1, 0.2], sign=True) == f"{MINUS}0.100 to +0.200"
    assert moment("2026-04-04T23:30:00+02:00") == "2026-04-04 21:30 UTC"
    assert moment(0) == "1970-01-01 00:00 UTC"


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
    parsed, text = Page(page), text_of(page)
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
    text = text_of(write_index(tmp_path / "reports").read_text())
    assert "volatility evaluate" in text


@pytest.mark.parametrize("content", ["{", "[]", '{"models": {}}', '{"drift_share": null}'])
def test_index_survives_a_report_it_cannot_read(content, tmp_path):
    for name in ("evaluation", "drift"):
        (tmp_path / f"{name}.json").write_text(content)
    text = text_of(write_index(tmp_path).read_text())
    assert text.count("cannot be read") == 2
