"""Say how to write a setting whose value is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
import yaml

# What may follow a number by mistake: seconds, or a share.
UNITS = {"%": 0.01, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
UNITS |= {"second": 1, "seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "": 0}


class SettingsError(ValueError):
    """A setting is invalid; the message names the file and the key."""


def explain(message: str, found: Any, kind: type[msgspec.Struct]) -> str:
    """Add to an error of msgspec what is written, and what it should be.

    ``found`` is the content in which msgspec found the error when it converted it to ``kind``, a
    struct of sections that all have defaults.
    """
    at = re.search(r"at `\$\.([\w.]+)", message)
    keys = at[1].split(".") if at else []
    example: Any = msgspec.to_builtins(kind())
    value = found
    for key in keys:
        example = example[key]
        value = value.get(key) if isinstance(value, dict) else None
    unknown = re.search(r"unknown field `(.*?)`", message)
    if unknown:
        close = difflib.get_close_matches(unknown[1], example, 1)
        return f"{message}; " + (
            f"did you mean `{close[0]}`?" if close else f"it may have {', '.join(example)}"
        )
    if not message.startswith("Expected"):
        return message  # it shows the right spelling already
    if len(keys) < 2:
        section = keys[0] if keys else "train"
        return f"{message}; write the section as in `{section}:` and its keys, indented, below it"
    written = "empty" if value is None else repr(value)
    right = (
        next(_meant(found, keys, value, kind), example) if isinstance(value, str | int) else example
    )
    if right == {}:
        right = {"BTC-USD": 7.5}
    shown = yaml.safe_dump({keys[-1]: right}, default_flow_style=True, width=1000).strip()[1:-1]
    return f"{message}, which is {written}; write `{shown}`"


def _meant(
    found: Any, keys: list[str], value: str | int, kind: type[msgspec.Struct]
) -> Iterator[Any]:
    """Yield spellings of a value that are valid, the likeliest first."""
    text = str(value).strip()
    number = re.match(r"[-+]?[\d_]*[.,]?\d+(?:[eE][-+]?\d+)?", text)
    candidates: list[Any] = []
    if number:
        plain = number[0].replace("_", "").replace(",", ".")
        unit = UNITS.get(text[number.end() :].strip().lower())
        if unit is not None:
            factor = unit / _unit(keys) if unit >= 1 else unit or 1
            parsed = float(plain) * factor
            candidates += [int(parsed) if parsed.is_integer() else parsed]
    parts = [part for part in re.split(r"[,;\s]+", text.strip("[]")) if part]
    candidates += [list(parts), [int(p) for p in parts if p.isdecimal()], *dates(text), text]
    for candidate in candidates:
        section = {**found[keys[0]], keys[1]: candidate}
        try:
            msgspec.convert({keys[0]: section}, kind)
        except msgspec.ValidationError:
            continue
        yield candidate


def _unit(keys: list[str]) -> int:
    """Return the seconds of a setting's unit; 1 if it has none."""
    return 3600 if "hours" in keys[1] else 86_400 if "days" in keys[1] else 1


def dates(text: str) -> Iterator[str]:
    """Yield the ISO 8601 dates that a text may mean."""
    for form in ("%Y-%m-%d", "%Y%m%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y"):
        try:
            yield datetime.strptime(text.strip(), form).date().isoformat()  # noqa: DTZ007 - a day
        except ValueError:
            continue
