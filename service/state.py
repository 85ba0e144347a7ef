"""Share state between the routes, and report its health."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from service.bodies import Health, Unavailable, Warnings
from service.origins import Origins, foreign
from service.predictor import Served
from service.security import Guard
from service.ticks_process import TicksProcess
from service.wire import Answer, RequestError
from volatility.settings import Serving, Settings

HOUR_SECONDS = 3600.0


@dataclass
class State:
    """Represent the serving model and current problems.

    Parameters
    ----------
    settings : Settings
    guard : Guard
    origins : Origins, optional
        Whose pages may read the answers; None if no other origin's may.
    long_ticks : TicksProcess
        Builds the rows of long tick requests.
    held_bytes : int
        Of bodies that this worker holds.
    max_connections : int
        Most open connections of this worker.
    served : Served, optional
        Replaced as a whole, so that each request sees one model.
    problem : str
        Why no model is loaded.
    warnings : Warnings
        Problems while a model is serving, other than its age.
    forecasts : Forecasts, optional
        ASGI application of the forecast routes.
    """

    settings: Settings
    guard: Guard = field(default_factory=Guard)
    origins: Origins | None = None
    long_ticks: TicksProcess = field(default_factory=TicksProcess)
    held_bytes: int = 0
    max_connections: int = Serving().max_connections
    served: Served | None = None
    problem: str = "the service is starting"
    warnings: Warnings = field(default_factory=Warnings)
    forecasts: Any = None
    on_answer: Callable[[Answer, str], None] = lambda *_: None
    on_reject: Callable[[str], None] = lambda *_: None

    def refusal(self, scope: Any) -> RequestError | None:
        """Return the error for an ASGI request to a guarded route, or None to admit it."""
        return foreign(scope, self.origins) or self.guard.refusal(scope)

    def require(self) -> Served:
        """Return the model, or raise a 503 error."""
        if self.served is None:
            raise RequestError(503, "no_model", self.problem)
        return self.served

    def healthy(self) -> bool:
        """Check that a model is loaded and works."""
        return self.served is not None and self.served.answers()

    def age_hours(self) -> float:
        """Return the age of the model's newest training row [h]; NaN without a model."""
        if self.served is None:
            return math.nan
        newest = self.served.bundle.specification.train_stop / 1e9
        return (time.time() - newest) / HOUR_SECONDS

    def health(self) -> tuple[int, Any]:
        """Return the status and the body of ``GET /health``: ``Health`` or ``Unavailable``."""
        served = self.served
        if served is None or not served.answers():
            error = self.problem if served is None else "the model fails its self-test"
            unavailable: Unavailable = {"status": "unavailable", "error": error}
            return 503, unavailable
        warnings = self.warnings.copy()
        age, limit = self.age_hours(), self.settings.serving.max_age_hours
        if age > limit and not served.shipped:  # there is no newer prior to replace it
            warnings["stale"] = (
                f"the newest training row is {age:.0f} h old; the limit is {limit:.0f} h"
            )
        health: Health = {
            "status": "degraded" if warnings else "ok",
            "model_name": served.model.name,
            "model_version": served.model.version,
            "model_variant": served.variant,
            "model_age_hours": round(age, 2),
            "warnings": warnings,
        }
        return 200, health
