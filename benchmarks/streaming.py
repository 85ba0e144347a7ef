"""Benchmark the streaming processes on a real broker against bare kafka-python.

Run ``python -m benchmarks.streaming`` (or ``make bench-streaming``). It starts a separate broker
on free ports of the loopback address, with its data in a temporary folder, prints a table, and
writes ``benchmarks/results/streaming.json`` and a profile of kafka-python,
``streaming_profile.txt``. Figures are wall time unless they say CPU time. Broker and processes
share the machine's cores.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
from kafka import KafkaAdminClient
from tqdm import tqdm

from benchmarks import results, streaming_latency, streaming_work
from benchmarks.results import Row, compare
from benchmarks.streaming_work import PARTITIONS, Market, Work
from volatility.dev import broker
from volatility.dev.broker import Broker
from volatility.lake import Lake
from volatility.streaming.log import PREDICTIONS, TICKS, KafkaLog

RESULTS = Path(__file__).parent / "results" / "streaming.json"
READ_HOURS, THROUGH_HOURS = 0.8, 2.5  # of market data: 216,000 records per hour
READ_ROUNDS, WRITE_ROUNDS, SCORE_ROUNDS, THROUGH_ROUNDS = 5, 5, 3, 3
WRITTEN_RECORDS, PROFILED_RECORDS = 30_000, 20_000
WARM_UP_SECONDS, LATENCY_SECONDS = 8.0, 40.0
CONSUMER, PRODUCER = "KafkaConsumer that does nothing", "KafkaProducer as it comes"
ONCE = "one record through the broker and back, kafka-python"
LAST_SECONDS = 2.0  # wait for the last prediction
TASK_SECONDS = 150.0  # maximum for any single task
READY_SECONDS = 60.0

Result = TypeVar("Result")


class Worker:
    """Run tasks one after the other in a separate process, which ends with the block."""

    def __init__(self) -> None:
        # Spawned, not forked, so that it inherits nothing from this process.
        self._pool = multiprocessing.get_context("spawn").Pool(1)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()
        self._pool.join()

    def start(self, task: Callable[..., Result], *arguments: object) -> Callable[[], Result]:
        """Start a task; return a function that waits for its result."""
        pending = self._pool.apply_async(task, arguments)
        return lambda: pending.get(TASK_SECONDS)

    def do(self, task: Callable[..., Result], *arguments: object) -> Result:
        """Run a task and wait for it."""
        return self.start(task, *arguments)()


@contextmanager
def running_broker(folder: Path) -> Iterator[str]:
    """Run a broker during the block and yield its address."""
    with ExitStack() as stack:  # both at once, so that they differ
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind((broker.HOST, 0))
        own = Broker(folder, *(one.getsockname()[1] for one in sockets))
    broker.start(own)
    try:
        yield own.servers
    finally:
        broker.kill(own)  # its data is discarded, so no graceful shutdown


def clear(servers: str, *topics: str) -> None:
    """Delete topics, so that the next round starts without them."""
    with closing(KafkaLog(servers)) as log:
        found = [topic for topic in topics if log.partitions(topic)]
        if not found:
            return
        admin = KafkaAdminClient(bootstrap_servers=servers)
        try:
            admin.delete_topics(found)
        finally:
            admin.close()
        while any(log.partitions(topic) for topic in found):
            time.sleep(0.05)


def create(servers: str, topic: str) -> None:
    """Create a topic like ingest does."""
    with closing(KafkaLog(servers)) as log:
        log.create(topic, PARTITIONS)


def measure_readers(servers: str, worker: Worker, market: Market) -> list[Row]:
    """Compare capture with consumers that discard what they read."""
    taken = worker.do(streaming_work.compare_readers, servers, market.records, READ_ROUNDS)
    speed = {name: market.records / seconds.wall for name, seconds in taken.items()}
    name = f"capture, {market.records:,} records into Parquet, median of {READ_ROUNDS}"
    return [
        compare(name, "records/s", speed["capture"], better="higher", target_ratio=0.7,
                peer=speed["consumer"], peer_name=CONSUMER),
        compare(f"{name} (CPU time)", "s", taken["capture"].cpu, peer=taken["consumer"].cpu,
                peer_name=CONSUMER),
        compare("reading alone, EventLog's reader", "records/s", speed["reader"], better="higher",
                peer=speed["consumer"], peer_name=CONSUMER),
    ]  # fmt: skip


def measure_score(servers: str, worker: Worker, market: Market) -> list[Row]:
    """Measure scoring of an already full topic in one process."""
    consumed = worker.do(streaming_work.consume_alone, servers, market.records, SCORE_ROUNDS)
    done: list[Work] = []
    for _ in range(1 + SCORE_ROUNDS):  # the first is a warm-up
        clear(servers, PREDICTIONS)  # otherwise it would resume where it stopped
        done.append(worker.do(streaming_work.score, servers))
    name = f"score, one process, {done[-1].count:,} predictions, median of {SCORE_ROUNDS}"
    ticks = [market.ticks / work.wall for work in done[1:]]
    return [
        compare(name, "ticks/s", median(ticks), better="higher", target_ratio=0.2,
                peer=market.ticks / consumed.wall, peer_name=CONSUMER),
        compare(f"{name} (CPU time)", "s", median(work.cpu for work in done[1:])),
    ]  # fmt: skip


def measure_through(
    servers: str, folder: Path, reader: Worker, writer: Worker, market: Market
) -> list[Row]:
    """Measure simultaneous ingest and capture: from the first append to the last tick on disk."""
    alone = writer.do(streaming_work.compare_writers, servers, WRITTEN_RECORDS, 1)
    produced = WRITTEN_RECORDS / alone["producer"].wall
    speeds, ingested, pairs = [], [], []
    for turn in range(THROUGH_ROUNDS):
        clear(servers, TICKS)
        create(servers, TICKS)
        lake = folder / f"through-{turn}"
        following = reader.start(streaming_work.follow, servers, str(lake), market.records)
        filled = writer.do(streaming_work.fill, servers, str(lake), market.hours)
        captured = following()
        kept = sum(Lake(lake).rows(symbol) for symbol in Lake(lake).symbols())
        if not filled.count == captured.count == kept == market.records:
            raise RuntimeError(f"of {market.records} records {kept} are in the lake")
        speeds.append(market.ticks / (captured.ended - filled.began))
        ingested.append(market.ticks / filled.wall)
        pairs.append((filled.cpu, captured.cpu))
    name = f"ingest to lake, {market.ticks:,} ticks, median of {THROUGH_ROUNDS}"
    return [
        compare(name, "ticks/s", median(speeds), better="higher", target_ratio=1.0,
                peer=produced, peer_name=PRODUCER),
        compare("ingest meanwhile, to the last acknowledgement", "ticks/s", median(ingested)),
        compare("ingest meanwhile (CPU time)", "s", median(cpu for cpu, _ in pairs)),
        compare("capture meanwhile (CPU time)", "s", median(cpu for _, cpu in pairs)),
    ]  # fmt: skip


def measure_writers(servers: str, worker: Worker) -> list[Row]:
    """Compare the log's writer with bare producers."""
    taken = worker.do(streaming_work.compare_writers, servers, WRITTEN_RECORDS, WRITE_ROUNDS)
    name = f"append, {WRITTEN_RECORDS:,} records, median of {WRITE_ROUNDS}"
    peers = (
        ("producer", PRODUCER),
        ("tuned", "KafkaProducer, zstd, batches of 512 KiB"),
    )
    rows = [
        compare(
            name, "records/s", WRITTEN_RECORDS / taken["writer"].wall, better="higher",
            peer=WRITTEN_RECORDS / taken[key].wall, peer_name=peer,
        )
        for key, peer in peers
    ]  # fmt: skip
    return rows + [
        compare(f"{name} (CPU time)", "s", taken["writer"].cpu, peer=taken[key].cpu, peer_name=peer)
        for key, peer in peers
    ]


def measure_latency(servers: str, folder: Path, reader: Worker, writer: Worker) -> list[Row]:
    """Measure the time from appending a tick to a readable prediction by `volatility score`."""
    clear(servers, TICKS, PREDICTIONS)
    create(servers, TICKS)
    with scoring(servers, folder / "score.txt"):
        stop = folder / "stop"
        receiving = reader.start(streaming_latency.receive, servers, str(stop))
        sent = writer.do(streaming_latency.send, servers, WARM_UP_SECONDS + LATENCY_SECONDS)
        time.sleep(LAST_SECONDS)
        stop.touch()
        came = receiving()
    since_ns = sent.start_ns + int(WARM_UP_SECONDS * 1e9)
    taken = streaming_latency.latencies_ms(sent.closing, came, since_ns)
    once = writer.do(streaming_latency.through_broker, servers, len(taken))
    name = f"tick appended to prediction readable, {len(taken)} predictions"
    return [
        compare(f"{name}, median", "ms", median(taken), target_ratio=0.1, peer=median(once),
                peer_name=ONCE),
        compare(f"{name}, p99", "ms", float(np.quantile(taken, 0.99)), target_ratio=0.1,
                peer=float(np.quantile(once, 0.99)), peer_name=ONCE),
        compare(f"{name}, greatest", "ms", max(taken)),
        compare("meanwhile sent, over 10 symbols", "ticks/s", sent.per_second),
        compare("sender behind its schedule, p99", "ms",
                float(np.quantile(sent.late_ns, 0.99)) / 1e6),
    ]  # fmt: skip


@contextmanager
def scoring(servers: str, output: Path) -> Iterator[None]:
    """Run the command `volatility score --follow` during the block, ready to score."""
    command = [str(Path(sys.executable).with_name("volatility")), "score", "--follow"]
    with (
        output.open("wb") as file,
        closing(KafkaLog(servers)) as log,
        subprocess.Popen(command, cwd=output.parent, stdout=file, stderr=file) as process,
    ):
        try:
            deadline = time.monotonic() + READY_SECONDS
            while b"warming up" not in output.read_bytes() or not log.partitions(PREDICTIONS):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"score did not start: {output.read_text()[-500:]}")
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


def machine() -> Row:
    """Describe the machine and its load."""
    model = platform.processor() or platform.machine()
    description = Path("/proc/cpuinfo")
    if description.exists():
        names = [s for s in description.read_text().splitlines() if s.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    text = (
        f"machine: {os.cpu_count()} cores, {model}, {platform.system()}, "
        f"Python {platform.python_version()}, "
        f"kafka-python {version('kafka-python')}, crc32c {version('crc32c')}; "
        "load before the start"
    )
    return compare(text, "processes", max(os.getloadavg()[0], 0.01))


def measure(folder: Path, servers: str, profile: Path) -> list[Row]:
    """Run all benchmarks; ``folder`` is temporary."""
    rows = [machine()]
    progress = tqdm(total=7, unit=" stage", disable=None)
    with progress, Worker() as reader, Worker() as writer, Worker() as scorer:

        def stage(name: str) -> None:
            progress.set_description(name)
            progress.update()

        stage("model")
        with Worker() as trainer:
            trainer.do(streaming_work.make_champion, str(folder / "model"))
        market, longer = (
            writer.do(streaming_work.count_market, hours) for hours in (READ_HOURS, THROUGH_HOURS)
        )
        writer.do(streaming_work.fill, servers, str(folder / "filled"), market.hours)
        stage("capture")
        rows += measure_readers(servers, reader, market)
        stage("score")
        rows += measure_score(servers, scorer, market)
        stage("writers")
        rows += measure_writers(servers, writer)
        stage("profile")
        text = writer.do(streaming_work.profile_peer, servers, market.records, PROFILED_RECORDS)
        profile.parent.mkdir(parents=True, exist_ok=True)
        profile.write_text(text)
        stage("ingest to lake")
        rows += measure_through(servers, folder, reader, writer, longer)
        stage("latency")
        rows += measure_latency(servers, folder, reader, writer)
    return rows


def main() -> None:
    """Run all benchmarks, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON (%(default)s)")
    options = parser.parse_args()
    output: Path = options.output
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it logs every refused connection
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # stop the broker too
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="volatility-bench-") as name:
        folder = Path(name)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
        with running_broker(folder / "kafka") as servers:
            os.environ["KAFKA_BOOTSTRAP_SERVERS"] = servers
            rows = measure(folder, servers, output.with_name(f"{output.stem}_profile.txt"))
    results.write(rows, output)
    promised = [row for row in rows if row.met is not None]
    print(results.table(rows))
    print(f"{len(promised) - len(results.missed(rows))} of {len(promised)} targets met, "
          f"{time.monotonic() - began:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
