"""Give memory back to the system: glibc keeps what large requests have used, and more each time.

A block above the threshold is mapped by itself and unmapped when it is freed; glibc raises the
threshold, up to 32 MiB, with the first such block that is freed, unless it is set. A pool for
each thread would keep its own share.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

# <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
MAPPED_BYTES = 256 * 1024
KEPT_BYTES = 1024 * 1024  # free at the end of the heap
POOLS = 1


@functools.cache
def _libc() -> Any:
    """Give the C library where it is glibc; None elsewhere, where nothing need be done."""
    try:
        libc = ctypes.CDLL(None)
    except OSError:
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def bound() -> None:
    """Keep little of what is freed, from now on."""
    libc = _libc()
    if libc is not None:
        libc.mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_ARENA_MAX, POOLS)


def trim() -> None:
    """Give back what is free now."""
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)
