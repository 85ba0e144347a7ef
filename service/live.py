"""Forecast a market in one process, and serve the forecasts: the ``volatility live`` command.

Ingest, score and capture run in threads, and the service's application in the event loop. There is
no BentoML in it: its processes and its registry watcher only help a separate service.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from volatility.cli.streaming import from_source, stopping
from volatility.settings import Settings, environment

READ_MODELS_SECONDS = 0.5
GRACE_SECONDS = 5

logger = logging.getLogger("bentoml.volatility")


class _Errors(list[Exception]):
    """Collect what ended a thread."""


@click.command()
@from_source
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default="data",
    show_default=True,
    help="Folder of the lakes, ticks and predictions, and of the log, live.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3000, show_default=True, help="Port of the service.")
@click.option(
    "--metrics-port",
    default=0,
    show_default=True,
    help="Port for /metrics of ingest, score and capture; 0 disables it.",
)
@click.pass_obj
def live(
    settings: Settings,
    /,
    source: str,
    data: Path,
    host: str,
    port: int,
    metrics_port: int,
    **options: Any,
) -> None:
    """Forecast a market and serve the forecasts, all in one process and without a broker.

    Stop it with Ctrl-C. It continues where it was when it is started again.

    Example: volatility live --source simulate --symbols BTC-USD,ETH-USD
    """
    from volatility.streaming import metrics
    from volatility.streaming.log import LocalLog

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    metrics.serve(metrics_port)
    stopping()  # uvicorn raises the signal again once it has finished
    with closing(LocalLog(data / "live")) as log:
        _run(settings, source, data, log, host, port, options)


def _run(
    settings: Settings,
    source: str,
    data: Path,
    log: Any,
    host: str,
    port: int,
    options: dict[str, Any],
) -> None:
    from service.forecasts.center import Center
    from service.live_source import source_of
    from volatility.streaming import Models, Together, symbols_of

    options["symbols"] = symbols_of(source, options["symbols"])
    models = Models()
    models.watch()
    center = Center(lambda: log, data, frozenset(options["symbols"]))
    server = _server(settings, models, center, host, port)
    errors = _Errors()

    def failed(error: Exception) -> None:
        errors.append(error)
        server.should_exit = True

    together = Together(log, models, data, failed)
    events, running = source_of(source, settings, log, data, **options)
    together.start(events, **running)
    gc.collect()
    gc.freeze()  # what is loaded by now lives forever
    try:
        server.run()
    finally:
        together.stop()
    if errors:
        raise errors[0]
    if not server.started:
        raise OSError(f"cannot listen on {host}:{port}; choose another port with --port")


def _server(settings: Settings, models: Any, center: Any, host: str, port: int) -> Any:
    """Build the web server around the service's application."""
    os.environ["FORWARDED_ALLOW_IPS"] = settings.serving.trusted_proxies
    import uvicorn

    from service import connections, logs, metrics, probes, ticks
    from service.forecasts.routes import Forecasts
    from service.front import Front
    from service.http import application
    from service.origins import Origins
    from service.protocol import protocol
    from service.security import Guard
    from service.state import State

    state = State(settings)
    state.guard = Guard(environment().volatility_api_key, settings.serving.rate_limit)
    allowed = settings.serving.allowed_origins
    state.origins = Origins(allowed) if allowed else None
    state.max_connections = connections.affordable(settings.serving.max_connections)
    logs.ignore_refused_sockets()
    state.on_answer, state.on_reject = metrics.count, logs.with_log(metrics.reject)
    state.forecasts = Forecasts(center, state)
    ticks.warm_up()
    _serve_models(state, models, metrics)
    app = application(state)
    app.router.routes += probes.routes(state)
    config = uvicorn.Config(
        Front(app, state),
        host=host,
        port=port,
        http=protocol(state),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )

    class Announcing(uvicorn.Server):
        """Print where to look, once the server listens."""

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                _announce(host, port)

    return Announcing(config)


def _announce(host: str, port: int) -> None:
    base = f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{port}"  # noqa: S104
    click.echo(
        f"\nforecasts  {base}/forecast\n"
        f"stream     curl -N {base}/forecast/stream\n"
        f"page       {base}/docs\n"
        "(press Ctrl-C to stop)"
    )


def _serve_models(state: Any, models: Any, metrics: Any) -> None:
    """Serve the model that scores the stream, now and whenever it changes."""
    from service.predictor import Served

    def take(model: Any) -> None:
        served = Served(model.bundle, model.registered, model.reason)
        served.warm_up()
        metrics.show_model(served)
        state.served = served

    def follow() -> None:
        shown = models.current()[0]
        while True:
            time.sleep(READ_MODELS_SECONDS)
            now = models.current()[0]
            if now is not shown:
                take(now)
                shown = now
            metrics.show_health(state)

    take(models.current()[0])
    threading.Thread(target=follow, name="serve models", daemon=True).start()
