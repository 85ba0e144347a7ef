"""Compute the same features with the libraries that a user would otherwise take.

The peers do less than the kernel, to their advantage: they know no gaps, coverage, duplicates
or late ticks, their averages never forget, and they take records that ascend in time and leave
no second empty (the simulator sends a heartbeat a second). On such records they give the
kernel's numbers, which ``tests/unit/test_benchmark_peers.py`` holds.
"""

from __future__ import annotations

from volatility.feature_table import FEATURE_NAMES
from volatility.settings import Features

LEFT_OUT = ("seconds_since_gap",)  # without gaps it says nothing
COMPUTED = tuple(name for name in FEATURE_NAMES if name not in LEFT_OUT)

WINDOWS_SECONDS = (5, 15, 30, 60, 300, 900)
HALF_LIVES_SECONDS = (10, 60, 300)


def least_returns(window_seconds: int) -> int:
    """Give the number of returns that a window needs: one fewer than its covered seconds."""
    rules = Features()
    if window_seconds == 900:
        return rules.min_baseline_seconds - 1
    return least_seconds(window_seconds) - 1


def least_seconds(window_seconds: int) -> int:
    """Give the number of covered seconds that a window shorter than the baseline needs."""
    return -int(-window_seconds * Features().min_coverage // 1)
