"""Convert columns of any type: decimal numbers, whole numbers, sides and texts.

What does not fit becomes missing; whether that costs the row is for the caller to decide.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from volatility.units import Floats, Integers

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_COMMA = r"^[+-]?\d+,\d+$"  # 60000,5 as written in a file whose delimiter is another
_WHOLE = r"^-?\d{1,18}$"
_LARGEST = 2**63 - 1
_UNDEFINED = (2**63 - 1, -(2**63))  # how databento writes a missing price
_HIGH_PRECISION = 1e-16  # nautilus_trader's 128-bit numbers; its 64-bit ones are 1e-9
NO_TEXT = ("", "nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A", "nil", "-")


def plain(column: pa.Array) -> pa.Array:
    """Decode a dictionary, and any kind of text or bytes as text."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        try:
            return column.cast(pa.string())
        except pa.ArrowInvalid:  # not UTF-8
            return pa.nulls(len(column), pa.string())
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    return column


def is_text(column: pa.Array) -> bool:
    """Return whether a column is text once it is ``plain``."""
    return bool(pa.types.is_string(column.type))


def trimmed(column: pa.Array) -> pa.Array:
    """Strip texts, and turn what says that there is nothing into null."""
    text = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.is_in(text, pa.array(NO_TEXT)), None, text)


def numbers(column: pa.Array, scale: float = 1.0) -> Floats:
    """Return float64[rows]: NaN where a value is missing or not a number.

    ``scale`` is what integers are multiplied by; 1 for those that mean what they say.
    """
    column = plain(column)
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if is_text(column):
        return _floats(_text_numbers(column))
    if pa.types.is_fixed_size_binary(kind):
        return _fixed(column)
    if pa.types.is_integer(kind) and scale != 1.0:
        values = _floats(column.cast(pa.float64(), safe=False))
        undefined = np.isin(_floats(column.cast(pa.float64(), safe=False)), _UNDEFINED)
        return np.where(undefined, np.nan, values / round(1 / scale))
    if pa.types.is_temporal(kind) or pa.types.is_nested(kind):
        return np.full(len(column), np.nan)
    return _floats(column.cast(pa.float64(), safe=False))


def _floats(column: pa.Array) -> Floats:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _text_numbers(column: pa.Array) -> pa.Array:
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:
        text = trimmed(column)
    text = pc.if_else(
        pc.match_substring_regex(text, _COMMA), pc.replace_substring(text, ",", "."), text
    )
    return pc.if_else(pc.match_substring_regex(text, _NUMBER), text, None).cast(pa.float64())


def _fixed(column: pa.Array) -> Floats:
    """Read little-endian fixed-point numbers of 8 or 16 bytes."""
    width = column.type.byte_width
    if width not in {8, 16}:
        return np.full(len(column), np.nan)
    raw = b"".join(value or b"\0" * width for value in column.to_pylist())
    if width == 8:
        values = np.frombuffer(raw, "<i8") / 1e9
    else:
        pairs = np.frombuffer(raw, "<u8").reshape(-1, 2)
        whole = [int(high) << 64 | int(low) for low, high in pairs]
        signed = [value - (1 << 128) if value >> 127 else value for value in whole]
        values = np.array([value / 10**16 for value in signed])
    return np.where(np.asarray(column.is_valid()), values, np.nan)


def integers(column: pa.Array) -> pa.Array:
    """Return int64[rows]: null where a value is missing or not a whole number of 64 bits."""
    column = plain(column)
    kind = column.type
    if pa.types.is_integer(kind):
        if pa.types.is_uint64(kind):
            column = pc.if_else(pc.less_equal(column, pa.scalar(_LARGEST, kind)), column, None)
        return column.cast(pa.int64())
    if is_text(column):
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            text = trimmed(column)
        return pc.if_else(pc.match_substring_regex(text, _WHOLE), text, None).cast(pa.int64())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = _floats(column.cast(pa.float64(), safe=False))
        whole = np.isfinite(values) & (np.abs(values) < 2.0**53) & (np.floor(values) == values)
        return pa.array(np.where(whole, values, 0.0).astype(np.int64), mask=~whole)
    return pa.nulls(len(column), pa.int64())


def texts(column: pa.Array) -> pa.Array:
    """Return string[rows], as written."""
    column = plain(column)
    return column if is_text(column) else column.cast(pa.string())


def sides(column: pa.Array, table: dict[str, str]) -> pa.Array:
    """Return the taker's side, ``buy`` or ``sell``: null where it is neither."""
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(texts(column)))
    encoded = lower.dictionary_encode()
    known = pa.array(
        [table.get(text or "") for text in encoded.dictionary.to_pylist()], pa.string()
    )
    return known.take(encoded.indices)


def makers(column: pa.Array) -> pa.Array:
    """Return the taker's side from whether the buyer was the maker."""
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(texts(column)))
    sold = pc.is_in(lower, pa.array(["true", "1", "t"]))
    bought = pc.is_in(lower, pa.array(["false", "0", "f"]))
    return pc.if_else(sold, "sell", pc.if_else(bought, "buy", pa.scalar(None, pa.string())))


def valid(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Return bool[rows]: where a column has something to say; empty text does not."""
    column = plain(column)
    present = np.asarray(column.is_valid())
    if is_text(column):
        present &= np.asarray(trimmed(column).is_valid())
    return present


def as_integers(column: pa.Array) -> Integers:
    """Return int64[rows] with 0 where a value is null."""
    return np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)
