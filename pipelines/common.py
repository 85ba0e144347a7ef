"""Provide what all flows share: settings, paths and the retry policy of steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from volatility import settings
from volatility.lake import LakeError
from volatility.registry import RegistryError
from volatility.stages import Paths
from volatility.streaming.log import LogError

P = ParamSpec("P")
R = TypeVar("R")

RETRIES = 3
FIRST_DELAY_SECONDS = 5  # then 10, 20: enough for a broker or registry to restart
TRANSIENT = (LogError, LakeError, RegistryError, OSError)


def read(params: str) -> settings.Settings:
    """Read the settings."""
    return settings.load(params)


def paths(ticks: str, data: str, reports: str) -> Paths:
    """Return the stages' paths: the lake, the folder of features and model, the reports."""
    return Paths(
        ticks=Path(ticks),
        features=Path(data) / "features",
        model=Path(data) / "model",
        reports=Path(reports),
    )


def transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether the error of a step may be transient, so that a retry makes sense."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, TRANSIENT)


def step(name: str, description: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Return a decorator for steps that are retried with backoff after transient errors."""
    return task(
        name=name,
        description=description,
        retries=RETRIES,
        retry_delay_seconds=exponential_backoff(FIRST_DELAY_SECONDS),
        retry_jitter_factor=0.5,
        retry_condition_fn=transient,
        cache_policy=NO_CACHE,  # else every input is hashed, predictions of a month among them
    )
