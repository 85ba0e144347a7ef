"""The lake: immutable Parquet parts, their gaps, compaction and import."""

from volatility.lake.imported import ImportingError, ImportReport, Preview
from volatility.lake.importing import import_files, open_lake
from volatility.lake.lake import Lake
from volatility.lake.ledger import Gap
from volatility.lake.market import (
    REAL,
    SIMULATED,
    Market,
    check_market,
    claim_market,
    market_of,
    mixes,
)
from volatility.lake.merging import IMPORTED
from volatility.lake.parts import LakeError, parse_name, readable
from volatility.lake.trades import TRADE_SCHEMA, trades_of
from volatility.lake.venues import Venues

__all__ = [
    "IMPORTED",
    "REAL",
    "SIMULATED",
    "TRADE_SCHEMA",
    "Gap",
    "ImportReport",
    "ImportingError",
    "Lake",
    "LakeError",
    "Market",
    "Preview",
    "Venues",
    "check_market",
    "claim_market",
    "import_files",
    "market_of",
    "mixes",
    "open_lake",
    "parse_name",
    "readable",
    "trades_of",
]
