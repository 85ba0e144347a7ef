"""Know the newest forecast of each symbol and the last ones of all, from the stream.

The stream may repeat a prediction, and holds those of the challenger too. The first prediction of
a step is the one that was said: the serving model's, as the scorer writes it first. The board
belongs to the event loop; nothing here waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from service.forecasts import messages
from service.forecasts.percentiles import Percentiles
from volatility.records import Prediction
from volatility.streaming.log import Message

RECENT = 10_000  # forecasts kept to resume streams, of all symbols: about 20 MB
STALE_NS, HALTED_NS = 15_000_000_000, 900_000_000_000

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Prediction)


class Told(msgspec.Struct, frozen=True):
    """Represent a forecast of the stream.

    Parameters
    ----------
    partition, offset : int
    prediction : bytes
        The record.
    symbol : str
    time, said_at : int
        The step, and when it was said [ns since the epoch].
    data : bytes
        JSON of the message.
    event : bytes
        Server-sent event; its id is the place in the stream after it.
    """

    partition: int
    offset: int
    prediction: bytes
    symbol: str
    time: int
    said_at: int
    data: bytes
    event: bytes


class Board:
    """Follow the stream of predictions.

    Attributes
    ----------
    newest : dict
        By symbol, in the order of arrival.
    recent : deque
        The last forecasts of all symbols, in the order of the stream.
    problem : str
        Why nothing is being read; empty if it is.
    read : dict
        By partition, the offset after the last record read.
    """

    def __init__(self) -> None:
        self.newest: dict[str, Told] = {}
        self.recent: deque[Told] = deque(maxlen=RECENT)
        self.percentiles = Percentiles()
        self.problem = "the stream of predictions has not been read yet; try again in a moment"
        self.read: dict[int, int] = {}
        self._generation = ""
        self._offsets: list[int] = []  # of the last forecast taken, by partition
        self._first: list[int] = []  # from which on `recent` has all, by partition
        self._halves: dict[str, int] = {}  # by symbol: a step that may be only half seen

    def begin(self, generation: str, starts: dict[int, int]) -> None:
        """Prepare for a generation of the topic that is read from these offsets on."""
        count = max(starts, default=-1) + 1
        if generation != self._generation:
            self.recent.clear()
            self._generation = generation
            self._offsets = [starts.get(p, 0) - 1 for p in range(count)]
            self._first = [starts.get(p, 0) for p in range(count)]
        for partition in range(len(self._offsets), count):
            self._offsets.append(starts.get(partition, 0) - 1)
            self._first.append(starts.get(partition, 0))

    def take(self, found: Iterable[Message]) -> list[Told]:
        """Add records of the stream; return the forecasts that are new."""
        new = []
        for message in found:
            self.read[message.partition] = message.offset + 1
            if message.offset <= self._offsets[message.partition]:
                continue
            try:
                one = _decoder.decode(message.value)
            except msgspec.MsgspecError:
                continue  # capture keeps it, with the reason
            before = self.newest.get(one.symbol)
            if before is not None:
                if one.time <= before.time:
                    continue
            elif self._first[message.partition] > 0:
                # Read from its middle, the stream may begin with the challenger's half of a step.
                half = self._halves.setdefault(one.symbol, one.time)
                if one.time <= half:
                    self._first[message.partition] = message.offset + 1
                    continue
            new.append(self._told(message, one))
        return new

    def _told(self, message: Message, one: Prediction) -> Told:
        self._offsets[message.partition] = message.offset
        place = self.place()
        horizons = {}
        for name, made in (one.forecasts or {}).items():
            shown = messages.outlook(name, made)
            self.percentiles.add(one.symbol, name, one.time, made.volatility_bps)
            rank = self.percentiles.rank(one.symbol, name, made.volatility_bps)
            horizons[name] = messages.Ranked(**msgspec.structs.asdict(shown), percentile_24h=rank)
        plain = messages.said(one)
        event = messages.Event(
            plain.symbol,
            plain.as_of,
            plain.said_at,
            plain.midprice,
            horizons,
            plain.model_name,
            plain.model_version,
            plain.model_variant,
            plain.out_of_distribution,
            place,
        )
        data = _encode(event)
        told = Told(
            message.partition,
            message.offset,
            message.value,
            one.symbol,
            one.time,
            one.said_at or message.time_ns,
            data,
            b"id: %s\ndata: %s\n\n" % (place.encode(), data),
        )
        self.newest.pop(one.symbol, None)  # in the order of arrival
        self.newest[one.symbol] = told
        if len(self.recent) == RECENT:
            oldest = self.recent[0]
            self._first[oldest.partition] = oldest.offset + 1
        self.recent.append(told)
        return told

    def place(self) -> str:
        """Return the current place in the stream, from which a reader can resume."""
        return ".".join([self._generation, *map(str, self._offsets)])

    def since(self, place: str) -> list[Told] | None:
        """Return the forecasts after a place; None if they are not all known here any more."""
        generation, *offsets = place.split(".")
        try:
            seen = [int(offset) for offset in offsets]
        except ValueError:
            return None
        if generation != self._generation or len(seen) > len(self._offsets):
            return None
        seen += [-1] * (len(self._offsets) - len(seen))  # partitions that were added
        if any(offset + 1 < first for offset, first in zip(seen, self._first, strict=True)):
            return None
        return [told for told in self.recent if told.offset > seen[told.partition]]

    def tail(self, symbol: str) -> Sequence[Told]:
        """Return the last forecasts of a symbol."""
        return [told for told in self.recent if told.symbol == symbol]

    def covers(self, partition: int, offset: int) -> bool:
        """Return whether the last forecasts include all of a partition from an offset on."""
        return partition < len(self._first) and self._first[partition] <= offset


def state_of(age_ns: int) -> Literal["ok", "stale", "halted"]:
    """Return the state of a symbol by the age of its newest forecast."""
    if age_ns < STALE_NS:
        return "ok"
    return "stale" if age_ns < HALTED_NS else "halted"
