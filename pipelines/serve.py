"""Run every flow on its schedule, and serve the monitor's gauges: ``python -m pipelines.serve``.

One process that lives long; each run is a process of its own. It needs a Prefect server, waits
for one that is not up yet, and registers anew with one that went away and came back.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import PrefectException
from prefect.runner import Runner
from prefect.settings import PREFECT_API_URL
from prefect.states import Crashed
from prometheus_client import start_http_server

from pipelines.deployments import FLOWS, deployments
from pipelines.lag import Watch
from pipelines.monitor import Monitor, registry_of
from pipelines.state import FOLDER
from volatility.parts import make_folder
from volatility.settings import SettingsError, environment, load

logger = logging.getLogger("volatility.flows")

RETRY_SECONDS = 3.0
REMIND_SECONDS = 60.0
CHECK_SECONDS = 5.0
AWAY_SECONDS = 20.0  # shorter outages are bridged, longer ones end the runs
STOP_SECONDS = 20.0  # then what still runs is killed; compose kills everything after 30
DATA, REPORTS = Path("data"), Path("reports")

NO_ADDRESS = (
    "PREFECT_API_URL is not set: flows run on their schedules with a Prefect server alone. Run"
    " `make prefect`, then `PREFECT_API_URL=http://127.0.0.1:4200/api python -m pipelines.serve`"
)


class ServeError(Exception):
    """The process cannot start; one line says what to do."""


class FlowRunner(Runner):
    """Run flows until told to stop; the signals are heard by ``serve``."""

    def handle_sigterm(self, *args: Any, **kwargs: Any) -> None:
        """Leave it to ``serve``, which has asked for the same signal."""


async def serve(described: Sequence[RunnerDeployment], stop: asyncio.Event) -> None:
    """Serve the deployments until ``stop``, through any number of outages of the server."""
    while not stop.is_set():
        if not await _server_answers(stop):
            return
        try:
            await _serve_once(described, stop)
        except* (httpx.HTTPError, PrefectException, RuntimeError, OSError) as errors:
            logger.error(
                "the Prefect server at %s went away (%s); runs were stopped, and go on when it is"
                " back: see that it runs (`make prefect`)",
                PREFECT_API_URL.value(),
                _first(errors),
            )
            await _stopped_within(RETRY_SECONDS, stop)


async def _serve_once(described: Sequence[RunnerDeployment], stop: asyncio.Event) -> None:
    """Register everything and run it, until ``stop`` or until the server is away for too long."""
    # A run is fetched when it is due: fetched earlier, it would meet the one before and be dropped.
    runner = FlowRunner(
        name="volatility", pause_on_shutdown=False, prefetch_seconds=0, limit=len(described)
    )
    async with get_client() as client:
        identities = [await runner.aadd_deployment(deployment) for deployment in described]
        await _release(client, identities)
        logger.info(
            "%d flows are served; the Prefect server is %s", len(identities), client.api_url
        )
        work = [
            asyncio.ensure_future(task)
            for task in (runner.start(), stop.wait(), _watch(client, identities))
        ]
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            if not work[0].done():
                with suppress(Exception):  # an end that the server does not hear of is an end
                    await asyncio.wait_for(runner.astop(), STOP_SECONDS)
                await asyncio.wait(work[:1], timeout=RETRY_SECONDS)
        finally:
            for task in work:
                task.cancel()
            results = await asyncio.gather(*work, return_exceptions=True)
    failures = [r for r in (results[0], results[2]) if isinstance(r, Exception)]
    if failures and not stop.is_set():
        raise ExceptionGroup("serving ended", failures)


async def _server_answers(stop: asyncio.Event) -> bool:
    """Wait for the server; False where ``stop`` came first."""
    reminded = -REMIND_SECONDS
    while not stop.is_set():
        async with get_client() as client:
            error = await client.api_healthcheck()
        if error is None:
            return True
        if time.monotonic() - reminded >= REMIND_SECONDS:
            reminded = time.monotonic()
            logger.warning(
                "waiting for the Prefect server at %s (%s): start it with `make prefect`, or set"
                " PREFECT_API_URL to where it is",
                PREFECT_API_URL.value(),
                _line(error),
            )
        await _stopped_within(RETRY_SECONDS, stop)
    return False


async def _release(client: PrefectClient, identities: Sequence[UUID]) -> None:
    """Give the places of runs back that ended with an earlier process, or with its server.

    Such a run would hold the one place of its deployment for ever: no later one would start.
    """
    runs = await client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=list(identities))),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(
                type=FlowRunFilterStateType(
                    any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
                )
            )
        ),
    )
    for run in runs:
        logger.warning("run %s ended with the process that ran it", run.name)
        ended: State[None] = Crashed(message="The process that ran it has ended.")
        await client.set_flow_run_state(run.id, ended, force=True)
    for identity in identities:
        limit = (await client.read_deployment(identity)).global_concurrency_limit
        if limit is not None and limit.active_slots:
            await client.update_global_concurrency_limit(
                limit.name, GlobalConcurrencyLimitUpdate(active_slots=0)
            )


async def _watch(client: PrefectClient, identities: Sequence[UUID]) -> None:
    """End with an error when the server is away for too long, or does not know the deployments.

    The runner notices neither: it asks on for what a server with new data never heard of, and
    after an outage it no longer hears of runs that are to be cancelled.
    """
    answered = time.monotonic()
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        if await client.api_healthcheck() is None:
            for identity in identities:
                with suppress(httpx.TransportError):
                    await client.read_deployment(identity)
            answered = time.monotonic()
        elif time.monotonic() - answered >= AWAY_SECONDS:
            raise ConnectionError(f"no answer for {AWAY_SECONDS:.0f} s")


async def _stopped_within(seconds: float, stop: asyncio.Event) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def _first(errors: BaseException) -> str:
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return _line(errors)


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


async def _until_stopped(described: Sequence[RunnerDeployment]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(described, stop)
    logger.info("stopped")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second process off the same data."""
    make_folder(folder)
    handle = os.open(folder / "serve.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServeError(
                f"another pipelines.serve runs on {folder.parent.resolve()}; stop it first"
            ) from error
        yield
    finally:
        os.close(handle)


@contextmanager
def _gauges(port: int) -> Iterator[None]:
    """Serve the monitor's gauges on a port; 0 serves nothing."""
    if not port:
        yield
        return
    watch = Watch(DATA)
    registry = registry_of(Monitor(DATA, REPORTS, [flow.name for flow in FLOWS], watch))
    address = environment().metrics_address
    try:
        server, thread = start_http_server(port, addr=address, registry=registry)
    except OSError as error:
        raise ServeError(
            f"{address}:{port} cannot be listened on ({error}); set monitoring.port in params.yaml"
        ) from error
    watch.start()
    try:
        yield
    finally:
        watch.stop()
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> int:
    """Serve until SIGTERM or SIGINT; give the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logger.setLevel(logging.INFO)  # Prefect has set up the root by now, for warnings alone
    for noisy in ("httpx", "kafka"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    try:
        if not PREFECT_API_URL.value():
            raise ServeError(NO_ADDRESS)
        settings = load()
        with _alone(DATA / FOLDER), _gauges(settings.monitoring.port):
            asyncio.run(_until_stopped(deployments(settings.schedules)))
    except (ServeError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
