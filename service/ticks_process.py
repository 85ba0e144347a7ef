"""Build feature rows from many ticks in a separate process: ``python -m service.ticks_process``.

Decoding 60 MB of JSON occupies the interpreter for up to 0.6 s without a pause, and turning 200,000
ticks into records for a second or more; in the worker, every other request would wait for it. The
process has a lower priority, and ends with the worker, which starts it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import weakref
from typing import IO

import msgspec
import numpy as np

from service import ticks
from service.wire import RequestError
from volatility import memory
from volatility.features import FEATURE_NAMES
from volatility.settings import Features
from volatility.units import Floats, Integers

NICE = 10
LENGTH_BYTES = 8  # of the number that precedes each message
ENDED = (503, "ticks_process", "the process for long requests ended; try again")


class Work(msgspec.Struct, frozen=True):
    """Represent how to build rows from the body that follows."""

    features: Features
    max_rows: int


class Built(msgspec.Struct, frozen=True, tag=True):
    """Represent rows: the bytes of int64[n] steps [ns] and float64[n, features] rows."""

    symbol: str
    steps: bytes
    rows: bytes


class Refused(msgspec.Struct, frozen=True, tag=True):
    """Represent a ``RequestError``."""

    status: int
    reason: str
    message: str
    row: int | None
    field: str | None


_answers = msgspec.msgpack.Decoder(Built | Refused)


class TicksProcess:
    """Represent the process of one worker; it takes one request at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process if it does not run."""
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "service.ticks_process"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            weakref.finalize(self, _end, self._process)
        return self._process

    def rows(
        self, body: list[bytes], features: Features, max_rows: int
    ) -> tuple[str, Integers, Floats]:
        """Do what ``ticks.rows`` does.

        Raises
        ------
        RequestError
            As ``ticks.rows`` does; 503 if the process ends.
        """
        with self._lock:
            process = self.start()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                _write(process.stdin, [msgspec.msgpack.encode(Work(features, max_rows))])
                _write(process.stdin, body)
                answer = _answers.decode(_read(process.stdout))
            except (OSError, EOFError) as error:
                _end(process)
                raise RequestError(*ENDED) from error
        if isinstance(answer, Refused):
            raise RequestError(
                answer.status, answer.reason, answer.message, answer.row, answer.field
            )
        rows = np.frombuffer(answer.rows).reshape(-1, len(FEATURE_NAMES))
        return answer.symbol, np.frombuffer(answer.steps, np.int64), rows


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()  # waits, and closes the pipes


def main() -> None:
    """Answer until the worker closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it too; the worker decides
    os.nice(NICE)
    memory.bound()
    ticks.warm_up()
    while True:
        try:
            work = msgspec.msgpack.decode(_read(sys.stdin.buffer), type=Work)
            answer = _answer(work, _read(sys.stdin.buffer))
        except EOFError:
            return
        _write(sys.stdout.buffer, [msgspec.msgpack.encode(answer)])


def _answer(work: Work, body: bytes) -> Built | Refused:
    try:
        symbol, steps, rows = ticks.rows([body], work.features, work.max_rows)
    except RequestError as error:
        return Refused(error.status, error.reason, str(error), error.row, error.field)
    return Built(symbol, steps.tobytes(), rows.tobytes())


def _write(pipe: IO[bytes], parts: list[bytes]) -> None:
    pipe.write(sum(map(len, parts)).to_bytes(LENGTH_BYTES, "big"))
    pipe.writelines(parts)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes:
    length = int.from_bytes(_exactly(pipe, LENGTH_BYTES), "big")
    return _exactly(pipe, length)


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    content = pipe.read(count)
    if len(content) < count:
        raise EOFError
    return content


if __name__ == "__main__":
    main()
