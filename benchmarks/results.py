"""Store benchmark results: one row per measure, as JSON and as a table.

>>> row = compare(
...     "one row scored", "us", 4.0, target_ratio=100.0, peer=1000.0, peer_name="scikit-learn"
... )
>>> row.ratio, row.met
(250.0, True)
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from volatility.files import write_whole

Better = Literal["lower", "higher"]
TIMES = frozenset({"us", "ms", "s"})


@dataclass(frozen=True)
class Row:
    """Represent one measure.

    Parameters
    ----------
    measure, unit : str
        What was measured, and the unit of ``ours`` and ``peer``.
    ours : float
    peer : float, optional
        The same for an alternative that a user would choose.
    peer_name : str, optional
    ratio : float, optional
        How many times better than the peer; above 1 is better.
    target : str, optional
        Target, such as ``ratio >= 5``.
    met : bool, optional
        None if there is no target.
    """

    measure: str
    unit: str
    ours: float
    peer: float | None
    peer_name: str | None
    ratio: float | None
    target: str | None
    met: bool | None


def compare(
    measure: str,
    unit: str,
    ours: float,
    *,
    better: Better = "lower",
    target: float | None = None,
    target_ratio: float | None = None,
    peer: float | None = None,
    peer_name: str | None = None,
) -> Row:
    """Return a row with the ratio to the peer and whether the target is met.

    Parameters
    ----------
    measure, unit, ours, peer, peer_name
        As in ``Row``.
    better : {"lower", "higher"}
        Which direction is better.
    target : float, optional
        Bound on ``ours``: the maximum if lower is better, otherwise the minimum. Not for times
        and speeds, which depend on the machine: their target is a ratio measured in the same run.
    target_ratio : float, optional
        Minimum ratio to the peer.

    Raises
    ------
    ValueError
        If a figure is not finite and positive, ``target_ratio`` is given without a peer, or
        ``target`` for a time or a speed.
    """
    for figure in (ours, peer):
        if figure is not None and not (math.isfinite(figure) and figure > 0.0):
            raise ValueError(f"{measure}: {figure} is not a finite positive number")
    if target is not None and (unit in TIMES or unit.endswith("/s")):
        raise ValueError(f"{measure}: the target of a time or a speed is a ratio to a peer")
    if target_ratio is not None and peer is None:
        raise ValueError(f"{measure}: a ratio needs a peer")
    ratio = None
    if peer is not None:
        ratio = peer / ours if better == "lower" else ours / peer
    promises: list[tuple[str, bool]] = []
    if target is not None:
        sign, kept = ("<=", ours <= target) if better == "lower" else (">=", ours >= target)
        promises.append((f"{sign} {target:,g} {unit}", kept))
    if target_ratio is not None and ratio is not None:
        promises.append((f"ratio >= {target_ratio:g}", ratio >= target_ratio))
    return Row(
        measure=measure,
        unit=unit,
        ours=ours,
        peer=peer,
        peer_name=peer_name,
        ratio=ratio,
        target=", ".join(text for text, _ in promises) or None,
        met=all(kept for _, kept in promises) if promises else None,
    )


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as a JSON list, atomically."""
    content = [{name: _rounded(value) for name, value in asdict(row).items()} for row in rows]
    write_whole(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read(path: Path) -> list[Row]:
    """Read rows written by ``write``."""
    return [Row(**entry) for entry in json.loads(path.read_text())]


def table(rows: Sequence[Row]) -> str:
    """Format the rows as a text table with right-aligned figures."""
    head = tuple(field.name for field in fields(Row))
    body = [tuple(_cell(getattr(row, name)) for name in head) for row in rows]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    right = {"ours", "peer", "ratio"}
    lines = [
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(head, line, widths, strict=True)
        ).rstrip()
        for line in [head, tuple("-" * width for width in widths), *body]
    ]
    return "\n".join(lines)


def missed(rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose target was not met."""
    return [row for row in rows if row.met is False]


def _rounded(value: object) -> object:
    """Round a measure to four digits: more would add noise to every diff."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "met" if value else "NOT MET"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)
