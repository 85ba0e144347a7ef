"""Return memory to the system: glibc keeps what large requests used, and more each time.

A block above the mmap threshold is mapped separately and unmapped when it is freed. Unless the
threshold is set, glibc raises it, up to 32 MiB, when the first such block is freed. One pool for
all threads, because each pool keeps its own share.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import pyarrow as pa

# <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
MAPPED_BYTES = 256 * 1024
KEPT_BYTES = 1024 * 1024  # free bytes kept at the end of the heap
POOLS = 1


@functools.cache
def _libc() -> Any:
    """Return the C library if it is glibc; None elsewhere, where nothing needs to be done."""
    try:
        libc = ctypes.CDLL(None)
    except OSError:
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def bound() -> None:
    """Limit how much freed memory glibc keeps from now on."""
    libc = _libc()
    if libc is not None:
        libc.mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_ARENA_MAX, POOLS)


def trim() -> None:
    """Return the memory that is currently free, Arrow's too, to the system."""
    pa.default_memory_pool().release_unused()
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)
