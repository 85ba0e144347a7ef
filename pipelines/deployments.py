"""Define the deployed flows and their schedules.

``prefect.yaml`` defines the same for work pools; a test keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Interval, Schedule
from prefect.types.entrypoint import EntrypointType

from pipelines.capture import capture
from pipelines.compact import compact
from pipelines.drift import drift
from pipelines.features import features
from pipelines.performance import performance
from pipelines.train import train
from volatility.settings import Schedules

NAME = "scheduled"

# A fixed anchor, so that a restart does not trigger a daily run. The offsets run a flow after the
# flows whose output it reads, and avoid starting six processes at once on two cores.
ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
AFTER_SECONDS = {
    "capture": 0,
    "features": 10,
    "performance": 25,
    "drift": 40,
    "compact": 50,
    "train": 300,
}
FLOWS: Sequence[Flow[Any, Any]] = (capture, features, train, drift, performance, compact)

# A run is dropped while another run of its flow is active: the next one does its work. If runs
# were queued, all runs of a night without a server would be executed in the morning.
ALONE = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)


def schedule(flow: str, schedules: Schedules) -> Schedule | None:
    """Return the schedule of a flow, or None if it is only started manually."""
    seconds: int = getattr(schedules, flow)
    if not seconds:
        return None
    anchor = ANCHOR + timedelta(seconds=AFTER_SECONDS[flow])
    return Interval(timedelta(seconds=seconds), anchor_date=anchor, timezone="UTC")


def deployments(schedules: Schedules) -> list[RunnerDeployment]:
    """Return all deployments for ``pipelines.serve`` to register."""
    return [
        RunnerDeployment.from_flow(
            flow,
            NAME,
            schedule=schedule(flow.name, schedules),
            description=flow.description,
            tags=["volatility", flow.name],
            concurrency_limit=ALONE,
            # By module name, to run from any folder with its own data and params.yaml.
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for flow in FLOWS
    ]
