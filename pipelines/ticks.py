"""Fill a lake with simulated or recorded ticks."""

from __future__ import annotations

from prefect import flow

from pipelines.common import paths, read
from volatility import stages


@flow(name="ticks")
def ticks(lake: str = "data/snapshot", params: str = "params.yaml") -> int:
    """Fill the lake from the source set in ``ticks.source``; return the number of records."""
    return stages.make_ticks(read(params), paths(lake, "data", "reports"), progress=False)
