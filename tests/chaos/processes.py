"""Run the streaming processes as processes, so that they can be killed: forked, for speed.

Importing takes a process two seconds, and a scenario kills hundreds. So one server process
imports everything once and forks a child for each that is asked for.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from functools import cache, partial
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import volatility.streaming.capture
import volatility.streaming.ingest
import volatility.streaming.log.kafka_reader
import volatility.streaming.score
import volatility.streaming.sources.websocket
from tests.chaos import market
from tests.chaos.checks import bundle
from tests.waiting import PATIENCE_SECONDS
from volatility.cli.main import main
from volatility.cli.streaming import stopping
from volatility.features.engine import FeatureEngine
from volatility.lake import parts
from volatility.lake.lake import Lake
from volatility.records.tick import Heartbeat
from volatility.streaming.ingest import last_records
from volatility.streaming.log.interface import TICKS
from volatility.streaming.log.kafka_log import KafkaLog
from volatility.streaming.score import Scorer
from volatility.streaming.sources.events import Event, Gap
from volatility.units import SECOND

ROOT = Path(__file__).parents[2]


# What runs in a child.


def load(
    servers: str,
    lake: str,
    seed: int,
    per_second: float,
    start_ns: int | None,
    symbols: tuple[str, ...] = market.SYMBOLS,
) -> None:
    """Ingest an endless market that begins at a time, or goes on where the log ends."""
    with closing(KafkaLog(servers)) as log:
        if start_ns is None:
            times = [one.time for one in last_records(log) if one.symbol in symbols]
            start_ns = max(times, default=market.START_NS) + SECOND
        source = market.events(market.records(seed, symbols, start_ns), per_second)
        volatility.streaming.ingest.run(
            log, source, Lake(lake), partitions=market.PARTITIONS, stopped=stopping()
        )


def gaps(servers: str, lake: str, per_second: float) -> None:
    """Ingest an endless market, and a numbered gap with every hundredth batch."""

    async def source() -> AsyncIterator[list[Event]]:
        number = 0
        records = market.events(market.records(0), per_second)
        async for batch in records:
            yield batch
            number += 1
            if number % 100 == 0:
                detail = {"number": number // 100 - 1}
                yield [Gap(market.SYMBOLS[0], market.START_NS, market.START_NS, "test", detail)]

    with closing(KafkaLog(servers)) as log:
        volatility.streaming.ingest.run(
            log, source(), Lake(lake), partitions=market.PARTITIONS, stopped=stopping()
        )


def capture(
    servers: str,
    lake: str,
    rows: int,
    seconds: float,
    group: str | None,
    topic: str = TICKS,
    port: int = 0,
) -> None:
    """Capture a topic with a small rotation, until stopped."""
    options = ["--topic", topic, "--lake", lake, "--rows", str(rows), "--seconds", str(seconds)]
    options += ["--follow", "--metrics-port", str(port)]
    command(servers, "capture", *options, *(["--group", group] if group else []))


def score(servers: str, registered: str, port: int = 0) -> None:
    """Score as a member of the group, until stopped; with the champion of a registry."""
    os.environ["MLFLOW_TRACKING_URI"] = registered
    command(servers, "score", "--follow", "--metrics-port", str(port))


def command(servers: str, *arguments: str) -> None:
    """Run the ``volatility`` command."""
    os.environ["KAFKA_BOOTSTRAP_SERVERS"] = servers
    sys.argv = ["volatility", *arguments]
    main()


# What a child may be told to do before.


def die_at(point: str, hit: int) -> None:
    """Kill this process at the given time that it comes to a point of writing a part."""
    owner, name, after = {
        "open": (parts._Open, "__init__", True),
        "write": (parts._Open, "close", False),
        "written": (parts._Open, "close", True),
        "rename": (parts._Open, "publish", False),
        "renamed": (parts._Open, "publish", True),
        "published": (parts.Stage, "_publish", True),
    }[point]
    original, hits = getattr(owner, name), iter(range(1, 1_000_000))

    def dying(*arguments: Any) -> Any:
        now = next(hits) == hit
        if now and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, dying)


POINTS = ("open", "write", "written", "rename", "renamed", "published")


def haste() -> None:
    """Compress the times in which the processes wait for each other and for the exchange."""
    volatility.streaming.log.kafka_reader.SESSION_MS = 2_000
    volatility.streaming.log.kafka_reader.HEARTBEAT_MS = 200
    volatility.streaming.capture.RETRY_SECONDS = 0.2
    volatility.streaming.sources.websocket.Timing = partial(  # type: ignore[assignment, misc]  # its defaults, that is
        volatility.streaming.sources.websocket.Timing,
        first_seconds=0.01,
        cap_seconds=0.2,
        healthy_seconds=0.1,
        silence_seconds=0.7,
        close_seconds=0.2,
    )


def hold(gate: str, after: int) -> None:
    """Slow score down to a near standstill after some predictions, until a file exists.

    It goes on to poll: a member of a group that does not would be taken for dead.
    """
    step, made = Scorer.step, [0]

    def held(scorer: Scorer) -> int:
        waits = made[0] >= after and not Path(gate).exists()
        volatility.streaming.score.POLL_RECORDS = 1 if waits else 500
        time.sleep(0.02 if waits else 0.0)
        count = step(scorer)
        made[0] += count
        return count

    Scorer.step = held  # type: ignore[assignment, method-assign]  # for this process alone


def small_files(limit: int) -> None:
    """Limit the size of every file that this process writes, as a full disk would."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def _child(output: str, before: tuple[partial[None], ...], run: partial[None]) -> None:
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", force=True)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    for act in before:
        act()
    run()


# What starts and ends children.


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    # The server reads its path from the environment alone.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    return context


class Child:
    """Represent a child process and its output: start it, kill it, or ask it to end."""

    def __init__(self, output: Path, run: partial[None], *before: partial[None]) -> None:
        self.output = output
        arguments = (str(output), (partial(haste), *before), run)
        self.process: BaseProcess = _context().Process(target=_child, args=arguments, daemon=True)
        self.process.start()

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.process.kill()
        self.process.join()

    def stop(self) -> None:
        """Ask it to end (SIGTERM); it must do so, and well."""
        self.process.terminate()
        self.wait()

    def wait(self) -> None:
        self.process.join(PATIENCE_SECONDS)
        assert self.process.exitcode == 0, f"{self.process.exitcode}: {self.said()[-2000:]}"

    def fail(self) -> str:
        """Wait until it has ended by itself, with an error; return its last words."""
        self.process.join(PATIENCE_SECONDS)
        assert self.process.exitcode == 1, f"{self.process.exitcode}: {self.said()[-2000:]}"
        return self.said()[-2_000:]

    def pause(self) -> None:
        """Stop it amid whatever it does, as a machine does that is suspended."""
        os.kill(self.process.pid or 0, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid or 0, signal.SIGCONT)

    def said(self) -> str:
        return self.output.read_text() if self.output.exists() else ""


@contextmanager
def running(output: Path, run: partial[None], *before: partial[None]) -> Iterator[Child]:
    """Run a child during a block."""
    child = Child(output, run, *before)
    try:
        yield child
    finally:
        if child.process.is_alive():
            child.kill()


FeatureEngine().update(Heartbeat("WARM-UP", market.START_NS))  # compiled before the first fork
bundle(0)
