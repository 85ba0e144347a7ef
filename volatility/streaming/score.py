"""Score the stream: ticks to features to predictions, each step once per model version.

Every prediction carries these headers: ``closed``, the offset of the record that closed its step;
``mark``, the fingerprint of that record; and ``resume``, the offset from which a successor must
replay to rebuild the same windows. A process that starts, or takes over a partition, reads the
last prediction, replays from ``resume`` without emitting, and continues right after ``closed``.
So no step is skipped, none is scored with cold windows, and, because windows forget exactly, the
results are bit-identical.

A symbol is scored on its own partition only. When partitions are added to ``ticks``, the scorer
adds them to ``predictions``, starts again, and holds the predictions of symbols that have moved
until the records on their new partition fill their windows.

Features are built with the rules of the serving model, whatever ``params.yaml`` currently says.
When a new champion has other rules, the scorer replays from ``resume``, as after a restart.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import NamedTuple

import msgspec
import numpy as np

from volatility.features import FeatureEngine, FeatureRow, is_warm
from volatility.records import (
    Heartbeat,
    Prediction,
    TickError,
    decode,
)
from volatility.settings import Features
from volatility.streaming import metrics
from volatility.streaming.history import RewrittenError, mark_of, message_at
from volatility.streaming.layout import Layout
from volatility.streaming.log import (
    PREDICTIONS,
    TICKS,
    EventLog,
    LogError,
    Message,
    Reader,
    was_deleted,
)
from volatility.streaming.models import Model, Models
from volatility.streaming.partition import Partition
from volatility.streaming.scored import Scored
from volatility.units import SECOND

logger = logging.getLogger(__name__)

GROUP = "score"
POLL_RECORDS = 2_000
POLL_SECONDS = 0.05
FLUSH_SECONDS = 30.0
LAG_SECONDS = 2.0  # between two measurements of the lag
TAIL_RECORDS = 1_000  # read back from the end of predictions, to find the last one

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Prediction)


class _Closed(NamedTuple):
    """Represent a row, the record that closed its step, and where a successor would start."""

    part: Partition
    message: Message
    row: FeatureRow
    resume: int


class Scorer:
    """Score the partitions of ``ticks`` that are assigned to this process.

    Raises
    ------
    LogError
        When topic ``ticks`` does not exist, or ``predictions`` has more partitions.
    """

    def __init__(self, log: EventLog, models: Models, *, group: str | None = GROUP) -> None:
        self._log, self._models = log, models
        self._rules = _rules(models.current())
        FeatureEngine(self._rules).update(Heartbeat("A", 0))  # compile before the stream waits
        self._group = group
        self._shown: tuple[Model, ...] = ()  # in the metrics
        self._partitions: dict[int, Partition] = {}
        self._layout = Layout(log)
        self._lagging: set[int] = set()  # partitions whose lag is reported
        self._writer = log.writer()
        self._generation: str
        self._reader: Reader
        self._open()

    def _open(self) -> None:
        if not self._log.partitions(TICKS):
            raise LogError("topic ticks does not exist; start `volatility ingest` first")
        self._generation = self._log.generation(TICKS)
        self._layout.refresh()
        self._fit_predictions()
        if self._group is None:
            partitions = self._log.partitions(TICKS)
            self._reader = self._log.reader(TICKS, dict.fromkeys(partitions, 0))
            self._assigned(partitions)
        else:
            self._reader = self._log.group_reader(TICKS, self._group, self._assigned, self._revoked)

    def _fit_predictions(self) -> None:
        """Let predictions have as many partitions as ticks.

        A prediction must land on its tick's partition, where a successor looks for it.
        """
        number = self._layout.count
        self._log.create(PREDICTIONS, number)
        existing = len(self._log.partitions(PREDICTIONS))
        if existing < number:
            logger.warning("predictions has %d partitions: extending it to %d", existing, number)
            self._log.extend(PREDICTIONS, number)
        elif existing > number:
            raise LogError(
                f"predictions has {existing} partitions but ticks has {number}: add partitions to "
                f"ticks with `kafka-topics.sh --alter --topic ticks --partitions {existing}`"
            )

    def run(self, *, follow: bool, stopped: Callable[[], bool] = lambda: False) -> int:
        """Score up to the current end of the log, or with ``follow`` until ``stopped``.

        Returns the number of predictions made.
        """
        ends = self._log.end_offsets(TICKS)
        made = 0
        while not stopped():
            try:
                made += self.step()
            except RewrittenError:
                raise
            except LogError as error:
                if not follow or not was_deleted(self._log, TICKS, self._generation, self._reader):
                    self._require_read()
                    raise
                logger.warning("restarting scorer: %s", error)
                self._reopen(stopped)
                continue
            owned = self._reader.assignment()  # in a group, empty until all members have joined
            if (
                not follow
                and owned
                and all(self._reader.position(p) >= ends.get(p, 0) for p in owned)
            ):
                break
        self._writer.flush(FLUSH_SECONDS)
        return made

    def watch_lag(self) -> None:
        """Start measuring the lag in the background, so that it is reported even during a hang."""
        Thread(target=self._watch_lag, name="lag", daemon=True).start()

    def measure_lag(self) -> None:
        """Report how many records of each assigned partition are not scored yet."""
        ends = self._log.end_offsets(TICKS)
        reader = self._reader
        owned = [part for part in reader.assignment() if part in ends]
        lags = {part: max(ends[part] - reader.position(part), 0) for part in owned}
        for partition, lag in lags.items():
            metrics.score_lag.labels(str(partition)).set(lag)
        for partition in self._lagging - set(lags):
            metrics.score_lag.remove(str(partition))  # another process has it now
        self._lagging = set(lags)

    def step(self) -> int:
        """Process new records and emit the steps they close; return the number of predictions."""
        models = self._models.current()
        if models is not self._shown:
            metrics.model_info.clear()
            for model in models:
                metrics.model_info.labels(model.name, model.version).set(1)
            self._shown = models
        if _rules(models) != self._rules:
            self._rules = _rules(models)
            self._rebuild("the serving model has other feature rules")
        if self._reader.partition_count() > self._layout.count:
            self._rebuild("partitions were added to ticks")
        messages = self._reader.poll(POLL_RECORDS, POLL_SECONDS)
        rows: list[_Closed] = []
        for message in messages:
            part = self._partitions[message.partition]
            try:
                record = decode(message.value, message.time_ns)
            except TickError:
                continue  # capture keeps it, with the reason
            if self._layout.home(record.symbol) != message.partition:
                self._skip(part, message, record.symbol)
                continue
            if record.symbol not in part.first:
                self._meet(part, message, record.symbol)
            closed = part.engine.update(record)
            if closed:
                # Before this record is remembered: its steps still need what remembering it drops.
                resume = part.resume(self._rules.memory_seconds)
                rows += [_Closed(part, message, row, resume) for row in closed]
            part.remember(record.symbol, record.time, message.offset, self._rules.memory_seconds)
        made = self._emit(rows, models)
        if messages:
            self._measure(messages, rows)
        return made

    def _skip(self, part: Partition, message: Message, symbol: str) -> None:
        """Count a record that is not on its symbol's partition; capture keeps it.

        This is not a fault if it was sent before partitions were added.
        """
        new = message.offset > part.closed
        if new and not self._layout.owns(message.partition, symbol, message.time_ns):
            metrics.misplaced_ticks.inc()

    def _meet(self, part: Partition, message: Message, symbol: str) -> None:
        """Notice a symbol's first record, and whether older ones are on another partition."""
        memory = self._rules.memory_seconds
        if message.time_ns >= self._layout.moved(message.partition, symbol) + memory * SECOND:
            return
        part.moved.add(symbol)
        logger.warning(
            "%s has moved to partition %d: holding its predictions for %d s, until its windows "
            "are as long as in the lake",
            *(symbol, message.partition, memory),
        )

    def _rebuild(self, reason: str) -> None:
        """Replay what the windows need, by the current rules and partitions."""
        logger.warning("%s: rebuilding the windows", reason)
        self._writer.flush(FLUSH_SECONDS)  # the last prediction says where to start
        self._reader.close()
        self._partitions.clear()
        self._open()

    def _reopen(self, stopped: Callable[[], bool]) -> None:
        """Start again with the ticks that exist, as soon as there are any."""
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

    def _emit(self, rows: list[_Closed], models: Sequence[Model]) -> int:
        warm = [
            closed
            for closed in rows
            if closed.message.offset >= closed.part.closed and is_warm(closed.row.values)
        ]
        memory = self._rules.memory_seconds
        whole = [closed for closed in warm if closed.part.whole(closed.row, memory)]
        if len(whole) < len(warm):
            metrics.held_predictions.inc(len(warm) - len(whole))
            warm = whole
        if not warm:
            return 0
        values = np.array([closed.row.values for closed in warm])
        symbols = [closed.row.symbol for closed in warm]
        scored = [Scored.of(model, values, symbols) for model in models]
        said_at = time.time_ns()
        made = 0
        newest: dict[str, Prediction] = {}
        for place, (part, message, row, resume) in enumerate(warm):
            if message.offset > part.closed:
                part.closed, part.emitted = message.offset, set()
            headers = (
                ("closed", str(message.offset).encode()),
                ("mark", mark_of(message).encode()),
                ("resume", str(resume).encode()),
                ("generation", part.generation.encode()),
                ("partition", str(message.partition).encode()),
            )
            for one in scored:
                model = one.model
                key = (row.symbol, row.time, model.version)
                if key in part.emitted:
                    continue
                part.emitted.add(key)
                prediction = one.prediction(place, row, said_at)
                if one is scored[0]:
                    newest[row.symbol] = prediction
                self._writer.append(
                    PREDICTIONS, row.symbol.encode(), _encoder.encode(prediction), headers
                )
                made += 1
                metrics.predictions.labels(model.version, model.bundle.variant).inc()
                metrics.scores.labels(model.version).observe(prediction.score)
                if prediction.spike:
                    metrics.spikes.labels(model.version).inc()
        for symbol, prediction in newest.items():
            for horizon, forecast in (prediction.forecasts or {}).items():
                gauge = metrics.forecast_volatility.labels(symbol, horizon.removesuffix("s"))
                gauge.set(forecast.volatility_bps)
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
            with suppress(LogError, KeyError):  # broker unavailable, or a partition just revoked
                self.measure_lag()

    def _assigned(self, partitions: Sequence[int]) -> None:
        generation = self._log.generation(TICKS)
        if self._layout.refresh():
            self._fit_predictions()
        starts, ends = self._log.start_offsets(TICKS), self._log.end_offsets(TICKS)
        for partition in partitions:
            part = Partition(FeatureEngine(self._rules), generation)
            needed, kept = 0, starts.get(partition, 0)
            last = self._last(partition)
            headers = dict(last[-1].headers) if last else {}
            if headers.get("generation", b"").decode() == generation:
                part.closed = int(headers["closed"])
                end, mark = ends.get(partition, 0), headers.get("mark", b"").decode()
                if part.closed >= end:
                    raise _rewritten(partition, part.closed, f"ends at offset {end}")
                if mark and part.closed >= kept:
                    found = message_at(self._log, TICKS, partition, part.closed)
                    if found and found.offset == part.closed and mark_of(found) != mark:
                        raise _rewritten(
                            partition, part.closed, "has another record at that offset"
                        )
                needed = int(headers["resume"])
                part.emitted = {
                    (p.symbol, p.time, p.model_version)
                    for p in (
                        _decoder.decode(m.value)
                        for m in last
                        if dict(m.headers).get("closed") == headers["closed"]
                    )
                }
            part.short = needed < kept
            if part.short:
                logger.warning(
                    "partition %d: offsets %d to %d, which the windows need, were deleted: holding "
                    "predictions for %d s, until the windows are as long as in the lake",
                    *(partition, needed, kept - 1, self._rules.memory_seconds),
                )
            self._partitions[partition] = part
            self._reader.seek(partition, max(needed, kept))
            logger.info("partition %d: warming up from offset %d", partition, max(needed, kept))

    def _require_read(self) -> None:
        """Raise if the log ends before what was read."""
        for partition, end in self._log.end_offsets(TICKS).items():
            if partition in self._reader.assignment() and self._reader.position(partition) > end:
                last = self._reader.position(partition) - 1
                raise _rewritten(partition, last, f"ends at offset {end}")

    def _revoked(self, partitions: Sequence[int]) -> None:
        # The successor reads the last prediction: flush ours before it does.
        self._writer.flush(FLUSH_SECONDS)
        for partition in partitions:
            self._partitions.pop(partition, None)

    def _last(self, partition: int) -> list[Message]:
        """Read the newest predictions of a partition of ticks.

        Its partition of predictions may have others: of a scorer that had not noticed added
        partitions yet, while its writer had.
        """
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
                    raise LogError(
                        "cannot read topic predictions; check that the broker is running"
                    )
            own = str(partition).encode()
            return [m for m in found if dict(m.headers).get("partition", own) == own]
        finally:
            reader.close()


def _rules(models: Sequence[Model]) -> Features:
    """Return the feature rules of the serving model."""
    return models[0].bundle.specification.features


def _rewritten(partition: int, last: int, what: str) -> RewrittenError:
    return RewrittenError(
        f"ticks partition {partition} was scored through offset {last}, but the log {what}: the "
        "broker has lost records that it had acknowledged; what to do is in docs/runbook.md, "
        "section LogRewritten"
    )
