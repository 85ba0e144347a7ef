"""Say which flows are deployed, and when each runs by itself.

``prefect.yaml`` says the same for work pools; a test holds the two equal.
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

# Fixed, so that a daily run does not start anew with every restart. One second is not the same
# for all: what reads another flow's output follows it, and two cores are not asked for six
# processes at once.
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

# A run that meets another of its flow is dropped: the next one does its work. Queued instead,
# the runs of a night without a server would all be made up for in the morning.
ALONE = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)


def schedule(flow: str, schedules: Schedules) -> Schedule | None:
    """Give the schedule of a flow, or None where it never runs by itself."""
    seconds: int = getattr(schedules, flow)
    if not seconds:
        return None
    anchor = ANCHOR + timedelta(seconds=AFTER_SECONDS[flow])
    return Interval(timedelta(seconds=seconds), anchor_date=anchor, timezone="UTC")


def deployments(schedules: Schedules) -> list[RunnerDeployment]:
    """Describe every deployment, as ``pipelines.serve`` registers it."""
    return [
        RunnerDeployment.from_flow(
            flow,
            NAME,
            schedule=schedule(flow.name, schedules),
            description=flow.description,
            tags=["volatility", flow.name],
            concurrency_limit=ALONE,
            # By its name: it runs from any folder, which holds its own data and params.yaml.
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for flow in FLOWS
    ]
