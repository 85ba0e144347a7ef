"""Log one JSON object per line, and at most a few refused requests per second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from pythonjsonlogger.json import JsonFormatter

LINES_PER_SECOND = 5

logger = logging.getLogger("bentoml.volatility")


def configure() -> None:
    """Replace the handlers that BentoML set up in this worker before the service started."""
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
        # Without a reachable handler, uvicorn does not even format its access log lines.
        one.propagate = name != "uvicorn.access"
    logging.getLogger().setLevel(logging.INFO)


def ignore_refused_sockets() -> None:
    """Drop the error that uvicorn logs for each WebSocket connection that is refused in order."""
    logging.getLogger("uvicorn.error").addFilter(_is_no_refused_socket)


def _is_no_refused_socket(record: logging.LogRecord) -> bool:
    return record.msg != "ASGI callable returned without completing handshake."


def with_log(count: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that counts every refused request and logs some of them."""
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
