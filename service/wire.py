"""Define the wire format: decode JSON requests to float64 rows, with row and field in errors."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, NoReturn

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from volatility.features import FEATURE_NAMES, FEATURES, derive
from volatility.models import Variant
from volatility.units import Floats

BYTES_PER_ROW = 8192  # all features by name, with 17 digits, on indented lines, take 3.6 kB
LONGEST_NAME = 80  # characters of the client's text repeated in an error


def doc(description: str, *example: Any, **schema: Any) -> Meta:
    """Return a field's description, example and further JSON schema keywords.

    The keywords are not enforced by the decoder, whose errors are worded for clients instead.
    """
    return Meta(description=description, examples=list(example) or None, extra_json_schema=schema)


Positive = Annotated[float, Meta(ge=0)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
ModelName = Annotated[str, doc("Name of the model.", "crypto-vol-ml")]
ModelVersion = Annotated[str, doc("Version of the model.", "7")]
ModelVariant = Annotated[Variant, doc("Variant of the model that serves.", "ml")]
_BPS = "[basis points over the horizon]"
_QUANTILE = f"of forward volatility {_BPS}."


class Error(msgspec.Struct, frozen=True):
    """Represent the body of an error response."""

    error: Annotated[str, doc("One-line description of the problem.")]
    row: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        doc("Index of the invalid row or tick, counted from 0; null if not applicable."),
    ] = None
    field: Annotated[str | None, doc("Name of the invalid field; null if not applicable.")] = None


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
        return msgspec.json.encode(Error(str(self), self.row, self.field))


class Quantiles(msgspec.Struct, frozen=True, gc=False):
    """Represent quantiles of forward volatility [basis points over the horizon]."""

    p05: Annotated[Positive, doc(f"Quantile 0.05 {_QUANTILE}")]
    p25: Annotated[Positive, doc(f"Quantile 0.25 {_QUANTILE}")]
    p50: Annotated[Positive, doc(f"Quantile 0.5 {_QUANTILE}")]
    p75: Annotated[Positive, doc(f"Quantile 0.75 {_QUANTILE}")]
    p95: Annotated[Positive, doc(f"Quantile 0.95 {_QUANTILE}")]


class Horizon(msgspec.Struct, frozen=True, gc=False):
    """Represent a row's forecast over one horizon."""

    volatility_bps: Annotated[Positive, doc(f"Expected volatility {_BPS}.")]
    annualised_percent: Annotated[Positive, doc("Expected volatility, annualised [per cent].")]
    quantiles_bps: Quantiles
    spike_level_bps: Annotated[
        Positive, doc(f"Volatility from which a move counts as a spike {_BPS}.")
    ]


Forecasts = Annotated[
    dict[str, Horizon],
    doc(
        "Forecasts keyed by horizon in seconds, for example 60s.",
        {
            "60s": Horizon(4.1, 29.7, Quantiles(1.2, 2.4, 3.6, 5.3, 9.2), 7.5),
            "300s": Horizon(8.9, 28.9, Quantiles(3.6, 6.2, 8.3, 10.9, 17.1), 15.8),
            "900s": Horizon(15.2, 28.5, Quantiles(7.5, 11.3, 14.4, 18.3, 27.4), 26.1),
        },
    ),
]


class Reason(msgspec.Struct, frozen=True):
    """Represent a feature's contribution to a log forecast."""

    feature: Annotated[str, doc("Name of the feature.", enum=FEATURE_NAMES)]
    value: Annotated[float | None, doc("Value [unit of the feature]; null if missing.")]
    contribution: Annotated[
        float,
        doc(
            "Contribution to the logarithm of the expected volatility over the first horizon [log "
            "of volatility: 0.1 is about 10 % more]."
        ),
    ]


_EXAMPLE_REASONS = [
    Reason("realised_volatility_60s", 0.00012, 0.31),
    Reason("realised_volatility_900s", 0.00006, -0.12),
    Reason("quote_imbalance", None, 0.03),
]


class Answer(msgspec.Struct, frozen=True):
    """Represent the response to a prediction request, with fields in the order of the contract."""

    volatility_score: Annotated[Probability, doc("Score of the last (newest) row.", 0.93)]
    scores: Annotated[
        list[Probability],
        doc(
            "For each row, in order: probability that volatility over the first horizon reaches "
            "the spike level.",
            [0.93],
        ),
    ]
    spike: Annotated[list[bool], doc("Whether each score reaches the threshold.", [True])]
    threshold: Annotated[
        Probability,
        doc("Score from which a row counts as a spike; chosen to meet the alert budget.", 0.41),
    ]
    out_of_distribution: Annotated[
        list[bool], doc("Whether each row lies outside the range of the training data.", [False])
    ]
    forecasts: Annotated[list[Forecasts], doc("One object per row, in order.")]
    model_name: ModelName
    model_version: ModelVersion
    model_variant: ModelVariant
    version: Annotated[str, doc("Same as model_version.", "7")]
    ts: Annotated[Time, doc("Time of the response, UTC.", "2026-04-04T21:13:43.291Z")]
    latency_ms: Annotated[
        Positive, doc("Measured time from the request body to the scores [ms].", 0.2)
    ]
    steps: Annotated[
        list[int] | UnsetType,
        doc(
            "Only for ticks: time of each row [ns since the epoch, UTC], ascending.",
            [1775337223000000000],
        ),
    ] = UNSET
    reasons: Annotated[
        list[Annotated[list[Reason], Meta(max_length=3)]] | UnsetType,
        doc(
            "Only with explain=true: up to three features with the largest contributions to each "
            "row, largest first. Features that contribute nothing are omitted.",
            [_EXAMPLE_REASONS],
        ),
    ] = UNSET


# The model treats NaN as missing, so an absent feature needs no further work.
Row = msgspec.defstruct(
    "Row",
    [(f.name, Annotated[float, doc(f"{f.meaning} [{f.unit}]")], math.nan) for f in FEATURES],
    frozen=True,
    forbid_unknown_fields=True,
    gc=False,
)


class Rows(msgspec.Struct, forbid_unknown_fields=True):
    """Represent the body of a request for rows of one symbol."""

    rows: Annotated[list[Row], doc("Rows of one symbol.", minItems=1)]  # type: ignore[valid-type]
    symbol: Annotated[
        str | None,
        doc(
            "Symbol of the rows, for example BTC-USD; selects the symbol's own fit and spike "
            "level. If omitted, the model's training symbol is used, provided it was trained on "
            "only one. An unknown symbol is forecast with the parameters that all symbols share."
        ),
    ] = None


_decoder = msgspec.json.Decoder(Rows)
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
