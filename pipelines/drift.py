"""Compare the newest hours with the rows that the serving model was trained on."""

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
from volatility.drift import DriftError, DriftResult
from volatility.settings import environment

logger = logging.getLogger(__name__)

DESCRIPTION = "Hold the newest hours against the training rows, by effect size (Evidently)."


def compare(data: str, reports: str, params: str) -> DriftResult | None:
    """Write the drift report, and begin or end the episode of its alert.

    None where there is no model or no feature row yet, or where too few rows lie in the model's
    training window or after it: so it is until the first training on this market's own rows.
    """
    places = paths("data/ticks", data, reports)
    model = registry.champion() or registry.latest()
    if model is None or not any(places.features.glob("symbol=*")):
        return None
    try:
        result = stages.drift(read(params), places, model=model)
    except DriftError as error:
        logger.warning("nothing is compared: %s", error)
        return None
    observe(Path(data) / FOLDER, result, time.time())
    return result


def observe(folder: Path, result: DriftResult, now: float) -> None:
    """Begin or end the episode of the drift alert, and tell what is untold."""
    drifted = [feature.feature for feature in result.per_feature if feature.drifted]
    alerts.observe(
        folder,
        "drift",
        "drift",
        wrong=result.alert,
        now=now,
        text=stages.drift_line(result),
        details={"drift_share": result.drift_share, "drifted": drifted},
    )
    alerts.tell(folder, environment().alert_webhook_url, now)


compare_step = step("compare", DESCRIPTION)(compare)


@watched("drift", description=DESCRIPTION, timeout_seconds=900.0)
def drift(data: str = "data", reports: str = "reports", params: str = "params.yaml") -> bool | None:
    """Write the drift report; tell whether it raises the alert, None where it is too early."""
    result = compare_step(data, reports, params)
    if result is None:
        get_run_logger().info("nothing to compare yet: no model, or too few rows")
        return None
    told = stages.drift_line(result)
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
