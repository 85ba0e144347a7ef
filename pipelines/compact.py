"""Merge the small parts that capture and backfill leave."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger

from streaming.backfill import TRADE_SCHEMA
from volatility import compaction
from volatility.lake import Lake
from volatility.prediction import PREDICTION_SCHEMA


@flow(name="compact")
def compact(
    ticks: str = "data/ticks",
    predictions: str = "data/predictions",
    older_than_seconds: float = compaction.OLDER_THAN_SECONDS,
    target_rows: int = compaction.TARGET_ROWS,
) -> dict[str, int]:
    """Compact ticks, backfilled trades and predictions; give the parts merged of each."""
    merged = {}
    for lake in (
        Lake(ticks),
        Lake(Path(ticks) / "trades", TRADE_SCHEMA),
        Lake(predictions, PREDICTION_SCHEMA),
    ):
        if any(lake.root.glob("symbol=*/date=*/part-*")):
            done = compaction.compact(
                lake,
                older_than_seconds=older_than_seconds,
                target_rows=target_rows,
                progress=False,
            )
            merged[str(lake.root)] = done.merged
    get_run_logger().info("merged %s", merged)
    return merged


if __name__ == "__main__":
    compact()
