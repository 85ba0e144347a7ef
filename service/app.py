"""Define the BentoML service: load the model at start, mount the routes.

``bentoml serve`` in the repository runs it; ``bentofile.yaml`` names it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

# Nobody reads BentoML's traces unless an exporter is set up; they cost half of its time, and each
# is kept for as long as its request might take. Unset or empty, the SDK would be on.
os.environ.setdefault("OTEL_SDK_DISABLED", "true")

import bentoml
import uvicorn.config

from service import ticks
from service.front import Front
from service.http import application
from service.predictor import PACKAGED
from service.protocol import protocol
from service.security import Guard
from service.state import State
from volatility import packaging, settings

try:
    state = State(settings.load())
    environment = settings.environment()
    state.guard = Guard(environment.volatility_api_key, state.settings.serving.rate_limit)
except settings.SettingsError as error:
    sys.exit(f"Error: {error}")  # one line, and no traceback of the server's


class FrontedService(bentoml.Service):
    """A BentoML service with a layer before all of BentoML's own."""

    __slots__ = ()

    def to_asgi(self, is_main: bool = True) -> Any:
        """Give the application that a worker serves."""
        # BentoML asks uvicorn for its automatic choice of a protocol, and has no setting for it.
        protocols: dict[str, Any] = uvicorn.config.HTTP_PROTOCOLS
        protocols["auto"] = protocol(state)
        return Front(super().to_asgi(is_main), state)


@bentoml.service(
    name="crypto_volatility",
    workers=environment.service_workers,
    traffic={"timeout": state.settings.serving.timeout_seconds},
    # Counted, and logged a few times a second at most: see service/logs.py.
    logging={"access": {"enabled": False}},
    service_class=FrontedService,
)
@bentoml.asgi_app(application(state), path="/")
class VolatilityService:
    """Say how likely it is that volatility spikes within the next minute."""

    def __init__(self) -> None:
        from service import logs, memory, metrics  # in the worker: see their docstrings
        from service.reload import Reload

        memory.bound()
        logs.configure()
        state.on_answer = metrics.count
        state.on_reject = logs.told(metrics.reject)
        ticks.warm_up()
        reload = Reload(state, environment, metrics)
        if packaging.is_packaged(PACKAGED):
            reload.load_packaged(PACKAGED)
        else:
            reload.start()

    def __is_ready__(self) -> bool:
        return state.healthy()
