"""Share what every flow needs: settings and paths as plain values, and how a step is retried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from streaming.log import LogError
from volatility import settings
from volatility.lake import LakeError
from volatility.registry import RegistryError
from volatility.stages import Paths

P = ParamSpec("P")
R = TypeVar("R")

RETRIES = 3
FIRST_DELAY_SECONDS = 5  # then 10, 20: a broker or a registry that restarts is back by then
TRANSIENT = (LogError, LakeError, RegistryError, OSError)


def read(params: str) -> settings.Settings:
    """Read the settings."""
    return settings.load(params)


def paths(ticks: str, data: str, reports: str) -> Paths:
    """Give the stages' paths: the lake, the folder of features and model, the reports."""
    return Paths(
        ticks=Path(ticks),
        features=Path(data) / "features",
        model=Path(data) / "model",
        reports=Path(reports),
    )


def holds_parts(lake: Path | str) -> bool:
    """Tell whether a lake holds anything yet: on the first day, some flows have nothing to do."""
    return any(Path(lake).glob("symbol=*/date=*/part-*"))


def transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Tell whether to try a step again: not when the same would happen again."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, TRANSIENT)


def step(name: str, description: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a step that is tried again, later and later, while something is away."""
    return task(
        name=name,
        description=description,
        retries=RETRIES,
        retry_delay_seconds=exponential_backoff(FIRST_DELAY_SECONDS),
        retry_jitter_factor=0.5,
        retry_condition_fn=transient,
    )
