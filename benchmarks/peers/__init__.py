"""Compute the same features with the libraries that a user would otherwise choose.

The peers do less than the kernel, to their advantage: they do not handle gaps, coverage,
duplicates or late ticks, their averages never forget, and they require records in ascending time
with no empty second (the simulator sends one heartbeat per second). On such records their results
equal the kernel's, which ``tests/unit/test_benchmark_peers.py`` checks.
"""

from __future__ import annotations

from volatility.features import FEATURE_NAMES
from volatility.settings import Features

LEFT_OUT = ("seconds_since_gap",)  # meaningless without gaps
COMPUTED = tuple(name for name in FEATURE_NAMES if name not in LEFT_OUT)

WINDOWS_SECONDS = (5, 15, 30, 60, 300, 900)
HALF_LIVES_SECONDS = (10, 60, 300)


def least_returns(window_seconds: int) -> int:
    """Return the number of returns that a window needs: one less than its covered seconds."""
    rules = Features()
    if window_seconds == 900:
        return rules.min_baseline_seconds - 1
    return least_seconds(window_seconds) - 1


def least_seconds(window_seconds: int) -> int:
    """Return the number of covered seconds that a window shorter than the baseline needs."""
    return -int(-window_seconds * Features().min_coverage // 1)
