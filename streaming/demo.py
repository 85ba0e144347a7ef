"""Run the whole chain through a real Kafka broker: ``make demo KAFKA=1``.

Ticks go into Kafka, from there into a lake, through training into the registry; then the same
log is scored, and what came of it is held against the batch path, bit for bit. The broker, its
log and the lake are the demo's own: they are emptied at each run and touch nobody else's.
"""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from streaming import broker, ingest, sources
from streaming.broker import Broker
from streaming.capture import capture_topic
from streaming.events import Event
from streaming.kafka_log import KafkaLog
from streaming.log import PREDICTIONS, TICKS, EventLog
from streaming.models import Models
from streaming.score import WARM, Scorer
from volatility import cli, demo, stages
from volatility.bundle import Bundle, Floats
from volatility.features import read_features
from volatility.kernel_state import SECOND
from volatility.lake import Lake
from volatility.prediction import PREDICTION_SCHEMA
from volatility.settings import Settings, environment

FOLDER = Path("data/demo-kafka")  # the demo's own: it is emptied at each run
PARTITIONS = 4


class DemoError(Exception):
    """What went through Kafka is not what went in."""


def run(settings: Settings, *, ticks: Path | None, serve: bool) -> None:
    """Run every stage on ticks that went through Kafka; then serve and ask once.

    Parameters
    ----------
    settings : Settings
    ticks : Path, optional
        A lake or recordings; the simulator of the settings where absent.
    serve : bool

    Raises
    ------
    DemoError
        When a tick was lost or doubled, or the stream's scores are not the batch path's.
    """
    paths = stages.Paths(
        ticks=FOLDER / "ticks", features=FOLDER / "features", model=FOLDER / "model"
    )
    with fresh_broker() as servers, closing(KafkaLog(servers)) as log:
        click.echo(f"kafka      {servers}, log in {FOLDER / 'kafka'}")
        records = _bring(log, settings, paths, ticks)
        demo.from_lake(settings, paths)
        summary = _score(log, settings, paths, records)
    click.echo(f"summary    {records:,} records in the log = in the lake, each once\n{summary}")
    if serve:
        demo.serve_and_ask()


@contextmanager
def fresh_broker() -> Iterator[str]:
    """Start a broker with an empty log on free ports, give its address; it ends with the block."""
    broker.stop(Broker(FOLDER / "kafka"))  # a demo that was killed has left it
    if FOLDER.exists():
        shutil.rmtree(FOLDER)
    with socket.socket() as one, socket.socket() as other:
        for listener in (one, other):
            listener.bind((broker.HOST, 0))
        ports = one.getsockname()[1], other.getsockname()[1]
    own = Broker(FOLDER / "kafka", *ports)
    try:
        broker.start(own)
        yield own.servers
    finally:
        broker.stop(own)


def _bring(log: EventLog, settings: Settings, paths: stages.Paths, ticks: Path | None) -> int:
    """Bring the ticks into Kafka and from there into the lake; count them."""
    statistics = sources.SourceStatistics()
    if ticks is None:
        options = settings.simulate
        start = datetime.fromisoformat(options.start).replace(tzinfo=UTC)
        start_ns = int(start.timestamp()) * SECOND
        source = sources.simulated(
            options.symbols,
            options.seed,
            math.inf,
            start_ns,
            options.hours,
            statistics=statistics,
        )
    else:
        source = sources.replay(ticks, speed=math.inf, statistics=statistics)
    lake = Lake(paths.ticks)  # ingest enters gaps there: they do not go through Kafka
    began = time.monotonic()
    with tqdm(unit=" records", desc="ingest", disable=None) as bar:
        ingest.run(log, _told(source, bar), lake, partitions=PARTITIONS, patient=True)
    sent = statistics.ticks + statistics.heartbeats
    click.echo(f"ingest     {sent:,} records, {_rate(sent, began)} a second")
    began = time.monotonic()
    capture_topic(log, TICKS, paths.ticks)
    rows = hold_against_log(log, lake, sent)
    speed = _rate(rows, began)
    click.echo(f"capture    {rows:,} records of {', '.join(lake.symbols())}, {speed} a second")
    return rows


def hold_against_log(log: EventLog, lake: Lake, sent: int) -> int:
    """Compare what was sent, what is in the log and what is in the lake; count the records.

    Raises
    ------
    DemoError
        When one was lost or doubled.
    """
    kept = sum(log.end_offsets(TICKS).values())
    places = [
        (batch.column("partition").to_numpy().astype(np.int64) << 48)
        + batch.column("offset").to_numpy()
        for symbol in lake.symbols()
        for batch in lake.scan(symbol, ["partition", "offset"])
    ]
    rows = sum(lake.rows(symbol) for symbol in lake.symbols())
    distinct = len(np.unique(np.concatenate(places)))
    if not sent == kept == rows == distinct:
        raise DemoError(
            f"{sent:,} records were sent, {kept:,} are in the log and {rows:,} in the lake, "
            f"{distinct:,} of them distinct"
        )
    return rows


async def _told(events: AsyncIterator[list[Event]], bar: Any) -> AsyncIterator[list[Event]]:
    """Pass events on, and tell the bar."""
    async for batch in events:
        bar.update(len(batch))
        yield batch


def _rate(count: int, began: float) -> str:
    return f"{count / (time.monotonic() - began):,.0f}"


def _score(log: EventLog, settings: Settings, paths: stages.Paths, records: int) -> str:
    """Score the log, capture the predictions, hold both against the batch path; say what held."""
    models = WatchedModels(environment().model_variant)
    began = time.monotonic()
    scorer = Scorer(log, models, settings.features, group=None)
    try:
        made = scorer.run(follow=False)
    finally:
        scorer.close()
    using = " and ".join(
        f"{model.name} version {model.version} ({model.bundle.variant})"
        for model in models.current()
    )
    speed = _rate(records, began)
    click.echo(f"score      {made:,} predictions by {using}, {speed} records a second")
    began = time.monotonic()
    lake = Lake(FOLDER / "predictions", PREDICTION_SCHEMA)
    written = capture_topic(log, PREDICTIONS, lake.root)
    click.echo(f"capture    {written:,} predictions, {_rate(written, began)} a second")
    rows = hold_against_batch(models, paths, lake, written)
    return (
        f"           {written:,} predictions written, {speed} records scored a second\n"
        f"           {rows:,} feature rows of the stream and their scores = batch, bit for bit"
    )


def hold_against_batch(models: WatchedModels, paths: stages.Paths, lake: Lake, written: int) -> int:
    """Compare every feature row that was scored, and every score, bit for bit; count the rows.

    Raises
    ------
    DemoError
        When they differ, or a prediction is missing or doubled.
    """
    live, batch, expected = models.seen.copy(), Counter[bytes](), 0
    for frame in read_features(paths.features):
        warm = ~np.isnan(frame.rows[:, WARM])
        times, rows = frame.time[warm], frame.rows[warm]
        batch += _digests(rows)
        for model in models.current() if len(rows) else ():
            expected += len(rows)
            columns = ["time", "score", "model_version"]
            told = pa.Table.from_batches(lake.scan(frame.symbol, columns))
            told = told.filter(pc.equal(told.column("model_version"), model.version))
            same = np.array_equal(told.column("time").cast(pa.int64()).to_numpy(), times)
            if not same or (told.column("score").to_numpy() != model.bundle.score(rows)).any():
                raise DemoError(
                    f"{frame.symbol}: the predictions of version {model.version} in {lake.root} "
                    f"are not those of the rows in {paths.features}"
                )
    if live != batch or written != expected:
        raise DemoError(
            f"the stream scored {live.total():,} feature rows and wrote {written:,} predictions; "
            f"the batch path has {batch.total():,} and {expected:,}, and not all are the same"
        )
    return live.total()


@dataclass(frozen=True)
class _Watched(Bundle):
    """Score, and note which rows."""

    seen: Counter[bytes] = field(default_factory=Counter)

    def score(self, rows: Floats) -> Floats:
        self.seen.update(_digests(rows))
        return super().score(rows)


class WatchedModels(Models):
    """Hold the models of the registry; the one that serves notes what it is given."""

    def __init__(self, variant: str) -> None:
        super().__init__(variant)
        self.seen: Counter[bytes] = Counter()
        first, *others = self._current
        whole = first.bundle
        watched = _Watched(whole.specification, whole.trees, whole.variant, self.seen)
        self._current = (replace(first, bundle=watched), *others)


def _digests(rows: Floats) -> Counter[bytes]:
    """Count the rows by a digest of their bits: half a million of them need not be kept."""
    whole = np.ascontiguousarray(rows)
    return Counter(hashlib.blake2b(row, digest_size=8).digest() for row in whole)


@click.command("demo")
@click.option("--ticks", type=click.Path(exists=True, path_type=Path))
@click.option("--serve/--no-serve", default=True)
@click.pass_obj
def command(settings: Settings, ticks: Path | None, serve: bool) -> None:
    """Run the whole chain through a Kafka broker of its own."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it tells of every refused connection
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # under nohup it is not
            signal.signal(number, signal.default_int_handler)  # else the broker would live on
    run(settings, ticks=ticks, serve=serve)


if __name__ == "__main__":
    # Run as `volatility` would: with its settings, and every error in one line.
    cli.main.add_command(command)
    cli.main(["demo", *sys.argv[1:]], prog_name="python -m streaming.demo")
