"""Define the BentoML service: load the model at startup and mount the routes.

Run it with ``bentoml serve`` in the repository; ``bentofile.yaml`` refers to it.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

# Without an exporter nothing reads BentoML's traces, yet they take half of its time, and each is
# kept for as long as its request might take. The SDK is on by default, also if this is empty.
os.environ.setdefault("OTEL_SDK_DISABLED", "true")

import bentoml
import uvicorn.config
from bentoml._internal.configuration.containers import BentoMLContainer

from service import connections, ticks
from service.forecasts.center import Center
from service.forecasts.routes import Forecasts
from service.front import Front
from service.http import application
from service.origins import Origins
from service.predictor import PACKAGED
from service.protocol import protocol
from service.security import Guard
from service.state import State
from volatility import settings
from volatility.registry import packaging
from volatility.streaming.log import KafkaLog

try:
    state = State(settings.load())
    environment = settings.environment()
    state.guard = Guard(environment.volatility_api_key, state.settings.serving.rate_limit)
except settings.SettingsError as error:
    sys.exit(f"Error: {error}")  # one line instead of the server's traceback
state.forecasts = Forecasts(
    Center(lambda: KafkaLog(environment.kafka_bootstrap_servers), Path("data")), state
)
logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it logs every failed attempt to connect
# BentoML has no setting for it, and uvicorn by itself believes every process of this machine.
os.environ["FORWARDED_ALLOW_IPS"] = state.settings.serving.trusted_proxies


class FrontedService(bentoml.Service):
    """Wrap a BentoML service in a layer that runs before all of BentoML's own."""

    __slots__ = ()

    def to_asgi(self, is_main: bool = True) -> Any:
        """Return the application that a worker serves."""
        # BentoML always uses uvicorn's "auto" protocol and has no setting to change it.
        protocols: dict[str, Any] = uvicorn.config.HTTP_PROTOCOLS
        protocols["auto"] = protocol(state)
        app = super().to_asgi(is_main)
        # BentoML's CORS would miss the plain predictions, and comes after the key.
        state.origins = _origins()
        return Front(app, state)


def _origins() -> Origins | None:
    """Return the origins of the settings, else those that BENTOML_CONFIG allows."""
    allowed: Any = state.settings.serving.allowed_origins
    if not allowed and BentoMLContainer.cors.enabled.get():
        allowed = BentoMLContainer.cors.access_control_allow_origins.get() or ()
        allowed = (allowed,) if isinstance(allowed, str) else allowed
    return Origins(allowed) if allowed else None


@bentoml.service(
    name="crypto_volatility",
    workers=environment.service_workers,
    traffic={"timeout": state.settings.serving.timeout_seconds},
    # Requests are counted, and refusals logged a few times per second at most: service/logs.py.
    logging={"access": {"enabled": False}},
    service_class=FrontedService,
)
@bentoml.asgi_app(application(state), path="/")
class VolatilityService:
    """Forecast volatility over the next minutes and the probability of a spike."""

    def __init__(self) -> None:
        from service import logs, metrics  # import in the worker only: see their docstrings
        from service.reload import Reload
        from volatility import memory

        memory.bound()
        state.max_connections = connections.affordable(state.settings.serving.max_connections)
        logs.configure()
        logs.ignore_refused_sockets()
        state.on_answer = metrics.count
        state.on_reject = logs.with_log(metrics.reject)
        ticks.warm_up()
        state.long_ticks.start()
        reload = Reload(state, environment, metrics)
        if packaging.is_packaged(PACKAGED):
            reload.load_packaged(PACKAGED)
        else:
            reload.start()

    def __is_ready__(self) -> bool:
        return state.healthy()
