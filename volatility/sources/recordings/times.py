"""Read a column of times, whatever its type: timestamps, numbers of a unit, text.

The unit of numbers is decided once per column, by the only one that puts them between 2009 and
2100; the ranges of seconds, milliseconds, microseconds and nanoseconds do not overlap.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from volatility.records import EARLIEST_NS, LATEST_NS
from volatility.sources.recordings.chunks import RecordingError
from volatility.sources.recordings.columns import as_integers, is_text, plain, trimmed
from volatility.units import Floats, Integers

UNIT_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
UNITS = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
}
_DECIMAL = r"^(?P<whole>\d{1,19})(?:\.(?P<part>\d+))?$"
_MOMENT = re.compile(
    r"(\d{4})-(\d\d?)-(\d\d?)[Tt _]"
    r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:[.,](\d{1,9})\d*)?)?"
    r"\s*(?:(?:[Zz]|UTC|GMT)|([+-])(\d\d):?(\d\d)?)?(?: (?:UTC|GMT))?(?: m=[+-][\d.]+)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(text: str) -> int | None:
    """Read a date and time of 0 to 9 digits as nanoseconds since the epoch; UTC without a zone.

    >>> moment("2026-04-04 21:13:43.291084825+02:00"), moment("2026-04-04"), moment("noon")
    (1775330023291084825, None, None)
    """
    match = _MOMENT.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, part, sign, zone_hours, zone_minutes = match.groups()
    try:
        whole = datetime(
            int(year), int(month), int(day), int(hour), int(minute), int(second or 0), tzinfo=UTC
        )
    except ValueError:
        return None
    seconds = (whole - _EPOCH) // timedelta(seconds=1)
    if sign:
        zone = int(zone_hours) * 3600 + int(zone_minutes or 0) * 60
        seconds += -zone if sign == "+" else zone
    return seconds * 1_000_000_000 + int((part or "").ljust(9, "0"))


def instant(value: object) -> int | None:
    """Read one time of any form as nanoseconds since the epoch; None if it is not one.

    >>> instant(1762932011.5), instant("1762932011500"), instant("2025-11-12T07:20:11.5Z")
    (1762932011500000000, 1762932011500000000, 1762932011500000000)
    """
    if isinstance(value, str):
        found = moment(value)
        if found is not None:
            return found
    elif isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        number = Decimal(str(value))
        for unit in UNIT_NS.values():
            if EARLIEST_NS <= number * unit <= LATEST_NS:
                return int(number * unit)
    except (InvalidOperation, OverflowError, ValueError):
        return None
    return None


class Times:
    """Read one column of times, batch by batch.

    Parameters
    ----------
    name : str
        Name of the column, for messages.
    unit : str
        Unit of its numbers: ``s``, ``ms``, ``us``, ``ns``; empty to let the numbers decide.

    Attributes
    ----------
    form : str
        What the column turned out to be, such as ``milliseconds``.
    """

    def __init__(self, name: str, unit: str = "") -> None:
        self.name = name
        self.unit = self._given = unit
        self.form = UNITS.get(unit, "")

    def read(self, column: pa.Array) -> Integers:
        """Return int64[rows] nanoseconds since the epoch, 0 where there is no possible time.

        Raises
        ------
        RecordingError
            When a column mixes units.
        """
        column = plain(column)
        kind = column.type
        if pa.types.is_timestamp(kind):
            self._take("timestamps" if kind.tz else "timestamps without a zone, taken for UTC")
            return _scaled(as_integers(column.cast(pa.int64())), UNIT_NS[kind.unit])
        if pa.types.is_date(kind):
            return self.read(column.cast(pa.timestamp("ms")))
        if pa.types.is_decimal(kind):
            return self._texts(column.cast(pa.string()))
        if pa.types.is_uint64(kind):
            column = pc.if_else(pc.less_equal(column, pa.scalar(LATEST_NS, kind)), column, None)
        if pa.types.is_integer(kind):
            return self._whole(as_integers(column.cast(pa.int64())))
        if pa.types.is_floating(kind):
            values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
            return self._floating(np.asarray(values, dtype=np.float64))
        if is_text(column):
            return self._texts(column)
        return np.zeros(len(column), dtype=np.int64)

    def _take(self, form: str) -> None:
        self.form = self.form or form

    def _unit(self, values: Integers | Floats) -> int:
        """Decide the unit by the values that are possible times, or check that it stays."""
        if self.unit:
            limit = UNIT_NS[self.unit]
            if (
                len(values)
                and EARLIEST_NS // limit <= values.min() <= values.max() <= LATEST_NS // limit
            ):
                return limit
        fitting = [
            unit
            for unit, size in UNIT_NS.items()
            if np.any((values >= EARLIEST_NS // size) & (values <= LATEST_NS // size))
        ]
        both = {*fitting, *([self.unit] if self.unit else [])}
        if len(both) > 1 and self._given and len(fitting) == 1:
            raise RecordingError(
                f"has {UNITS[fitting[0]]} in column {self.name}, not {UNITS[self._given]}"
            )
        if len(both) > 1:
            mixed = " and ".join(UNITS[unit] for unit in UNITS if unit in both)
            raise RecordingError(
                f"mixes {mixed} in column {self.name}; split the file so that each "
                "part has one unit"
            )
        if fitting:
            self.unit = fitting[0]
            self._take(UNITS[self.unit])
        return UNIT_NS[self.unit or "ns"]

    def _whole(self, values: Integers) -> Integers:
        return _scaled(values, self._unit(values))

    def _floating(self, values: Floats) -> Integers:
        """Convert to microseconds: a float64 of today's seconds has no more digits."""
        values = np.where(np.isfinite(values), values, 0.0)
        unit = self._unit(values)
        fits = (values >= EARLIEST_NS // unit) & (values <= LATEST_NS // unit)
        values = np.where(fits, values, 0.0)
        whole = np.floor(values)
        part = np.rint((values - whole) * unit / 1000).astype(np.int64) * 1000
        return whole.astype(np.int64) * unit + part

    def _texts(self, column: pa.Array) -> Integers:
        try:
            return self._whole(as_integers(column.cast(pa.int64())))
        except pa.ArrowInvalid:
            text = trimmed(column)
        for kind in (pa.timestamp("ns"), pa.timestamp("ns", "UTC")):
            try:
                found = as_integers(text.cast(kind).cast(pa.int64()))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                continue
            if text.null_count < len(text):
                if pc.max(pc.utf8_length(text)).as_py() <= len("2026-04-04"):
                    raise RecordingError(
                        f"has dates without a time of day in column {self.name}; name the column "
                        "of times by --map time=COLUMN"
                    )
                self._take("text" if kind.tz else "text without a zone, taken for UTC")
            return _scaled(found, 1)
        numeric = pc.fill_null(pc.match_substring_regex(text, _DECIMAL), False)
        result = self._decimals(pc.if_else(numeric, text, None))
        other = np.flatnonzero(~np.asarray(numeric) & np.asarray(text.is_valid()))
        if len(other):
            encoded = text.take(pa.array(other)).dictionary_encode()
            moments = [moment(one) or 0 for one in encoded.dictionary.to_pylist()]
            if any(moments):
                if self.unit:
                    raise RecordingError(
                        f"mixes numbers and text in column {self.name}; split the file"
                    )
                self._take("text")
            result[other] = np.array(moments, dtype=np.int64)[encoded.indices.to_numpy()]
        return result

    def _decimals(self, text: pa.Array) -> Integers:
        """Read decimal numbers exactly, to the nanosecond."""
        parts = pc.extract_regex(text, _DECIMAL)
        whole = as_integers(_within(parts.field("whole")))
        unit = self._unit(whole)
        digits = len(str(unit)) - 1
        scaled = _scaled(whole, unit)
        if not digits:
            return scaled
        padded = pc.utf8_slice_codeunits(
            pc.utf8_rpad(pc.fill_null(parts.field("part"), ""), 9, "0"), 0, digits
        )
        part = as_integers(pc.if_else(pc.equal(padded, ""), "0", padded).cast(pa.int64()))
        return np.where(scaled > 0, scaled + part, 0)


def _within(text: pa.Array) -> pa.Array:
    """Read digits as int64; null where they are too many."""
    short = pc.less(pc.utf8_length(text), 19)
    safe = pc.or_(short, pc.less_equal(text, str(2**63 - 1)))
    return pc.if_else(pc.and_(safe, pc.not_equal(text, "")), text, None).cast(pa.int64())


def _scaled(values: Integers, unit: int) -> Integers:
    """Multiply the possible times, and only those, as others could overflow."""
    low, high = EARLIEST_NS // unit, LATEST_NS // unit
    if len(values) and low <= values.min() and values.max() <= high:
        return values * unit if unit > 1 else values
    return np.where((values >= low) & (values <= high), values, 0) * unit
