"""Represent the study's measures like other benchmark results, but with an interval."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from volatility.files import Json, write_json


@dataclass(frozen=True)
class StudyRow:
    """Represent one measure.

    ``ours`` and ``peer`` are the two sides; ``difference`` is ours minus the peer's, with its 95 %
    block-bootstrap ``interval``. ``ratio`` is always empty for these measures.
    """

    measure: str
    unit: str
    ours: float | None
    peer: float | None
    peer_name: str | None
    ratio: float | None
    target: str | None
    met: bool | None
    difference: float | None = None
    interval: tuple[float, float] | None = None

    def finding(self) -> str:
        """Return the measure and its result."""
        found = "not measured" if self.ours is None else f"{self.ours:.4f}"
        if self.difference is not None and self.interval is not None:
            low, high = self.interval
            found = f"{self.difference:+.4f} ({low:+.4f} to {high:+.4f})"
        return f"{self.measure} {found}"

    def text(self) -> str:
        """Return the row as a line that states whether its target is met."""
        if self.met is None:
            return self.finding()
        return f"{self.finding()} | {'met' if self.met else 'NOT MET'}"


def interval_row(
    measure: str,
    unit: str,
    ours: float | None,
    peer: float | None,
    peer_name: str,
    found: Json,
    target: str | None,
) -> StudyRow:
    """Return a row for a difference; the target states where its interval must lie."""
    low, high = found["interval"]
    if low is None or not math.isfinite(low):
        return StudyRow(measure, unit, ours, peer, peer_name, None, target, None)
    met = {
        None: None,
        "interval below zero": high < 0.0,
        "interval above zero": low > 0.0,
        "interval not wholly above zero": low <= 0.0,
        "interval not wholly below zero": high >= 0.0,
    }[target]
    return StudyRow(
        measure, unit, ours, peer, peer_name, None, target, met, found["difference"], (low, high)
    )


def point_row(measure: str, unit: str, ours: float, target: str | None, most: float) -> StudyRow:
    """Return a row for a figure that should be at most ``most``."""
    met = None if target is None else ours <= most
    return StudyRow(measure, unit, ours, None, None, None, target, met)


def write_rows(rows: Sequence[StudyRow], path: Path) -> None:
    """Write the rows as JSON with four digits: more would add noise to every diff."""
    write_json(path, [_rounded(asdict(row)) for row in rows])


def read_rows(path: Path) -> list[StudyRow]:
    """Read rows written by ``write_rows``."""
    found = json.loads(path.read_text())
    return [
        StudyRow(**(row | {"interval": tuple(row["interval"]) if row["interval"] else None}))
        for row in found
    ]


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
