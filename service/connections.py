"""Bound the open connections of a worker, and see that its open files suffice for them."""

from __future__ import annotations

import resource

SPARE_FILES = 256  # for the model, logs, metrics and the connections of one burst


def affordable(wanted: int) -> int:
    """Raise the process's limit of open files as needed, and return the connections that fit.

    Twice as many files as connections: the system accepts a burst before the first is refused.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * wanted + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return min(wanted, max(1, raised // 2))
