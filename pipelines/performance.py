"""Hold captured predictions against what then happened."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger

from pipelines import artifacts
from pipelines.common import holds_parts, paths, read, step
from pipelines.watch import watched
from volatility import stages
from volatility.evaluation import Json
from volatility.performance_report import lines, verdict

DESCRIPTION = "Join captured predictions with what then happened: live skill of every model."


def measure(data: str, reports: str, params: str) -> Json | None:
    """Write the live figures; None where nothing has been predicted or no row has been built."""
    places, predictions = paths("data/ticks", data, reports), Path(data) / "predictions"
    if not holds_parts(predictions) or not any(places.features.glob("symbol=*")):
        return None
    return stages.performance(read(params), places, predictions=predictions)


measure_step = step("measure", DESCRIPTION)(measure)


@watched("performance", description=DESCRIPTION, timeout_seconds=900.0)
def performance(
    data: str = "data", reports: str = "reports", params: str = "params.yaml"
) -> int | None:
    """Measure live skill; give the rows with a known outcome, None where it is too early."""
    result = measure_step(data, reports, params)
    if result is None:
        get_run_logger().info("nothing to measure yet: no predictions or no feature rows")
        return None
    told = verdict(result).sentence
    if result["models"]:
        rows = artifacts.ranked(result["models"], artifacts.LIVE)
        artifacts.show_table("live-performance", rows, told)
    artifacts.show_report("performance-report", Path(reports) / "performance.html", told)
    get_run_logger().info(lines(result))
    return int(result["rows_labelled"])


if __name__ == "__main__":
    performance()
