"""Compare the newest hours with the training rows of the serving model."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from prefect import get_run_logger

from pipelines import alerts, artifacts
from pipelines.common import paths, read, step
from pipelines.state import FOLDER
from pipelines.watch import watched
from volatility import registry, stages
from volatility.evaluation import DriftResult, TooFewRowsError
from volatility.features import holds_rows
from volatility.reports import drift_line
from volatility.settings import environment

logger = logging.getLogger(__name__)

DESCRIPTION = "Compare the newest hours with the training rows, by effect size (Evidently)."


def compare(data: str, reports: str, params: str) -> DriftResult | None:
    """Write the drift report, and open or close the incident of its alert.

    Return None if there is no model or no feature row yet, or if too few rows lie in or after the
    model's training window, as is the case before the first training on this market.
    """
    places = paths("data/ticks", data, reports)
    model = registry.choose().version
    if model is None or not holds_rows(places.features):
        return None
    try:
        result = stages.drift(read(params), places, model=model)
    except TooFewRowsError as error:
        logger.warning("skipping the comparison: %s", error)
        return None
    observe(Path(data) / FOLDER, result, time.time())
    return result


def observe(folder: Path, result: DriftResult, now: float) -> None:
    """Open or close the incident of the drift alert, and post pending incidents."""
    drifted = [feature.feature for feature in result.per_feature if feature.drifted]
    alerts.observe(
        folder,
        "drift",
        "drift",
        wrong=result.alert,
        now=now,
        text=drift_line(result),
        details={"drift_share": result.drift_share, "drifted": drifted},
    )
    alerts.tell(folder, environment().alert_webhook_url, now)


compare_step = step("compare", DESCRIPTION)(compare)


@watched("drift", description=DESCRIPTION, timeout_seconds=900.0)
def drift(data: str = "data", reports: str = "reports", params: str = "params.yaml") -> bool | None:
    """Write the drift report; return whether it raises the alert, or None without enough rows."""
    result = compare_step(data, reports, params)
    if result is None:
        get_run_logger().info("nothing to compare yet: no model, or too few rows")
        return None
    told = drift_line(result)
    artifacts.show_table("drift", _rows(result), told)
    artifacts.show_report("drift-report", Path(reports) / "drift.html", told)
    get_run_logger().info(told)
    return bool(result.alert)


def _rows(result: DriftResult) -> list[dict[str, Any]]:
    found = [
        {"feature": f.feature, "distance": f.distance, "drifted": f.drifted}
        for f in result.per_feature
    ]
    return artifacts.chosen(found, artifacts.DRIFT)


if __name__ == "__main__":
    drift()
