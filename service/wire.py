"""Define the wire format: decode JSON requests to float64 rows, with row and field in errors."""

from __future__ import annotations

import math
import re
from typing import Any, NoReturn

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from volatility.features import FEATURE_NAMES, derive
from volatility.units import Floats

BYTES_PER_ROW = 8192  # all features by name, with 17 digits, on indented lines, take 3.6 kB
LONGEST_NAME = 80  # characters of the client's text repeated in an error


class RequestError(Exception):
    """Report a request that is refused.

    Parameters
    ----------
    status : int
        HTTP status, 4xx or 503.
    reason : str
        Label of the rejection counter, from a small set of values.
    message : str
        One line for the client.
    row : int, optional
        Index of the invalid row or tick, counted from 0.
    field : str, optional
        Name of the invalid feature or field.
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
        """Return the JSON body: error, row, field."""
        return msgspec.json.encode({"error": str(self), "row": self.row, "field": self.field})


class Quantiles(msgspec.Struct, frozen=True, gc=False):
    """Represent quantiles of forward volatility [basis points over the horizon]."""

    p05: float
    p25: float
    p50: float
    p75: float
    p95: float


class Horizon(msgspec.Struct, frozen=True, gc=False):
    """Represent a row's forecast over one horizon."""

    volatility_bps: float
    annualised_percent: float
    quantiles_bps: Quantiles
    spike_level_bps: float


class Reason(msgspec.Struct, frozen=True):
    """Represent a feature's contribution to a log forecast; the value is null if missing."""

    feature: str
    value: float | None
    contribution: float


class Answer(msgspec.Struct, frozen=True):
    """Represent the response to a prediction request, with fields in the order of the contract.

    ``forecasts`` has one object per row, which maps horizons such as ``60s`` to a ``Horizon``.
    ``steps`` [ns] is set for rows built from ticks, ``reasons`` if they were requested.
    """

    volatility_score: float
    scores: list[float]
    spike: list[bool]
    threshold: float
    out_of_distribution: list[bool]
    forecasts: list[dict[str, Horizon]]
    model_name: str
    model_version: str
    model_variant: str
    version: str
    ts: str
    latency_ms: float
    steps: list[int] | UnsetType = UNSET
    reasons: list[list[Reason]] | UnsetType = UNSET


# The model treats NaN as missing, so an absent feature needs no further work.
_Row = msgspec.defstruct(
    "_Row",
    [(name, float, math.nan) for name in FEATURE_NAMES],
    frozen=True,
    forbid_unknown_fields=True,
    gc=False,
)
_Rows = msgspec.defstruct(
    "_Rows",
    [("rows", list[_Row]), ("symbol", str | None, None)],  # type: ignore[valid-type]
    forbid_unknown_fields=True,
)
_decoder = msgspec.json.Decoder(_Rows)
# Errors raised by the decoder; RecursionError if a skipped value is nested too deeply.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_PLACE = re.compile(
    r" - at `\$(?:\.(?P<top>symbol)|\.(?:rows|ticks)(?:\[(?P<row>\d+)\](?:\.(?P<field>\w+))?)?)?`$"
)
_BYTE = re.compile(r"invalid character \(byte (\d+)\)$")
# The reported byte may be the one after a minus.
_CONSTANT = re.compile(rb"[\s\S]??(-?(?:NaN|Infinity))\b")
UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*)`", re.DOTALL)


def decode_request(body: bytes, max_rows: int) -> tuple[Floats, str | None]:
    """Read ``{"rows": [{feature: number, ...}, ...], "symbol": "BTC-USD"}``.

    Model inputs that follow from the given features are derived; any other absent feature stays
    missing.

    Returns
    -------
    rows : float64[n, len(FEATURE_NAMES)]
        In the order of the feature table; NaN is missing.
    symbol : str, optional
        None if the request has no symbol.

    Raises
    ------
    RequestError
        400 if the body is not JSON; 413 above ``max_rows``; 422 if a row or a field is invalid.
    """
    bound(body, "rows", max_rows)
    try:
        read: Any = _decoder.decode(body)
    except UNREADABLE as error:
        explain(error, body, "rows", _decoder)
    if not read.rows:
        raise RequestError(422, "empty", "rows is empty: send at least one row")
    result = np.array([msgspec.structs.astuple(row) for row in read.rows])
    derive(result)
    return result, read.symbol


def decode_rows(body: bytes, max_rows: int) -> Floats:
    """Read the rows of a request; see ``decode_request``."""
    return decode_request(body, max_rows)[0]


def bound(body: bytes, items: str, most: int) -> None:
    """Refuse a body with too many items before it is decoded.

    Eight megabytes of empty rows would take a gigabyte of memory. Items are objects without nested
    objects, so there are at most as many items as opening braces.
    """
    count = body.count(b"{") - 1
    if count > most:
        raise RequestError(
            413, "too_many", f"{count} {items} are too many: at most {most} a request"
        )


def explain(
    error: Exception, body: bytes, items: str, decoder: msgspec.json.Decoder[Any]
) -> NoReturn:
    """Turn a decoding error into a ``RequestError`` that names the row and the field."""
    if not isinstance(error, msgspec.ValidationError):
        _explain_malformed(error, body, decoder)
    text = str(error)
    place = _PLACE.search(text)
    row = int(place["row"]) if place and place["row"] else None
    field = (place["field"] or place["top"]) if place else None
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
    if place and place["top"]:
        message = f"{field} is not text"
    elif text.endswith("got `null`"):
        message = f"{field} is null: leave out what is missing"
    elif "out of range" in text:
        message = f"{field} is out of range"
    else:
        message = f"{field}: {text.replace('`', '').lower()}"
    raise RequestError(422, "not_a_number", message, row, field)


def shorten(text: str) -> str:
    """Return a client's text on one line, shortened if it is long."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return line if len(line) <= LONGEST_NAME else line[:LONGEST_NAME] + "..."


def _explain_malformed(
    error: Exception, body: bytes, decoder: msgspec.json.Decoder[Any]
) -> NoReturn:
    """Raise the error for malformed JSON; name row and field of NaN or infinity.

    Other parsers accept NaN and infinity, so clients may send them. The decoder stops at the first
    of them and reports the byte. It names row and field itself if a value of a wrong type is there
    instead, which takes no more time or memory than a valid body.
    """
    text = shorten(str(error)).removeprefix("JSON is malformed: ")
    place = _BYTE.search(text)
    constant = _CONSTANT.match(body, max(int(place[1]) - 1, 0)) if place else None
    if constant is not None:
        found = _PLACE.search(_type_error(body[: constant.start(1)] + b"[]", decoder))
        if found and found["field"]:
            message = f"{found['field']} is not a finite number: leave out what is missing"
            raise RequestError(422, "not_a_number", message, int(found["row"]), found["field"])
        text = "NaN and infinity are not allowed"
    raise RequestError(400, "not_json", f"the body is not JSON: {text}")


def _type_error(body: bytes, decoder: msgspec.json.Decoder[Any]) -> str:
    """Return the error of decoding a body; empty if there is none."""
    try:
        decoder.decode(body)
    except UNREADABLE as error:
        return str(error)
    return ""
