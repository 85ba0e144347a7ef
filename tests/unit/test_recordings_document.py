"""The page on recordings lists what the table of names contains."""

from __future__ import annotations

from pathlib import Path

from volatility.sources.recordings.names import KNOWN, NAMES, TRADE_NAMES

PAGE = (Path(__file__).parents[2] / "docs" / "recordings.md").read_text()


def test_every_known_export_is_listed_and_no_other() -> None:
    listed = PAGE.partition("Known exports:")[2].partition("## Columns")[0].strip().splitlines()
    assert listed == [f"- {title}" for title in dict.fromkeys(known.title for known in KNOWN)]


def test_every_name_of_a_column_is_listed() -> None:
    for table in (NAMES, TRADE_NAMES):
        for field, names in table.items():
            assert f"| `{field}` | {', '.join(names)} |" in PAGE
