"""Render the pages of ``reports/``: one look, plain numbers, files written whole.

Pages carry their style and images inside, load nothing from the network and need no script.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def render(template: str, **content: object) -> str:
    """Fill one of the templates; every value is escaped."""
    return _environment().get_template(template).render(**content)


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file so that a reader sees the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    temporary.replace(path)
    return path


def write_json(path: Path, content: object) -> Path:
    """Write JSON with sorted keys; NaN and infinity become null."""
    return write_whole(
        path, json.dumps(plain(content), indent=1, sort_keys=True, allow_nan=False) + "\n"
    )


def plain(value: object) -> Any:
    """Turn numpy values into Python's, and what is not a finite number into None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def number(value: float | None, digits: int = 3) -> str:
    """Show a number, with thousands separated; a missing one as a dash."""
    if value is None:
        return MISSING
    return f"{value:,.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """Show a difference, with its sign."""
    if value is None:
        return MISSING
    return f"{value:+,.{digits}f}".replace("-", MINUS)


def percent(value: float | None, digits: int = 1) -> str:
    """Show a share in per cent."""
    return MISSING if value is None else f"{100 * value:.{digits}f} %"


def span(interval: Sequence[float | None] | None, digits: int = 3, *, sign: bool = False) -> str:
    """Show an interval; a dash when a bound is missing."""
    show = signed if sign else number
    if interval is None or any(bound is None for bound in interval):
        return MISSING
    return f"{show(interval[0], digits)} to {show(interval[1], digits)}"


def moment(value: str | int | float | None) -> str:
    """Show a time, ISO 8601 or seconds since the epoch, to the minute in UTC."""
    if value is None:
        return MISSING
    if isinstance(value, str):
        time = datetime.fromisoformat(value)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    else:
        time = datetime.fromtimestamp(value, UTC)
    return f"{time:%Y-%m-%d %H:%M} UTC"


def stamp(time: datetime) -> str:
    """Name a run by its time, such as 20260404T211343Z: names sort as times do."""
    return f"{time.astimezone(UTC):%Y%m%dT%H%M%SZ}"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for show in (number, signed, percent, span, moment):
        environment.filters[show.__name__] = show
    return environment
