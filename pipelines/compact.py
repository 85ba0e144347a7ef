"""Merge the small parts that capture writes."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger

from pipelines.common import step
from pipelines.watch import watched
from volatility.lake import compaction
from volatility.streaming import CAPTURED

DESCRIPTION = "Merge the small Parquet parts that capture writes, so that reading stays fast."


def merge(
    data: str,
    older_than_seconds: float = compaction.OLDER_THAN_SECONDS,
    target_rows: int = compaction.TARGET_ROWS,
) -> dict[str, int]:
    """Compact ticks and predictions and return the number of parts merged of each."""
    merged = {}
    for stored in CAPTURED.values():
        lake = stored.lake(Path(data))
        if lake.exists():
            done = compaction.compact(
                lake,
                older_than_seconds=older_than_seconds,
                target_rows=target_rows,
                progress=False,
            )
            merged[str(lake.root)] = done.merged
    return merged


merge_step = step("merge", DESCRIPTION)(merge)


@watched("compact", description=DESCRIPTION, timeout_seconds=3600.0)
def compact(data: str = "data") -> dict[str, int]:
    """Compact every lake under the data folder and return the parts merged of each."""
    merged: dict[str, int] = merge_step(data)
    get_run_logger().info("merged %s", merged)
    return merged


if __name__ == "__main__":
    compact()
