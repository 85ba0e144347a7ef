"""Run every flow on its schedule, and serve the monitor's gauges: ``python -m pipelines.serve``.

One long-lived process, which runs each flow in a separate process. It needs a Prefect server,
waits until the server is up, and registers again after an outage.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
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
from volatility.files import locked, make_folder
from volatility.settings import SettingsError, environment, load

logger = logging.getLogger("volatility.flows")

RETRY_SECONDS = 3.0
REMIND_SECONDS = 60.0
CHECK_SECONDS = 5.0
AWAY_SECONDS = 20.0  # shorter outages are tolerated, longer ones end the runs
STOP_SECONDS = 20.0  # before active runs are killed; compose kills everything after 30
DATA, REPORTS = Path("data"), Path("reports")

NO_ADDRESS = (
    "PREFECT_API_URL is not set: scheduled flows need a Prefect server. Run"
    " `make prefect`, then `PREFECT_API_URL=http://127.0.0.1:4200/api python -m pipelines.serve`"
)


class ServeError(Exception):
    """Report why the process cannot start and how to fix it, in one line."""


class FlowRunner(Runner):
    """Run flows until stopped; ``serve`` handles the signals."""

    def handle_sigterm(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: ``serve`` handles this signal."""


async def serve(described: Sequence[RunnerDeployment], stop: asyncio.Event) -> None:
    """Serve the deployments until ``stop``, across any number of server outages."""
    while not stop.is_set():
        if not await _server_answers(stop):
            return
        try:
            await _serve_once(described, stop)
        except* (httpx.HTTPError, PrefectException, RuntimeError, OSError) as errors:
            logger.error(
                "lost the Prefect server at %s (%s); runs were stopped and resume when it is back:"
                " check that it is running (`make prefect`)",
                PREFECT_API_URL.value(),
                _first(errors),
            )
            await _stopped_within(RETRY_SECONDS, stop)


async def _serve_once(described: Sequence[RunnerDeployment], stop: asyncio.Event) -> None:
    """Register and run all flows until ``stop`` or until the server is down for too long."""
    # Fetch runs when due: fetched earlier, a run would overlap the previous one and be dropped.
    runner = FlowRunner(
        name="volatility", pause_on_shutdown=False, prefetch_seconds=0, limit=len(described)
    )
    async with get_client() as client:
        identities = [await runner.aadd_deployment(deployment) for deployment in described]
        await _release(client, identities)
        logger.info("serving %d flows; the Prefect server is %s", len(identities), client.api_url)
        work = [
            asyncio.ensure_future(task)
            for task in (runner.start(), stop.wait(), _watch(client, identities))
        ]
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            if not work[0].done():
                with suppress(Exception):  # best effort: the server may be unreachable
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
    """Wait for the server; return False if ``stop`` came first."""
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
                " PREFECT_API_URL to its address",
                PREFECT_API_URL.value(),
                _line(error),
            )
        await _stopped_within(RETRY_SECONDS, stop)
    return False


async def _release(client: PrefectClient, identities: Sequence[UUID]) -> None:
    """Release the slots of runs that ended with an earlier process or with its server.

    Such a run would occupy its deployment's only slot forever, and no later run would start.
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
        logger.warning("run %s ended with its process", run.name)
        ended: State[None] = Crashed(message="The process of the run has ended.")
        await client.set_flow_run_state(run.id, ended, force=True)
    for identity in identities:
        limit = (await client.read_deployment(identity)).global_concurrency_limit
        if limit is not None and limit.active_slots:
            await client.update_global_concurrency_limit(
                limit.name, GlobalConcurrencyLimitUpdate(active_slots=0)
            )


async def _watch(client: PrefectClient, identities: Sequence[UUID]) -> None:
    """Raise an error if the server is down for too long or no longer knows the deployments.

    The runner notices neither: it keeps polling for deployments that a reset server does not know,
    and after an outage it is no longer notified of runs to cancel.
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
            raise ConnectionError(f"no response for {AWAY_SECONDS:.0f} s")


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


def _alone(folder: Path) -> AbstractContextManager[None]:
    """Prevent a second process from using the same data."""
    make_folder(folder)
    lock = folder / "serve.lock"
    lock.touch()
    place = folder.parent.resolve()
    return locked(lock, busy=ServeError(f"another pipelines.serve is using {place}; stop it first"))


@contextmanager
def _gauges(port: int) -> Iterator[None]:
    """Serve the monitor's gauges on a port; port 0 disables them."""
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
            f"cannot listen on {address}:{port} ({error}); set monitoring.port in params.yaml"
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
    """Serve until SIGTERM or SIGINT, and return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logger.setLevel(logging.INFO)  # Prefect has configured the root logger for warnings only
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
