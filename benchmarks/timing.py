"""Time functions in turn, so that other load on the machine affects all of them equally."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Seconds:
    """Represent the medians of repeated runs, in seconds.

    Parameters
    ----------
    wall : float
        Wall time.
    cpu : float
        CPU time of all threads of this process, unaffected by other processes.
    """

    wall: float
    cpu: float


def interleaved(functions: Mapping[str, Callable[[], Any]], repetitions: int) -> dict[str, Seconds]:
    """Time functions in turn, A B A B, after one warm-up run of each."""
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
    """Time each call [us], including the 0.1 us of the clock itself."""
    taken = []
    clock = time.perf_counter_ns
    for argument in arguments:
        begin = clock()
        function(argument)
        taken.append(clock() - begin)
    return [nanoseconds / 1e3 for nanoseconds in taken]
