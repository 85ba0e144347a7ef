"""Watch the runs of a flow: Prefect's hooks write its state file and notify the webhook."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect import Flow, flow
from prefect.client.schemas.objects import FlowRun, State

from pipelines import alerts
from pipelines.state import FOLDER, finished
from volatility.settings import environment

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)

TEXT_LENGTH = 500


def watched(
    name: str, *, description: str, timeout_seconds: float
) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Return a decorator for flows whose runs are recorded however they end, even if killed."""
    return flow(
        name=name,
        description=description,
        timeout_seconds=timeout_seconds,
        on_completion=[note],
        on_failure=[note],
        on_crashed=[note],
    )


def note(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Record the end of a run, and notify the webhook if it is the first failure."""
    now = time.time()
    began = flow_run.start_time
    ended(
        Path(str((flow_run.parameters or {}).get("data", "data"))) / FOLDER,
        flow.name,
        succeeded=state.is_completed(),
        message=state.message or state.name or "failed",
        run=flow_run.name,
        duration_seconds=None if began is None else max(now - began.timestamp(), 0.0),
        now=now,
    )


def ended(
    folder: Path,
    name: str,
    *,
    succeeded: bool,
    message: str,
    run: str,
    duration_seconds: float | None,
    now: float,
) -> None:
    """Write a flow's state file and the incident of its failures, and post pending incidents.

    Errors in here do not affect the run, which has ended already.
    """
    try:
        finished(folder, name, succeeded=succeeded, now=now, duration_seconds=duration_seconds)
        alerts.observe(
            folder,
            "flow_failed",
            name,
            wrong=not succeeded,
            now=now,
            text=f"flow {name} failed: {' '.join(message.split())[:TEXT_LENGTH]}",
            details={"run": run},
        )
        alerts.tell(folder, environment().alert_webhook_url, now)
    except OSError as error:
        logger.error("cannot record the end of %s: %s", name, error)
