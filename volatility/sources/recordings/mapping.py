"""Read what the user says about columns: ``--map time=ts:ms,bid=bb,ask=ba``."""

from __future__ import annotations

import msgspec

from volatility.sources.recordings.times import UNIT_NS

FIELDS = (
    "symbol", "venue", "time", "received", "price", "bid", "ask", "bid_size", "ask_size", "size",
    "side", "sequence", "trade_id",
)  # fmt: skip


class MappingError(ValueError):
    """A mapping cannot be read; the message says how to write it."""


class Mapping(msgspec.Struct, frozen=True):
    """Represent which column is which field, and the units of times.

    Parameters
    ----------
    columns : dict of str to str
        Column by field. For ``symbol`` and ``venue`` a name that is not a column is the value.
    units : dict of str to str
        Unit of ``time`` or ``received``: s, ms, us or ns.
    """

    columns: dict[str, str] = {}
    units: dict[str, str] = {}


def parse_mapping(text: str) -> Mapping:
    """Read a mapping.

    >>> parse_mapping("time=ts:ms,bid=bb")
    Mapping(columns={'time': 'ts', 'bid': 'bb'}, units={'time': 'ms'})

    Raises
    ------
    MappingError
    """
    columns, units = {}, {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        field, equals, column = (part.strip() for part in pair.partition("="))
        if not equals or not column or field not in FIELDS:
            raise MappingError(
                f"--map {pair!r} is not FIELD=COLUMN; fields are {', '.join(FIELDS)}, "
                "for example time=ts:ms,bid=bb,ask=ba"
            )
        name, colon, unit = column.rpartition(":")
        unit = unit.replace("µs", "us")
        if colon and field in {"time", "received"} and unit in UNIT_NS:
            column, units[field] = name, unit
        columns[field] = column
    return Mapping(columns, units)
