"""Compare captured predictions with their outcomes, and demote a champion that they refute."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger

from pipelines import artifacts
from pipelines.common import paths, read, step
from pipelines.watch import watched
from volatility import stages
from volatility.evaluation import LivePerformance
from volatility.features import holds_rows
from volatility.lake import Lake
from volatility.reports import lines, verdict

DESCRIPTION = (
    "Measure the live skill of every model from captured predictions and their outcomes; "
    "demote a champion that they refute."
)


def measure(data: str, reports: str, params: str) -> LivePerformance | None:
    """Write and return the live figures; None without predictions or feature rows."""
    places, predictions = paths("data/ticks", data, reports), Path(data) / "predictions"
    if not (Lake(predictions).exists() and holds_rows(places.features)):
        return None
    return stages.performance(read(params), places, predictions=predictions)


measure_step = step("measure", DESCRIPTION)(measure)


@watched("performance", description=DESCRIPTION, timeout_seconds=900.0)
def performance(
    data: str = "data", reports: str = "reports", params: str = "params.yaml"
) -> int | None:
    """Measure live skill; return the number of rows with a known outcome, or None if too early."""
    result = measure_step(data, reports, params)
    if result is None:
        get_run_logger().info("nothing to measure yet: no predictions or no feature rows")
        return None
    told = verdict(result).sentence
    if result.models:
        rows = artifacts.ranked(result.models, artifacts.LIVE)
        artifacts.show_table("live-performance", rows, told)
    artifacts.show_report("performance-report", Path(reports) / "performance.html", told)
    get_run_logger().info(lines(result))
    if result.demotion is not None:
        get_run_logger().warning(told)
    return result.rows_labelled


if __name__ == "__main__":
    performance()
