"""Time functions side by side, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Seconds:
    """Hold the medians of repeated runs, in seconds.

    Parameters
    ----------
    wall : float
        By the clock on the wall.
    cpu : float
        Of this process, over all of its threads: what others run does not count.
    """

    wall: float
    cpu: float


def interleaved(functions: Mapping[str, Callable[[], Any]], repetitions: int) -> dict[str, Seconds]:
    """Time functions in turn, A B A B; each has run once before."""
    for function in functions.values():
        function()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for _ in range(repetitions):
        for name, function in functions.items():
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: Seconds(median(wall for wall, _ in pairs), median(cpu for _, cpu in pairs))
        for name, pairs in taken.items()
    }


def microseconds_each(function: Callable[[Any], Any], arguments: list[Any]) -> list[float]:
    """Time every single call [us]: the clock's own 0.1 us is in it."""
    taken = []
    clock = time.perf_counter_ns
    for argument in arguments:
        begin = clock()
        function(argument)
        taken.append(clock() - begin)
    return [nanoseconds / 1e3 for nanoseconds in taken]
