"""Run the forecast routes over an event log in memory, without a server or a broker."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from starlette.testclient import TestClient

from service.forecasts.center import Center
from service.forecasts.routes import Forecasts
from service.front import Front
from service.http import application
from service.predictor import Served
from service.state import State
from tests.bundles import small_bundle
from tests.live import prediction
from tests.waiting import until
from volatility.records import Prediction
from volatility.registry import RegisteredModel
from volatility.settings import Settings
from volatility.streaming import capture_topic
from volatility.streaming.log import PREDICTIONS, TICKS
from volatility.streaming.log.memory_log import MemoryLog
from volatility.units import SECOND

START = 1_775_337_180 * SECOND  # a whole minute


class Stage:
    """Represent a service whose stream a test fills.

    Parameters
    ----------
    folder : Path
        For the lake.
    partitions : int
    """

    def __init__(self, folder: Path, partitions: int = 4) -> None:
        self.folder, self.log = folder, MemoryLog()
        for topic in (TICKS, PREDICTIONS):
            self.log.create(topic, partitions)
        self.center = Center(lambda: self.log, folder)
        model = RegisteredModel(small_bundle(), "crypto-vol-ml", "7", "champion", "run", {}, {})
        self.state = State(Settings(), served=Served(small_bundle(), model, None))
        self.state.forecasts = Forecasts(self.center, self.state)
        self.app: Any = Front(application(self.state), self.state)
        self._writer = self.log.writer()

    def client(self) -> TestClient:
        """Return a client; as a context manager it keeps one event loop."""
        return TestClient(self.app, raise_server_exceptions=False)

    def say(self, *predictions: Prediction) -> None:
        """Append predictions to the stream."""
        for one in predictions:
            key = one.symbol.encode()
            self._writer.append(PREDICTIONS, key, msgspec.json.encode(one))

    def capture(self) -> None:
        """Copy the stream so far to the lake."""
        capture_topic(self.log, PREDICTIONS, self.folder / PREDICTIONS)

    def seen(self) -> None:
        """Wait until the board has what was said."""
        board = self.center.board
        until(lambda: not board.problem, "the stream is read")
        ends = self.log.end_offsets(PREDICTIONS)

        def reached() -> bool:
            return all(board.read.get(partition, 0) >= end for partition, end in ends.items())

        until(reached, "the board has every record", details=lambda: f"{board.read} {ends}")


def steps(
    count: int, symbol: str = "BTC-USD", start: int = START, **named: Any
) -> list[Prediction]:
    """Return predictions of consecutive steps, each a little different."""
    return [varied(prediction(start + n * SECOND, symbol, **named), n) for n in range(count)]


def varied(one: Prediction, number: int) -> Prediction:
    """Return a prediction whose volatility depends on a number."""
    forecasts = {
        name: msgspec.structs.replace(made, volatility_bps=made.volatility_bps + number / 1024)
        for name, made in (one.forecasts or {}).items()
    }
    return msgspec.structs.replace(one, forecasts=forecasts)


def keys(predictions: Iterable[Prediction]) -> list[tuple[str, int, str]]:
    """Return what identifies predictions."""
    return [(one.symbol, one.time, one.model_version) for one in predictions]
