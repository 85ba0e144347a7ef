"""Build the feature rows of new hours in the lake."""

from __future__ import annotations

from prefect import get_run_logger

from pipelines.common import paths, read, step
from pipelines.watch import watched
from volatility import stages
from volatility.lake import Lake

DESCRIPTION = "Build the feature rows of new hours in the lake."


def build(lake: str, data: str, params: str) -> dict[str, int]:
    """Build the features; return the counts of rows and of late and duplicate ticks dropped.

    Do nothing if nothing has been captured yet.
    """
    if not Lake(lake).exists():
        return {}
    return stages.make_features(read(params), paths(lake, data, "reports"), progress=False)


build_step = step("build features", DESCRIPTION)(build)


@watched("features", description=DESCRIPTION, timeout_seconds=1800.0)
def features(
    lake: str = "data/ticks", data: str = "data", params: str = "params.yaml"
) -> dict[str, int]:
    """Build the features of a lake and return the counts."""
    built: dict[str, int] = build_step(lake, data, params)
    get_run_logger().info("features: %s", built or "nothing captured yet")
    return built


if __name__ == "__main__":
    features()
