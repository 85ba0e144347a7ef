"""Build the feature rows of the hours that are new in the lake."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger

from pipelines.common import holds_parts, paths, read, step
from pipelines.watch import watched
from volatility import stages

DESCRIPTION = "Build the feature rows of the hours that are new in the lake."


def build(lake: str, data: str, params: str) -> dict[str, int]:
    """Build the features; give the rows, and the ticks dropped as late or duplicate.

    Where nothing has been captured yet there is nothing to do.
    """
    if not holds_parts(Path(lake)):
        return {}
    return stages.make_features(read(params), paths(lake, data, "reports"), progress=False)


build_step = step("build features", DESCRIPTION)(build)


@watched("features", description=DESCRIPTION, timeout_seconds=1800.0)
def features(
    lake: str = "data/ticks", data: str = "data", params: str = "params.yaml"
) -> dict[str, int]:
    """Build the features of a lake; give what was built."""
    built: dict[str, int] = build_step(lake, data, params)
    get_run_logger().info("features: %s", built or "nothing captured yet")
    return built


if __name__ == "__main__":
    features()
