"""Score the stream: ticks to features to predictions, each step once per model version.

Every prediction carries two headers: ``closed``, the offset of the record that closed its step,
and ``resume``, the offset from which a successor must replay to have the same windows. A
process that starts, or takes a partition over, reads the last prediction, replays from
``resume`` without emitting, and goes on right behind ``closed``: no step skipped, none scored
with cold windows, and, because windows forget exactly, the same bits.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import NamedTuple

import msgspec
import numpy as np

from streaming import metrics
from streaming.log import PREDICTIONS, TICKS, EventLog, LogError, Message, Reader, gone
from streaming.models import Models
from volatility.feature_table import INDEX
from volatility.features import FeatureEngine, FeatureRow
from volatility.kernel_state import SECOND
from volatility.prediction import Prediction
from volatility.settings import Features
from volatility.tick import Heartbeat, TickError, decode

logger = logging.getLogger(__name__)

GROUP = "score"
POLL_RECORDS = 2_000
POLL_SECONDS = 0.05
FLUSH_SECONDS = 30.0
LAG_SECONDS = 2.0  # between two looks at the log's end
TAIL_RECORDS = 1_000  # read back from the end of predictions, to find the last one
WARM = INDEX["realised_volatility_900s"]

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Prediction)
Key = tuple[str, int, str]  # symbol, step, version


@dataclass
class _Partition:
    """Hold one partition's feature state and where it stands.

    ``offsets`` has, by symbol, (second, first offset) of what the memory still needs.
    """

    engine: FeatureEngine
    generation: str
    closed: int = -1
    emitted: set[Key] = field(default_factory=set)
    offsets: dict[str, deque[tuple[int, int]]] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)

    def remember(self, symbol: str, time_ns: int, offset: int, memory_seconds: int) -> None:
        """Note where a second of a symbol starts; forget what the memory has left behind."""
        second = time_ns // SECOND
        known = self.offsets.setdefault(symbol, deque())
        if known and second <= known[-1][0]:
            return
        known.append((second, offset))
        # One second more than the memory: a step's second started before the step.
        while known[0][0] < second - memory_seconds - 1:
            known.popleft()

    def resume(self, memory_seconds: int) -> int:
        """Give the first offset that any symbol's windows still need.

        A symbol that has been silent for longer than the memory needs nothing: its windows are
        empty, replayed or not.
        """
        newest = max(known[-1][0] for known in self.offsets.values())
        return min(
            known[0][1]
            for known in self.offsets.values()
            if known[-1][0] >= newest - memory_seconds - 1
        )


class _Closed(NamedTuple):
    """Hold a row, the record that closed its step, and where a successor would have to begin."""

    part: _Partition
    message: Message
    row: FeatureRow
    resume: int


class Scorer:
    """Score the partitions of ``ticks`` that this process is given.

    Raises
    ------
    LogError
        When there is no topic ``ticks``, or ``predictions`` has another number of partitions.
    """

    def __init__(
        self, log: EventLog, models: Models, features: Features, *, group: str | None = GROUP
    ) -> None:
        self._log, self._models, self._features = log, models, features
        FeatureEngine(features).update(Heartbeat("A", 0))  # compiled before the stream waits
        self._group = group
        self._partitions: dict[int, _Partition] = {}
        self._lagging: set[int] = set()  # partitions whose lag is shown
        self._writer = log.writer()
        self._generation: str
        self._reader: Reader
        self._open()

    def _open(self) -> None:
        number = len(self._log.partitions(TICKS))
        if not number:
            raise LogError("there is no topic ticks; start `volatility ingest` first")
        self._generation = self._log.generation(TICKS)
        self._log.create(PREDICTIONS, number)
        there = len(self._log.partitions(PREDICTIONS))
        if there != number:
            # A prediction must land on its tick's partition, where a successor looks for it.
            raise LogError(
                f"predictions has {there} partitions and ticks {number}; "
                "delete the topic predictions, it is built again"
            )
        if self._group is None:
            partitions = self._log.partitions(TICKS)
            self._reader = self._log.reader(TICKS, dict.fromkeys(partitions, 0))
            self._assigned(partitions)
        else:
            self._reader = self._log.group_reader(TICKS, self._group, self._assigned, self._revoked)

    def run(self, *, follow: bool, stopped: Callable[[], bool] = lambda: False) -> int:
        """Score to the log's end of now, or with ``follow`` until ``stopped``.

        Returns the number of predictions made.
        """
        ends = self._log.end_offsets(TICKS)
        made = 0
        while not stopped():
            try:
                made += self.step()
            except LogError as error:
                if not follow or not gone(self._log, TICKS, self._generation, self._reader):
                    raise
                logger.warning("score starts anew: %s", error)
                self._reopen(stopped)
                continue
            mine = self._reader.assignment()  # of a group: empty until all have joined
            if not follow and mine and all(self._reader.position(p) >= ends[p] for p in mine):
                break
        self._writer.flush(FLUSH_SECONDS)
        return made

    def watch_lag(self) -> None:
        """Measure from now on how many records wait: in the background, so also while it hangs."""
        Thread(target=self._watch_lag, name="lag", daemon=True).start()

    def measure_lag(self) -> None:
        """Count the records of each partition of ours that are not scored yet."""
        ends = self._log.end_offsets(TICKS)
        reader = self._reader
        mine = {part: max(ends[part] - reader.position(part), 0) for part in reader.assignment()}
        for partition, lag in mine.items():
            metrics.score_lag.labels(str(partition)).set(lag)
        for partition in self._lagging - set(mine):
            metrics.score_lag.remove(str(partition))  # another process has it now
        self._lagging = set(mine)

    def step(self) -> int:
        """Take what has come and emit what it closes; count the predictions."""
        messages = self._reader.poll(POLL_RECORDS, POLL_SECONDS)
        rows: list[_Closed] = []
        for message in messages:
            part = self._partitions[message.partition]
            try:
                record = decode(message.value)
            except TickError:
                continue  # capture keeps it, with the reason
            closed = part.engine.update(record)
            if closed:
                # Before this record is remembered: its steps still need what it makes forget.
                resume = part.resume(self._features.memory_seconds)
                rows += [_Closed(part, message, row, resume) for row in closed]
            part.remember(record.symbol, record.time, message.offset, self._features.memory_seconds)
        made = self._emit(rows)
        if messages:
            self._measure(messages, rows)
        return made

    def _reopen(self, stopped: Callable[[], bool]) -> None:
        """Begin again with the ticks that there are, as soon as there are any."""
        self._reader.close()
        self._partitions.clear()
        while not self._log.partitions(TICKS):
            if stopped():
                return
            time.sleep(POLL_SECONDS)
        self._open()

    def close(self) -> None:
        """Free the connections."""
        self._reader.close()
        self._writer.close()

    def _emit(self, rows: list[_Closed]) -> int:
        warm = [
            closed
            for closed in rows
            if closed.message.offset >= closed.part.closed and not np.isnan(closed.row.values[WARM])
        ]
        if not warm:
            return 0
        values = np.array([closed.row.values for closed in warm])
        scored = [(model, model.bundle.score(values)) for model in self._models.current()]
        made = 0
        for place, (part, message, row, resume) in enumerate(warm):
            if message.offset > part.closed:
                part.closed, part.emitted = message.offset, set()
            headers = (
                ("closed", str(message.offset).encode()),
                ("resume", str(resume).encode()),
                ("generation", part.generation.encode()),
            )
            for model, scores in scored:
                key = (row.symbol, row.time, model.version)
                if key in part.emitted:
                    continue
                part.emitted.add(key)
                score = float(scores[place])
                threshold = model.bundle.threshold
                prediction = Prediction(
                    row.symbol,
                    row.time,
                    score,
                    threshold,
                    score >= threshold,
                    model.name,
                    model.version,
                    model.bundle.variant,
                )
                self._writer.append(
                    PREDICTIONS, row.symbol.encode(), _encoder.encode(prediction), headers
                )
                made += 1
                metrics.predictions.labels(model.version, model.bundle.variant).inc()
                metrics.scores.labels(model.version).observe(score)
                if prediction.spike:
                    metrics.spikes.labels(model.version).inc()
        return made

    def _measure(self, messages: list[Message], rows: list[_Closed]) -> None:
        now = time.time_ns()
        for _, message, row, _ in rows[-1:]:
            metrics.prediction_latency.observe(max(now - message.time_ns, 0) / 1e9)
            metrics.feature_age.labels(row.symbol).set((now - row.time) / 1e9)
        for partition in {message.partition for message in messages}:
            part = self._partitions[partition]
            for symbol in part.offsets:
                late = part.engine.counts(symbol)["late"]
                metrics.late_ticks.labels(symbol).inc(late - part.late.get(symbol, 0))
                part.late[symbol] = late

    def _watch_lag(self) -> None:
        while True:
            time.sleep(LAG_SECONDS)
            with suppress(LogError, KeyError):  # the broker is away; a partition was just taken
                self.measure_lag()

    def _assigned(self, partitions: Sequence[int]) -> None:
        generation = self._log.generation(TICKS)
        starts = self._log.start_offsets(TICKS)
        for partition in partitions:
            part = _Partition(FeatureEngine(self._features), generation)
            resume = starts.get(partition, 0)
            last = self._last(partition)
            headers = dict(last[-1].headers) if last else {}
            if headers.get("generation", b"").decode() == generation:
                part.closed = int(headers["closed"])
                resume = max(resume, int(headers["resume"]))
                part.emitted = {
                    (p.symbol, p.time, p.model_version)
                    for p in (
                        _decoder.decode(m.value)
                        for m in last
                        if dict(m.headers).get("closed") == headers["closed"]
                    )
                }
            self._partitions[partition] = part
            self._reader.seek(partition, resume)
            logger.info("partition %d: warming up from offset %d", partition, resume)

    def _revoked(self, partitions: Sequence[int]) -> None:
        # The successor reads the last prediction: ours must be there before it looks.
        self._writer.flush(FLUSH_SECONDS)
        for partition in partitions:
            self._partitions.pop(partition, None)

    def _last(self, partition: int) -> list[Message]:
        """Read the newest predictions of a partition."""
        end = self._log.end_offsets(PREDICTIONS).get(partition, 0)
        start = max(self._log.start_offsets(PREDICTIONS).get(partition, 0), end - TAIL_RECORDS)
        if end <= start:
            return []
        reader = self._log.reader(PREDICTIONS, {partition: start})
        try:
            found: list[Message] = []
            deadline = time.monotonic() + FLUSH_SECONDS
            while reader.position(partition) < end:
                found += reader.poll(TAIL_RECORDS, POLL_SECONDS)
                if time.monotonic() > deadline:
                    raise LogError("the topic predictions cannot be read; is the broker up?")
            return found
        finally:
            reader.close()
