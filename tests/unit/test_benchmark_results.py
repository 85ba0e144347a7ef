"""Check what every benchmark writes: the ratio, whether a target is met, the JSON, the table."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path

import pytest

from benchmarks.results import Row, compare, missed, read, table, write

COMMITTED = Path(__file__).parents[2] / "benchmarks" / "results"


def test_lower_is_better_by_default() -> None:
    row = compare("a", "MiB", 4.0, target=10.0, peer=40.0, peer_name="other")
    assert (row.ratio, row.target, row.met) == (10.0, "<= 10 MiB", True)
    assert compare("a", "MiB", 10.5, target=10.0).met is False


def test_higher_is_better_where_said() -> None:
    row = compare("a", "%", 2.0, better="higher", target=3.0, peer=1.0, peer_name="other")
    assert (row.ratio, row.target, row.met) == (2.0, ">= 3 %", False)


@pytest.mark.parametrize(("peer", "met"), [(49.0, False), (50.0, True)])
def test_a_ratio_can_be_the_target(peer: float, met: bool) -> None:
    row = compare("a", "ms", 10.0, target_ratio=5.0, peer=peer, peer_name="other")
    assert (row.target, row.met) == ("ratio >= 5", met)


def test_both_targets_must_be_met() -> None:
    row = compare("a", "MiB", 1.0, target=2.0, target_ratio=5.0, peer=4.0, peer_name="other")
    assert (row.target, row.met) == ("<= 2 MiB, ratio >= 5", False)


@pytest.mark.parametrize("unit", ["us", "ms", "s", "ticks/s", "million steps/s"])
def test_a_time_is_held_against_a_peer_not_against_the_clock(unit: str) -> None:
    with pytest.raises(ValueError, match="a ratio to a peer"):
        compare("a", unit, 1.0, target=2.0)


def test_nothing_promised_is_neither_met_nor_missed() -> None:
    rows = [compare("a", "ms", 1.0), compare("b", "x", 1.0, target=0.5)]
    assert rows[0].met is None
    assert missed(rows) == rows[1:]


@pytest.mark.parametrize("figure", [0.0, -1.0, math.nan, math.inf])
def test_a_figure_that_is_none_is_refused(figure: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        compare("speed", "ms", figure)
    with pytest.raises(ValueError, match="speed"):
        compare("speed", "ms", 1.0, peer=figure)


def test_a_ratio_without_a_peer_is_refused() -> None:
    with pytest.raises(ValueError, match="peer"):
        compare("speed", "ms", 1.0, target_ratio=5.0)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    rows = [
        compare("a", "ms", 1.25, target_ratio=2.0, peer=5.0, peer_name="other"),
        compare("b", "s", 3.0),
    ]
    path = tmp_path / "results" / "some.json"
    write(rows, path)
    assert read(path) == rows
    assert list(json.loads(path.read_text())[0]) == [field.name for field in fields(Row)]
    assert [file.name for file in path.parent.iterdir()] == ["some.json"]


def test_a_failed_write_leaves_the_old_results(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    write([compare("a", "ms", 1.0)], path)
    before = path.read_text()
    with pytest.raises(ValueError, match="JSON"):
        write([Row("a", "ms", math.nan, None, None, None, None, None)], path)
    assert path.read_text() == before


def test_the_table_says_what_is_not_met() -> None:
    text = table(
        [
            compare("fast", "MiB", 1.0, target=2.0),
            compare("slow", "MiB", 3.0, target=2.0, peer=1234.5, peer_name="other"),
            compare("neither", "us", 1.0),
        ]
    ).splitlines()
    assert text[0].split() == [field.name for field in fields(Row)]
    assert text[2].endswith(" met")
    assert "NOT MET" not in text[2]
    assert text[3].endswith("NOT MET")
    assert "1,23" in text[3]
    assert text[4].endswith(" -")


# What the study of the recordings found has rows of another form.
MEASURED = sorted(path for path in COMMITTED.glob("*.json") if path.name != "prediction.json")


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.name)
def test_committed_results_say_what_was_measured(path: Path) -> None:
    rows = read(path)
    assert rows
    for row in rows:
        assert math.isfinite(row.ours)
        assert (row.peer is None) == (row.peer_name is None) == (row.ratio is None)
        assert (row.target is None) == (row.met is None)
