"""Units of time, and the types of arrays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SECOND = 1_000_000_000  # nanoseconds
DAY_NS = 86_400 * SECOND


def parse_iso(text: str) -> int:
    """Read ISO 8601 as nanoseconds since the epoch; without a time zone it is UTC.

    Raises
    ------
    ValueError
        If the text is not ISO 8601.
    """
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000


def iso(time_ns: int | np.integer[Any]) -> str:
    """Write nanoseconds since the epoch as ISO 8601, UTC, to the second."""
    return datetime.fromtimestamp(int(time_ns) // SECOND, UTC).isoformat()
