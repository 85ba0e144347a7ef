"""Keep trades without quotes in a lake inside the lake, which no reader of ticks looks into.

Prices of trades alternate between bid and ask, so they move when the market does not. Volatility
from them is another quantity, and must not enter a model of midprices.
"""

from __future__ import annotations

import pyarrow as pa

from volatility.lake.lake import TRADES, Lake
from volatility.records import LAKE_SCHEMA

TRADE_SCHEMA = pa.schema(
    [field for field in LAKE_SCHEMA if field.name not in {"bid", "ask", "bid_size", "ask_size"}]
)


def trades_of(lake: Lake) -> Lake:
    """Return the lake of trades inside a lake of ticks."""
    return Lake(lake.root / TRADES, TRADE_SCHEMA)
