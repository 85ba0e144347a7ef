"""Provide the forecast routes with the board, the subscribers, the lake and the log."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from service.forecasts import history
from service.forecasts.board import Board
from service.forecasts.follow import Follow
from service.forecasts.hub import Hub
from service.forecasts.percentiles import EVERY_NS
from service.wire import RequestError
from volatility.lake import Lake, LakeError
from volatility.records import PREDICTION_SCHEMA, Prediction, volatility_of
from volatility.streaming.log import PREDICTIONS, EventLog, Message
from volatility.units import DAY_NS

BEAT_SECONDS = 15.0

_decode = msgspec.json.Decoder(Prediction).decode


class Center:
    """Follow the stream of predictions, for the routes of one worker.

    Parameters
    ----------
    connect : callable
        Opens the event log; raises LogError if that fails.
    data : Path
        Folder of the lakes.
    expected : frozenset of str
        Symbols whose ticks are sure to come.
    """

    def __init__(
        self,
        connect: Callable[[], EventLog],
        data: Path,
        expected: frozenset[str] = frozenset(),
    ) -> None:
        self.expected = expected
        self.board, self.hub = Board(), Hub()
        self.lake = Lake(data / PREDICTIONS, PREDICTION_SCHEMA)
        self._follow = Follow(connect, self._begin, self._take, self._problem)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looking = threading.Lock()
        self._ranked: set[str] = set()  # symbols whose last day was read from the lake

    def start(self) -> None:
        """Start to follow; call from the event loop."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._follow.start()
            self._beat()

    def stop(self) -> None:
        """End the streams and the thread; call from any thread."""
        self._follow.stop()
        if self._loop is not None:
            self._call(self.hub.end)

    @property
    def log(self) -> EventLog:
        """The log; an error of the routes if it is not there yet."""
        if self._follow.log is None:
            raise RequestError(503, "no_stream", self.board.problem)
        return self._follow.log

    def tail(self, symbol: str) -> Callable[[], list[Prediction]]:
        """Return a function that reads what the lake may lack of a symbol; it waits for disks."""
        told = self.board.tail(symbol)
        if not told or self._follow.log is None:
            return list
        tail = history.Tail(self._follow.log, told, self.board.covers)
        return partial(tail.predictions, self.lake, _decode)

    def _beat(self) -> None:
        assert self._loop is not None
        self.hub.beat()
        self._loop.call_later(BEAT_SECONDS, self._beat)

    def _begin(self, generation: str, starts: dict[int, int]) -> None:
        self._call(self.board.begin, generation, starts)

    def _take(self, found: list[Message]) -> None:
        self._call(self._publish, found)

    def _problem(self, problem: str) -> None:
        self._call(setattr, self.board, "problem", problem)

    def _publish(self, found: list[Message]) -> None:
        told = self.board.take(found)
        if told:
            self.hub.publish(told)
        for symbol in {one.symbol for one in told} - self._ranked:
            self._ranked.add(symbol)
            threading.Thread(target=self._rank, args=(symbol,), daemon=True).start()

    def _rank(self, symbol: str) -> None:
        """Read the last day of a symbol, to rank its forecasts."""
        newest = self.board.newest[symbol].time
        wanted = history.Wanted(symbol, newest - DAY_NS, newest)
        with self._looking:  # one at a time: the answers must not wait
            try:
                for batch in history.batches(self.lake, wanted):
                    self._call(self._put_before, symbol, batch)
            except LakeError:
                return  # the routes report it

    def _put_before(self, symbol: str, batch: pa.RecordBatch) -> None:
        times = batch.column("time").cast(pa.int64()).to_numpy()
        minutes = np.flatnonzero(times % EVERY_NS == 0)
        kept = batch.take(pa.array(minutes))
        forecasts = kept.column("forecasts")
        flat = pa.compute.struct_field(pa.compute.list_flatten(forecasts), "horizon_seconds")
        for seconds in flat.unique().to_pylist():
            values = volatility_of(forecasts, [seconds])[:, 0].tolist()
            self.board.percentiles.put_before(
                symbol,
                f"{seconds}s",
                [(t, v) for t, v in zip(times[minutes].tolist(), values, strict=True) if v == v],
            )

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in the event loop, unless that has ended."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            self._follow.stop()
