"""Read the stream of predictions in a thread, and hand them to the event loop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from volatility.streaming.log import PREDICTIONS, EventLog, LogError, Message, Reader

logger = logging.getLogger("bentoml.volatility")

TAIL_RECORDS = 20_000  # of all partitions, read at the start: serving model and challenger
POLL_RECORDS, POLL_SECONDS = 5_000, 0.2
RETRY_SECONDS = 2.0

Begin = Callable[[str, dict[int, int]], None]
Take = Callable[[list[Message]], None]
Problem = Callable[[str], None]


class Follow:
    """Follow topic ``predictions`` for as long as the process runs, whatever happens to the log.

    Parameters
    ----------
    connect : callable
        Opens the log; raises LogError if that fails.
    begin, take, problem : callable
        Called in the thread: with generation and first offsets; with records in order; with why
        nothing can be read, or with an empty text as soon as everything before has been read.

    Attributes
    ----------
    log : EventLog, optional
        The log, unless it has not answered, or not the last time: asking it takes seconds then.
    """

    def __init__(
        self, connect: Callable[[], EventLog], begin: Begin, take: Take, problem: Problem
    ) -> None:
        self._connect, self._begin, self._take, self._problem = connect, begin, take, problem
        self._stopping = threading.Event()
        self._reported = ""
        self.log: EventLog | None = None
        self._opened: EventLog | None = None

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="forecasts", daemon=True).start()

    def stop(self) -> None:
        """End the thread soon."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._opened = self._opened or self._connect()
                self._read(self._opened)
            except LogError as error:
                self.log = None
                self._report(str(error))
            except Exception as error:
                self.log = None
                logger.exception("cannot follow the stream of predictions; trying again")
                self._report(f"{type(error).__name__}: {error}")
            self._stopping.wait(RETRY_SECONDS)

    def _read(self, log: EventLog) -> None:
        partitions = log.partitions(PREDICTIONS)
        self.log = log
        if not partitions:
            self._report("there are no predictions yet: start `volatility score --follow`")
            return
        generation = log.generation(PREDICTIONS)
        kept, ends = log.start_offsets(PREDICTIONS), log.end_offsets(PREDICTIONS)
        each = TAIL_RECORDS // len(partitions)
        starts = {p: max(kept[p], ends[p] - each) for p in partitions}
        reader = log.reader(PREDICTIONS, dict(starts))
        try:
            self._begin(generation, starts)
            while any(reader.position(p) < ends[p] for p in partitions):
                if self._stopping.is_set():
                    return
                self._take(reader.poll(POLL_RECORDS, POLL_SECONDS))
            self._report("")
            self._follow(log, reader, generation)
        finally:
            reader.close()

    def _follow(self, log: EventLog, reader: Reader, generation: str) -> None:
        """Read until the topic changes."""
        checked = time.monotonic()
        while not self._stopping.is_set():
            found = reader.poll(POLL_RECORDS, POLL_SECONDS)
            if found:
                self._take(found)
            if reader.partition_count() > len(reader.assignment()):
                return
            if time.monotonic() - checked > RETRY_SECONDS:
                checked = time.monotonic()
                if log.generation(PREDICTIONS) != generation:
                    return

    def _report(self, problem: str) -> None:
        if problem != self._reported:
            if problem:
                logger.warning("no stream of predictions: %s", problem)
            self._reported = problem
        self._problem(problem)
