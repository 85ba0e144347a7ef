"""Share what tests of several folders need."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# A wall time is no property of the code: the first call of a library may import for seconds.
settings.register_profile("volatility", deadline=None)
settings.load_profile("volatility")

RECORDINGS = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder of the recorded market data, which the repository must not contain."""
    if not (RECORDINGS / "ticks").is_dir():
        pytest.skip("the recordings are not beside the repository (../shared/data)")
    return RECORDINGS
