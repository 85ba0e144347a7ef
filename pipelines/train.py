"""Train, register, evaluate, and promote if the model has earned it."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger

from pipelines.common import paths, read
from volatility import stages


@flow(name="train")
def train(
    data: str = "data", reports: str = "reports", params: str = "params.yaml"
) -> dict[str, Any]:
    """Train on the features at hand; give the version and the verdict of the gate."""
    settings, places = read(params), paths("data/ticks", data, reports)
    registered = stages.train(settings, places, progress=False)
    result = stages.evaluate(settings, places)
    version, verdict = stages.promote(settings, places)
    get_run_logger().info("%s\n%s", stages.leaderboard(result), verdict["reasons"] or "promoted")
    return {"name": registered.name, "version": version, "promoted": verdict["earned"]}
