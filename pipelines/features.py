"""Build the feature rows of a lake."""

from __future__ import annotations

from prefect import flow

from pipelines.common import paths, read
from volatility import stages


@flow(name="features")
def features(
    lake: str = "data/ticks", data: str = "data", params: str = "params.yaml"
) -> dict[str, int]:
    """Build the features; give the rows, and the ticks dropped as late or duplicate."""
    return stages.make_features(read(params), paths(lake, data, "reports"), progress=False)
