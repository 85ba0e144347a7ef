"""Hold what the routes share, and say how healthy it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from service.predictor import Served
from service.security import Guard
from service.wire import Answer, RequestError
from volatility.settings import Settings

HOUR_SECONDS = 3600.0


@dataclass
class State:
    """Hold the model that answers, and what is wrong.

    Parameters
    ----------
    settings : Settings
    guard : Guard
    served : Served, optional
        Replaced as a whole, so that a request sees one model.
    problem : str
        Why no model is loaded.
    warnings : dict of str to str
        What is wrong although a model serves: by ``registry`` or ``refused``.
    """

    settings: Settings
    guard: Guard = field(default_factory=Guard)
    served: Served | None = None
    problem: str = "the service is starting"
    warnings: dict[str, str] = field(default_factory=dict)
    on_answer: Callable[[Answer, str], None] = lambda *_: None
    on_reject: Callable[[str], None] = lambda *_: None

    def require(self) -> Served:
        """Give the model, or refuse with 503."""
        if self.served is None:
            raise RequestError(503, "no_model", self.problem)
        return self.served

    def healthy(self) -> bool:
        """Tell whether a model is loaded and answers."""
        return self.served is not None and self.served.answers()

    def age_hours(self) -> float:
        """Give how long ago the model was trained; NaN without one."""
        if self.served is None:
            return math.nan
        created = datetime.fromisoformat(self.served.bundle.specification.provenance.created)
        return (datetime.now(UTC) - created).total_seconds() / HOUR_SECONDS

    def health(self) -> tuple[int, dict[str, Any]]:
        """Give the status and the body of ``GET /health``."""
        served = self.served
        if served is None or not served.answers():
            error = self.problem if served is None else "the model fails its self-test"
            return 503, {"status": "unavailable", "error": error}
        warnings = dict(self.warnings)
        age, limit = self.age_hours(), self.settings.serving.max_age_hours
        if age > limit:
            warnings["stale"] = f"trained {age:.0f} h ago; the limit is {limit:.0f} h"
        return 200, {
            "status": "degraded" if warnings else "ok",
            "model_name": served.model.name,
            "model_version": served.model.version,
            "model_variant": served.variant,
            "model_age_hours": round(age, 2),
            "warnings": warnings,
        }
