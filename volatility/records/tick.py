"""Define market-data messages: their fields, validation, JSON and columns.

A tick carries a quote; a heartbeat carries only a time and advances a symbol's clock while
the market is silent. Both share the same topic and the same Parquet columns, where a heartbeat
is a row without a price.

>>> tick = Tick("BTC-USD", 1_775_337_223_291_000_000, price=67223.5, bid=67223.49, ask=67223.5)
>>> decode(encode(tick)) == tick
True
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Meta

EARLIEST_NS = 1_230_940_800_000_000_000  # 2009-01-03: these symbols had no market before
LATEST_NS = 4_102_444_800_000_000_000  # 2100-01-01
LOWEST_PRICE, HIGHEST_PRICE = 1e-12, 1e12
MAX_QUOTE_RATIO = 10.0  # an ask ten times the bid, or a trade that far off, means a broken feed
MAX_CLOCK_SKEW_NS = 60_000_000_000  # a time far after its arrival would close steps too early

SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9._@-]{0,31}")  # used as a folder name and as a Kafka key

REASONS = (
    "ok",
    "time is outside 2009 to 2100",
    "time is more than 60 s after the message arrived",
    "price, bid or ask is missing or not a number",
    "price, bid or ask is not positive",
    "bid is above ask",
    "price is absurd",
    "size is negative or not a number",
)
FUTURE = REASONS[2]

TICK_SCHEMA = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("ns", tz="UTC"), nullable=False),
        pa.field("received", pa.timestamp("ns", tz="UTC")),
        pa.field("price", pa.float64()),
        pa.field("bid", pa.float64()),
        pa.field("ask", pa.float64()),
        pa.field("bid_size", pa.float64()),
        pa.field("ask_size", pa.float64()),
        pa.field("size", pa.float64()),
        pa.field("side", pa.string()),
        pa.field("sequence", pa.int64()),
        pa.field("trade_id", pa.int64()),
    ]
)

LAKE_SCHEMA = pa.schema(
    [
        *TICK_SCHEMA,
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
    ]
)


class TickError(ValueError):
    """A message is not a valid tick; the error says why."""


class Tick(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Represent one quote of one symbol.

    Parameters
    ----------
    symbol : str
        Such as ``BTC-USD``.
    time : int
        Exchange time, nanoseconds since the epoch, UTC.
    price, bid, ask : float
        Last trade price and best quotes, in quote currency.
    received : int, optional
        Arrival time, nanoseconds. It may be before ``time``, as clocks differ.
    bid_size, ask_size, size : float, optional
        Sizes in base currency.
    side : {"buy", "sell"}, optional
        Taker side of the last trade.
    sequence, trade_id : int, optional
        The venue's counters; the same number with the same ``time`` is the same message.
    """

    symbol: str
    time: int
    price: float
    bid: float
    ask: float
    received: int | None = None
    bid_size: float | None = None
    ask_size: float | None = None
    size: float | None = None
    side: Literal["buy", "sell"] | None = None
    sequence: int | None = None
    trade_id: int | None = None


def identifier(tick: Tick) -> int:
    """Return the number that repeated ticks share: trade id, else sequence, else -1."""
    number = tick.sequence if tick.trade_id is None else tick.trade_id
    return -1 if number is None else number


class Heartbeat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Represent a message that advances one symbol's clock to ``time`` [ns] without a price."""

    symbol: str
    time: int
    received: int | None = None


Record = Tick | Heartbeat


# What ``validate`` enforces, with its own errors, is only documented here.
_Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]  # range of a column
_Time = Annotated[int, Meta(extra_json_schema={"minimum": EARLIEST_NS, "maximum": LATEST_NS})]
_Price = Annotated[
    float, Meta(extra_json_schema={"minimum": LOWEST_PRICE, "maximum": HIGHEST_PRICE})
]
_Size = Annotated[float, Meta(extra_json_schema={"minimum": 0})]
_Symbol = Annotated[str, Meta(extra_json_schema={"pattern": f"^{SYMBOL.pattern}$"})]


def _doc(description: str) -> Meta:
    return Meta(description=description)


class Fields(msgspec.Struct, forbid_unknown_fields=True):
    """Represent either kind of record, to decode both in one pass: all prices are optional."""

    symbol: Annotated[_Symbol, _doc("Symbol, for example BTC-USD.")]
    time: Annotated[_Time, _doc("Exchange time [ns since the epoch, UTC].")]
    price: Annotated[
        _Price | None, _doc("Last trade price [quote currency]; absent in a heartbeat.")
    ] = None
    bid: Annotated[_Price | None, _doc("Best bid [quote currency]; absent in a heartbeat.")] = None
    ask: Annotated[
        _Price | None,
        _doc("Best ask [quote currency], at least the bid; absent in a heartbeat."),
    ] = None
    received: Annotated[
        _Integer | None,
        _doc("Arrival time [ns since the epoch, UTC], at most 60 s before the exchange time."),
    ] = None
    bid_size: Annotated[_Size | None, _doc("Size at the best bid [base currency].")] = None
    ask_size: Annotated[_Size | None, _doc("Size at the best ask [base currency].")] = None
    size: Annotated[_Size | None, _doc("Size of the last trade [base currency].")] = None
    side: Annotated[Literal["buy", "sell"] | None, _doc("Taker side of the last trade.")] = None
    sequence: Annotated[_Integer | None, _doc("Message sequence number assigned by the venue.")] = (
        None
    )
    trade_id: Annotated[_Integer | None, _doc("Trade id assigned by the venue.")] = None


_decoder = msgspec.json.Decoder(Fields)
_encoder = msgspec.json.Encoder()


def encode(record: Record) -> bytes:
    """Encode a record as JSON, omitting absent fields.

    >>> encode(Heartbeat("BTC-USD", 1_775_337_223_000_000_000))
    b'{"symbol":"BTC-USD","time":1775337223000000000}'
    """
    return _encoder.encode(record)


def decode(value: bytes | str, arrival: int | None = None) -> Record:
    """Read and validate a record from JSON; see ``validate`` for ``arrival``.

    Raises
    ------
    TickError
        When the value is not JSON, lacks a field, has an unknown one, or violates a rule.
    """
    try:
        fields = _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise TickError(str(error)) from error
    return record_of(fields, arrival)


def record_of(fields: Fields, arrival: int | None = None) -> Record:
    """Build a tick or a heartbeat from decoded fields, or raise ``TickError`` with the reason."""
    record: Record
    if fields.price is None and fields.bid is None and fields.ask is None:
        record = Heartbeat(fields.symbol, fields.time, fields.received)
    elif fields.price is None or fields.bid is None or fields.ask is None:
        raise TickError(REASONS[3])
    else:
        record = Tick(**msgspec.structs.asdict(fields))
    return validate(record, arrival)


def validate(record: Record, arrival: int | None = None) -> Record:
    """Return the record if it satisfies every rule, else raise ``TickError`` with the reason.

    A record may not be from the future, as it would silence its symbol until then. ``arrival``
    [ns] says when a record without ``received`` arrived, if that is known.

    >>> validate(Tick("BTC-USD", 1_775_337_223_000_000_000, price=1.0, bid=2.0, ask=1.0))
    Traceback (most recent call last):
        ...
    volatility.records.tick.TickError: bid is above ask
    """
    if not SYMBOL.fullmatch(record.symbol):
        raise TickError(f"symbol {record.symbol[:40]!r} is not 1 to 32 of A-Z 0-9 . _ @ -")
    reason = _reason(record, arrival)
    if reason:
        raise TickError(REASONS[reason])
    return record


def _reason(record: Record, arrival: int | None) -> int:
    """Return the number of the first rule that a record violates, in the order of ``reasons``."""
    if not EARLIEST_NS <= record.time <= LATEST_NS:
        return 1
    arrival = arrival if record.received is None else record.received
    if arrival is not None and record.time - arrival > MAX_CLOCK_SKEW_NS:
        return 2
    if isinstance(record, Heartbeat):
        return 0
    price, bid, ask = record.price, record.bid, record.ask
    if not (_finite(price) and _finite(bid) and _finite(ask)):
        return 3
    if min(price, bid, ask) <= 0.0:
        return 4
    if bid > ask:
        return 5
    if min(price, bid) < LOWEST_PRICE or max(price, ask) > HIGHEST_PRICE:
        return 6
    if ask > bid * MAX_QUOTE_RATIO or not bid / MAX_QUOTE_RATIO <= price <= ask * MAX_QUOTE_RATIO:
        return 6
    for size in (record.bid_size, record.ask_size, record.size):
        if size is not None and not (_finite(size) and size >= 0.0):
            return 7
    return 0


def _finite(value: float) -> bool:
    return value - value == 0.0


def reasons(
    table: pa.Table | pa.RecordBatch, arrival: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int8]:
    """Return, for each row of a table with the tick columns, the first rule that it violates.

    Parameters
    ----------
    table
    arrival : int64[rows], optional
        When rows without ``received`` arrived [ns], as in ``validate``.

    Returns
    -------
    int8[rows]
        Index into ``REASONS``; 0 means a valid record. A row whose price, bid and ask are all
        null is a heartbeat; NaN is not null and is rejected.
    """
    time = _integers(table, "time")
    known = np.asarray(table.column("received").is_valid())
    arrived = np.where(
        known, _integers(table, "received"), LATEST_NS if arrival is None else arrival
    )
    # A negative arrival is as wrong as zero, and subtracting it could overflow.
    skewed = time - np.maximum(arrived, 0) > MAX_CLOCK_SKEW_NS
    price, bid, ask = (_floats(table, name) for name in ("price", "bid", "ask"))
    heartbeat = ~(
        np.asarray(table.column("price").is_valid())
        | np.asarray(table.column("bid").is_valid())
        | np.asarray(table.column("ask").is_valid())
    )
    lowest = np.minimum(np.minimum(price, bid), ask)
    highest = np.maximum(price, ask)
    bad_size = np.zeros(len(time), dtype=bool)
    for name in ("bid_size", "ask_size", "size"):
        size = _floats(table, name)
        bad_size |= np.asarray(table.column(name).is_valid()) & ~(np.isfinite(size) & (size >= 0.0))
    with np.errstate(over="ignore", invalid="ignore"):
        absurd = (
            (np.minimum(price, bid) < LOWEST_PRICE)
            | (highest > HIGHEST_PRICE)
            | (ask > bid * MAX_QUOTE_RATIO)
            | (price < bid / MAX_QUOTE_RATIO)
            | (price > ask * MAX_QUOTE_RATIO)
        )
    rules = [
        (time < EARLIEST_NS) | (time > LATEST_NS),
        skewed,
        ~heartbeat & ~(np.isfinite(price) & np.isfinite(bid) & np.isfinite(ask)),
        ~heartbeat & (lowest <= 0.0),
        ~heartbeat & (bid > ask),
        ~heartbeat & absurd,
        ~heartbeat & bad_size,
    ]
    return np.select(rules, range(1, 8), 0).astype(np.int8)


def _floats(table: pa.Table | pa.RecordBatch, name: str) -> npt.NDArray[np.float64]:
    """Read a column as float64, null as NaN."""
    return np.asarray(table.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)


def _integers(table: pa.Table | pa.RecordBatch, name: str) -> npt.NDArray[np.int64]:
    """Read a column as int64, null as 0."""
    column = table.column(name).cast(pa.int64()).fill_null(0)
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)
