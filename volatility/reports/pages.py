"""Render the pages of ``reports/`` in one style.

Pages embed their styles and images, load nothing from the network and need no scripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def render(template: str, **content: object) -> str:
    """Render a template; every value is escaped."""
    return _environment().get_template(template).render(**content)


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with thousands separators; a missing number is a dash."""
    if value is None:
        return MISSING
    return f"{value:,.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """Format a difference with its sign."""
    if value is None:
        return MISSING
    return f"{value:+,.{digits}f}".replace("-", MINUS)


def percent(value: float | None, digits: int = 1) -> str:
    """Format a share in per cent."""
    return MISSING if value is None else f"{100 * value:.{digits}f} %"


def span(interval: Sequence[float | None] | None, digits: int = 3, *, sign: bool = False) -> str:
    """Format an interval; a dash if a bound is missing."""
    show = signed if sign else number
    if interval is None or any(bound is None for bound in interval):
        return MISSING
    return f"{show(interval[0], digits)} to {show(interval[1], digits)}"


def moment(value: str | int | float | None) -> str:
    """Format a time, given as ISO 8601 or seconds since the epoch, to the minute in UTC."""
    if value is None:
        return MISSING
    if isinstance(value, str):
        time = datetime.fromisoformat(value)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    else:
        time = datetime.fromtimestamp(value, UTC)
    return f"{time:%Y-%m-%d %H:%M} UTC"


def stamp(time: datetime) -> str:
    """Return a name for a run, such as 20260404T211343Z; names sort by time."""
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
