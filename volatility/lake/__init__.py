"""The lake: immutable Parquet parts, their gaps, compaction and import."""

from volatility.lake.importing import ImportingError, ImportReport, import_files, open_lake
from volatility.lake.lake import Lake
from volatility.lake.ledger import Gap
from volatility.lake.parts import LakeError, parse_name, readable

__all__ = [
    "Gap",
    "ImportReport",
    "ImportingError",
    "Lake",
    "LakeError",
    "import_files",
    "open_lake",
    "parse_name",
    "readable",
]
