"""Define the BentoML service: load the model at start, mount the routes.

``bentoml serve`` in the repository runs it; ``bentofile.yaml`` names it.
"""

from __future__ import annotations

import logging

import bentoml

from service import ticks
from service.http import State, application
from service.predictor import choose
from volatility import settings
from volatility.registry import RegistryError

logger = logging.getLogger("bentoml.volatility")

state = State(settings.load())


@bentoml.service(name="crypto_volatility", traffic={"timeout": 60})
@bentoml.asgi_app(application(state), path="/")
class VolatilityService:
    """Say how likely it is that volatility spikes within the next minute."""

    def __init__(self) -> None:
        from service import metrics  # in the worker: see its docstring

        state.on_answer, state.on_reject = metrics.count, metrics.reject
        try:
            environment = settings.environment()
            state.api_key = environment.volatility_api_key
            state.served = choose(environment)
        except (RegistryError, settings.SettingsError) as error:
            # It starts all the same: /health and /predict then say what is wrong.
            state.problem = f"no model is loaded: {error}"
            logger.error("%s", state.problem)
            return
        served = state.served
        ticks.warm_up()
        served.warm_up()
        metrics.show_model(served)
        logger.info(
            "serving %s version %s as %s%s",
            served.model.name,
            served.model.version,
            served.variant,
            f": {served.reason}" if served.reason else "",
        )

    def __is_ready__(self) -> bool:
        return state.healthy()
