"""The sources of ``volatility live``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from service.live import live
from service.live_source import source_of
from volatility.settings import Settings
from volatility.streaming import VENUES
from volatility.streaming.log import LocalLog


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_every_venue_is_a_source_in_a_market_of_its_own(venue: str, tmp_path: Path) -> None:
    assert venue in CliRunner().invoke(live, ["--help"]).output
    options: dict[str, Any] = {
        "symbols": ("BTC-USD",),
        "protocol": "advanced-trade",
        "url": None,
        "path": None,
        "speed": "1",
    }
    with closing(LocalLog(tmp_path / "live")) as log:
        _, running = source_of(venue, Settings(), log, tmp_path, **options)
    assert (running["market"], running["patient"]) == (venue, False)
