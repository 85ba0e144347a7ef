"""Share what every flow needs: settings and paths, given as plain values."""

from __future__ import annotations

from pathlib import Path

from volatility import settings
from volatility.stages import Paths


def read(params: str) -> settings.Settings:
    """Read the settings."""
    return settings.load(params)


def paths(ticks: str, data: str, reports: str) -> Paths:
    """Give the stages' paths: the lake, the folder of features and model, the reports."""
    return Paths(
        ticks=Path(ticks),
        features=Path(data) / "features",
        model=Path(data) / "model",
        reports=Path(reports),
    )
