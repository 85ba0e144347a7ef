"""Read requests and write answers: JSON in, float64 rows out, every error with row and field."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import msgspec
import numpy as np
import numpy.typing as npt

from volatility.derive import derive
from volatility.feature_table import FEATURE_NAMES

Floats = npt.NDArray[np.float64]

BYTES_PER_ROW = 8192  # every feature by name, with 17 digits, on indented lines: 3.6 kB
EXPLAINED_BYTES = 1024 * 1024  # of a body in which NaN is looked for: it takes 25 times as much
LONGEST_NAME = 80  # characters of a client's own text that an error repeats


class RequestError(Exception):
    """A request that is refused.

    Parameters
    ----------
    status : int
        HTTP status, 4xx or 503.
    reason : str
        Label of the rejection counter: one of a few words.
    message : str
        One line for the client.
    row : int, optional
        Place of the row or tick at fault, counted from 0.
    field : str, optional
        Its feature or field.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        row: int | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.row, self.field = status, reason, row, field

    def body(self) -> bytes:
        """Write the JSON body: error, row, field."""
        return msgspec.json.encode({"error": str(self), "row": self.row, "field": self.field})


class Answer(msgspec.Struct, frozen=True):
    """Hold the answer to a prediction request; its fields in the order of the contract."""

    volatility_score: float
    scores: list[float]
    spike: list[bool]
    threshold: float
    out_of_distribution: list[bool]
    model_name: str
    model_version: str
    model_variant: str
    version: str
    ts: str
    latency_ms: float


class Reason(msgspec.Struct, frozen=True):
    """Hold what one feature adds to the log odds of a score; its value is null where missing."""

    feature: str
    value: float | None
    contribution: float


class Explained(Answer, frozen=True):
    """Hold an answer with each row's reasons, the weightiest first."""

    reasons: list[list[Reason]]


# NaN is what the model knows as missing, so that an absent feature needs no further work.
_Row = msgspec.defstruct(
    "_Row",
    [(name, float, math.nan) for name in FEATURE_NAMES],
    frozen=True,
    forbid_unknown_fields=True,
    gc=False,
)
_Rows = msgspec.defstruct("_Rows", [("rows", list[_Row])], forbid_unknown_fields=True)  # type: ignore[valid-type]
_decoder = msgspec.json.Decoder(_Rows)
# What the decoder raises; the last where what it passes over is nested too deeply.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_PLACE = re.compile(r" - at `\$(?:\.(?:rows|ticks)(?:\[(?P<row>\d+)\](?:\.(?P<field>\w+))?)?)?`$")
UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*)`", re.DOTALL)


def decode_rows(body: bytes, max_rows: int) -> Floats:
    """Read ``{"rows": [{feature: number, ...}, ...]}``.

    Model inputs that the given features determine are filled in; all else that is absent stays
    missing.

    Returns
    -------
    float64[n, len(FEATURE_NAMES)]
        In the order of the feature table; NaN is missing.

    Raises
    ------
    RequestError
        400 when the body is not JSON; 413 above ``max_rows``; 422 when a row or a field is at
        fault.
    """
    bound(body, "rows", max_rows)
    try:
        rows = _decoder.decode(body).rows  # type: ignore[attr-defined]
    except UNREADABLE as error:
        explain(error, body, "rows")
    if not rows:
        raise RequestError(422, "empty", "rows is empty: send at least one row")
    result = np.array([msgspec.structs.astuple(row) for row in rows])
    derive(result)
    return result


def bound(body: bytes, items: str, most: int) -> None:
    """Refuse more items than are allowed, before they are read.

    Eight megabytes of empty rows become a gigabyte of memory. Every item is an object, and there is
    none inside it, nor a brace in its texts: so many braces, so many items.
    """
    count = body.count(b"{") - 1
    if count > most:
        raise RequestError(
            413, "too_many", f"{count} {items} are too many: at most {most} a request"
        )


def explain(error: Exception, body: bytes, items: str) -> NoReturn:
    """Turn a decoding error into a ``RequestError`` that names the row and the field."""
    if not isinstance(error, msgspec.ValidationError):
        _explain_malformed(error, body, items)
    text = str(error)
    place = _PLACE.search(text)
    row = int(place["row"]) if place and place["row"] else None
    field = place["field"] if place else None
    text = _PLACE.sub("", text)
    unknown = UNKNOWN.fullmatch(text)
    if unknown:
        field = shorten(unknown["field"])
        kind = "feature" if items == "rows" and row is not None else "field"
        hint = "; GET /version lists the features" if kind == "feature" else ""
        raise RequestError(422, "unknown_field", f"unknown {kind} '{field}'{hint}", row, field)
    if field is None:
        message = f"the body is not {{{items!r}: [{{...}}, ...]}}: {text}".replace("'", '"')
        raise RequestError(422, "not_a_request", message, row, None)
    if text.endswith("got `null`"):
        message = f"{field} is null: leave out what is missing"
    elif "out of range" in text:
        message = f"{field} is out of range"
    else:
        message = f"{field}: {text.replace('`', '').lower()}"
    raise RequestError(422, "not_a_number", message, row, field)


def shorten(text: str) -> str:
    """Repeat a client's text on one line, and not at any length."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return line if len(line) <= LONGEST_NAME else line[:LONGEST_NAME] + "..."


def _explain_malformed(error: Exception, body: bytes, items: str) -> NoReturn:
    """Say what is no JSON; NaN and infinity, which other readers take, by row and field."""
    try:
        if len(body) > EXPLAINED_BYTES:
            raise ValueError
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        text = shorten(str(error)).removeprefix("JSON is malformed: ")
        raise RequestError(400, "not_json", f"the body is not JSON: {text}") from None
    rows = content.get(items) if isinstance(content, dict) else None
    for place, row in enumerate(rows if isinstance(rows, list) else []):
        for field, value in row.items() if isinstance(row, dict) else ():
            if isinstance(value, float) and not math.isfinite(value):
                name = shorten(field)
                message = f"{name} is not a finite number: leave out what is missing"
                raise RequestError(422, "not_a_number", message, place, name)
    raise RequestError(400, "not_json", "the body is not JSON: NaN and infinity are no numbers")
