"""Run the full pipeline through a real Kafka broker: ``make demo KAFKA=1``.

Ticks go into Kafka, from there into a lake, and through training into the registry. Then the same
log is scored, and the results are compared with the batch path, bit for bit. The broker, its
log and the lake are used only by the demo, and are emptied on each run.
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
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from volatility import stages
from volatility.cli import demo
from volatility.cli import main as cli
from volatility.dev import broker
from volatility.dev.broker import Broker
from volatility.features import is_warm, read_features
from volatility.lake import Lake
from volatility.models import Bundle, Forecasts
from volatility.records import PREDICTION_SCHEMA, volatility_of
from volatility.settings import Settings
from volatility.streaming import Models, Scorer, capture_topic, ingest, sources
from volatility.streaming.log import PREDICTIONS, TICKS, EventLog, KafkaLog
from volatility.streaming.sources import Event
from volatility.units import Floats, Integers, parse_iso

FOLDER = Path("data/demo-kafka")  # used only by the demo, and emptied on each run
PARTITIONS = 4


class DemoError(Exception):
    """The results through Kafka differ from the input or from the batch path."""


def run(settings: Settings, *, ticks: Path | None, serve: bool) -> None:
    """Run every stage on ticks that went through Kafka; then serve and send one request.

    Parameters
    ----------
    settings : Settings
    ticks : Path, optional
        A lake or recordings; by default the simulated market of the settings.
    serve : bool

    Raises
    ------
    DemoError
        When a tick was lost or duplicated, or the stream's scores differ from the batch path's.
    """
    paths = stages.Paths(
        ticks=FOLDER / "ticks", features=FOLDER / "features", model=FOLDER / "model"
    )
    with fresh_broker() as servers, closing(KafkaLog(servers)) as log:
        click.echo(f"kafka      {servers}, log in {FOLDER / 'kafka'}")
        records = _ingest(log, settings, paths, ticks)
        stages.run_chain(settings, paths, click.echo)
        summary = _score(log, paths, records)
    click.echo(f"summary    {records:,} records in the log and in the lake, each once\n{summary}")
    if serve:
        demo.serve_and_ask(demo.bentoml_serve())


@contextmanager
def fresh_broker() -> Iterator[str]:
    """Run a broker with an empty log on free ports for the duration of the block."""
    broker.stop(Broker(FOLDER / "kafka"))  # possibly left by a killed demo
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


def _ingest(log: EventLog, settings: Settings, paths: stages.Paths, ticks: Path | None) -> int:
    """Write the ticks to Kafka and from there to the lake; return their number."""
    statistics = sources.SourceStatistics()
    if ticks is None:
        options = settings.simulate
        source = sources.simulated(
            options.symbols,
            options.seed,
            math.inf,
            parse_iso(options.start),
            options.hours,
            statistics=statistics,
        )
    else:
        source = sources.replay(ticks, speed=math.inf, statistics=statistics)
    lake = Lake(paths.ticks)  # ingest records gaps there: they do not go through Kafka
    began = time.monotonic()
    with tqdm(unit=" records", desc="ingest", disable=None) as bar:
        ingest.run(log, _with_progress(source, bar), lake, partitions=PARTITIONS, patient=True)
    sent = statistics.ticks + statistics.heartbeats
    click.echo(f"ingest     {sent:,} records, {_rate(sent, began)} per second")
    began = time.monotonic()
    capture_topic(log, TICKS, paths.ticks)
    rows = compare_with_log(log, lake, sent)
    speed = _rate(rows, began)
    click.echo(f"capture    {rows:,} records of {', '.join(lake.symbols())}, {speed} per second")
    return rows


def compare_with_log(log: EventLog, lake: Lake, sent: int) -> int:
    """Compare what was sent with the log and the lake; return the number of records.

    Raises
    ------
    DemoError
        When one was lost or duplicated.
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


async def _with_progress(
    events: AsyncIterator[list[Event]], bar: Any
) -> AsyncIterator[list[Event]]:
    """Pass events on and advance the progress bar."""
    async for batch in events:
        bar.update(len(batch))
        yield batch


def _rate(count: int, began: float) -> str:
    return f"{count / (time.monotonic() - began):,.0f}"


def _score(log: EventLog, paths: stages.Paths, records: int) -> str:
    """Score the log, capture the predictions, compare both with the batch path; summarise."""
    models = WatchedModels()
    began = time.monotonic()
    scorer = Scorer(log, models, group=None)
    try:
        made = scorer.run(follow=False)
    finally:
        scorer.close()
    using = " and ".join(
        f"{model.name} version {model.version} ({model.bundle.variant})"
        for model in models.current()
    )
    speed = _rate(records, began)
    click.echo(f"score      {made:,} predictions by {using}, {speed} records per second")
    began = time.monotonic()
    lake = Lake(FOLDER / "predictions", PREDICTION_SCHEMA)
    written = capture_topic(log, PREDICTIONS, lake.root)
    click.echo(f"capture    {written:,} predictions, {_rate(written, began)} per second")
    rows = compare_with_batch(models, paths, lake, written)
    return (
        f"           {written:,} predictions written, {speed} records scored per second\n"
        f"           {rows:,} streamed feature rows and scores equal the batch path, bit for bit"
    )


def compare_with_batch(models: WatchedModels, paths: stages.Paths, lake: Lake, written: int) -> int:
    """Compare every scored feature row and every forecast, bit for bit; return the number of rows.

    Raises
    ------
    DemoError
        When they differ, or a prediction is missing or duplicated.
    """
    live, batch, expected = models.seen.copy(), Counter[bytes](), 0
    for frame in read_features(paths.features):
        warm = is_warm(frame.rows)
        times, rows = frame.time[warm], frame.rows[warm]
        batch += _digests(rows)
        for model in models.current() if len(rows) else ():
            expected += len(rows)
            columns = ["time", "score", "forecasts", "model_version"]
            captured = pa.Table.from_batches(lake.scan(frame.symbol, columns))
            captured = captured.filter(pc.equal(captured.column("model_version"), model.version))
            same = np.array_equal(captured.column("time").cast(pa.int64()).to_numpy(), times)
            if not same or not _as_forecast(captured, model.bundle, frame.symbol, rows):
                raise DemoError(
                    f"{frame.symbol}: the predictions of version {model.version} in {lake.root} "
                    f"do not match the rows in {paths.features}"
                )
    if live != batch or written != expected:
        raise DemoError(
            f"the stream scored {live.total():,} feature rows and wrote {written:,} predictions; "
            f"the batch path has {batch.total():,} and {expected:,}, and they are not all equal"
        )
    return live.total()


def _as_forecast(captured: pa.Table, bundle: Bundle, symbol: str, rows: Floats) -> bool:
    """Return whether a symbol's captured predictions equal the bundle's forecasts of its rows."""
    made = bundle.forecast(rows, np.repeat(bundle.places([symbol]), len(rows)))
    forecasts = captured.column("forecasts").combine_chunks()
    volatility = volatility_of(forecasts, bundle.specification.horizons)
    scores = captured.column("score").to_numpy()
    return bool(
        (scores == made.exceedance[:, 0]).all() and (volatility == made.volatility_bps).all()
    )


@dataclass(frozen=True)
class _Watched(Bundle):
    """Forecast, and record which rows were forecast."""

    seen: Counter[bytes] = field(default_factory=Counter)

    def forecast(self, rows: Floats, symbol: Integers) -> Forecasts:
        self.seen.update(_digests(rows))
        return super().forecast(rows, symbol)


class WatchedModels(Models):
    """Load the models of the registry; the serving one records the rows it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[bytes] = Counter()
        first, *others = self._current
        whole = first.bundle
        watched = _Watched(whole.specification, whole.forecasters, whole.variant, self.seen)
        self._current = (replace(first, bundle=watched), *others)


def _digests(rows: Floats) -> Counter[bytes]:
    """Count the rows by a digest of their bits, instead of keeping half a million of them."""
    whole = np.ascontiguousarray(rows)
    return Counter(hashlib.blake2b(row, digest_size=8).digest() for row in whole)


@click.command("demo")
@click.option("--ticks", type=click.Path(exists=True, path_type=Path))
@click.option("--serve/--no-serve", default=True)
@click.pass_obj
def command(settings: Settings, ticks: Path | None, serve: bool) -> None:
    """Run the full pipeline through a separate Kafka broker."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it logs every refused connection
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # not so under nohup
            signal.signal(number, signal.default_int_handler)  # otherwise the broker would survive
    run(settings, ticks=ticks, serve=serve)


if __name__ == "__main__":
    # Run like `volatility`: with its settings and one-line errors.
    cli.main.add_command(command)
    cli.main(["demo", *sys.argv[1:]], prog_name="python -m volatility.dev.kafka_demo")
