"""Wait in a test for what another thread, process or server does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx

# Enough for a machine that is many times slower than an idle one. A test that passes ends as soon
# as what it waits for has happened, so a long limit costs only a test that fails.
PATIENCE_SECONDS = 300.0


def until(
    condition: Callable[[], object],
    what: str,
    seconds: float = PATIENCE_SECONDS,
    pause_seconds: float = 0.02,
    details: Callable[[], str] = str,
) -> None:
    """Wait until a condition holds. A server that does not answer counts as not yet.

    Parameters
    ----------
    condition : callable
        Asked again and again; whatever is true ends the wait.
    what : str
        What is waited for, for the error.
    details : callable
        More for the error, asked for at the end only: the ends of logs, a state.

    Raises
    ------
    AssertionError
        If it does not hold within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not _holds(condition):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}\n{details()}"
        time.sleep(pause_seconds)


async def until_async(
    condition: Callable[[], object], what: str, pause_seconds: float = 0.002
) -> None:
    """Wait like ``until`` for another task of the event loop."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s: {what}"
        await asyncio.sleep(pause_seconds)


def _holds(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except httpx.TransportError:
        return False
