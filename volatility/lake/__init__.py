"""The lake: immutable Parquet parts, their gaps, compaction and import."""

from volatility.lake.importing import ImportingError, ImportReport, import_files, open_lake
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
from volatility.lake.parts import LakeError, parse_name, readable

__all__ = [
    "REAL",
    "SIMULATED",
    "Gap",
    "ImportReport",
    "ImportingError",
    "Lake",
    "LakeError",
    "Market",
    "check_market",
    "claim_market",
    "import_files",
    "market_of",
    "mixes",
    "open_lake",
    "parse_name",
    "readable",
]
