"""Write the log as one JSON object a line, and of refused requests a few a second at most."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from pythonjsonlogger.json import JsonFormatter

LINES_PER_SECOND = 5

logger = logging.getLogger("bentoml.volatility")


def configure() -> None:
    """Replace BentoML's handlers, in this worker: it sets its own before the service starts."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
    )
    for name in ("", "bentoml", "bentoml.access", "uvicorn", "uvicorn.error", "uvicorn.access"):
        one = logging.getLogger(name)
        one.handlers = [handler] if not name else []
        # Without a handler in reach uvicorn does not even make the lines of its access log.
        one.propagate = name != "uvicorn.access"
    logging.getLogger().setLevel(logging.INFO)


def told(count: Callable[[str], None]) -> Callable[[str], None]:
    """Give a function that counts each refused request, and logs some of them."""
    second, lines, silent = 0, 0, 0

    def refused(reason: str) -> None:
        nonlocal second, lines, silent
        count(reason)
        now = int(time.monotonic())
        if now != second:
            second, lines = now, 0
        if lines >= LINES_PER_SECOND:
            silent += 1
            return
        lines += 1
        logger.warning("request refused", extra={"reason": reason, "not_logged": silent})
        silent = 0

    return refused
