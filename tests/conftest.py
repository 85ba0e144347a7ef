"""Share what tests of several folders need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from tests.brokers import RunningBroker, run_broker
from volatility.settings import disable_telemetry

disable_telemetry()

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


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """Start one Kafka broker for all tests; who stops it takes one from `make_broker` instead."""
    with run_broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture
def make_broker(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[], RunningBroker]]:
    """Start brokers that the test may kill."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(run_broker(tmp_path_factory.mktemp("kafka")))
