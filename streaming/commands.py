"""Add the streaming processes to the ``volatility`` command.

The domain does not know them: they are found through the entry points of this project.
"""

from __future__ import annotations

import gc
import logging
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from volatility.settings import Settings, environment

METRICS_PORT = click.option(
    "--metrics-port", default=0, show_default=True, help="Serve /metrics there; 0: nowhere."
)
FOLLOW = click.option("--follow", is_flag=True, help="Go on until stopped.")
LAKE = click.option(
    "--lake",
    type=click.Path(file_okay=False, path_type=Path),
    default="data/ticks",
    show_default=True,
)


def stopping() -> Callable[[], bool]:
    """Turn SIGTERM and SIGINT into a flag, so that the work at hand is finished first."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.append(1))
    return lambda: bool(asked)


def _start(metrics_port: int) -> Any:
    """Open the log, and serve the metrics of this process."""
    from streaming import metrics
    from streaming.kafka_log import KafkaLog

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("kafka").setLevel(
        logging.CRITICAL
    )  # it repeats itself while a broker is away
    metrics.serve(metrics_port)
    return KafkaLog(environment().kafka_bootstrap_servers)


@click.command()
@click.option(
    "--source",
    type=click.Choice(["coinbase", "replay", "simulate"]),
    default="coinbase",
    show_default=True,
)
@click.option("--symbols", default="BTC-USD,ETH-USD", show_default=True)
@click.option(
    "--protocol",
    type=click.Choice(["advanced-trade", "exchange"]),
    default="advanced-trade",
    show_default=True,
    help="Feed of the source coinbase.",
)
@click.option("--url", help="Address of the feed, where it is not the venue's own.")
@click.option(
    "--path",
    type=click.Path(exists=True, path_type=Path),
    help="Lake or recordings of the source replay.",
)
@click.option("--speed", default="1", show_default=True, help="Times real time, or max.")
@click.option("--hours", type=float, help="Length of the source simulate; endless by default.")
@click.option("--partitions", default=4, show_default=True, help="Of the topic, if it is new.")
@LAKE
@METRICS_PORT
@click.pass_obj
def ingest(
    settings: Settings, /, source: str, lake: Path, metrics_port: int, **options: Any
) -> None:
    """Bring ticks from a source into Kafka; gaps go to the lake's ledger.

    Example: volatility ingest --source replay --path data/ticks --speed 60
    """
    from streaming.ingest import last_records, run, source_of
    from volatility.lake import Lake

    partitions = options.pop("partitions")
    with closing(_start(metrics_port)) as log:
        # What a live source missed since the last run is a gap.
        known = last_records(log) if source == "coinbase" else []
        events = source_of(source, settings, known=known, **options)
        count = run(
            log,
            events,
            Lake(lake),
            partitions=partitions,
            patient=source != "coinbase",
            stopped=stopping(),
        )
    click.echo(f"{count:,} records")


@click.command()
@click.option(
    "--topic", type=click.Choice(["ticks", "predictions"]), default="ticks", show_default=True
)
@click.option("--lake", type=click.Path(path_type=Path), help="data/<topic> by default.")
@click.option("--group", help="Share the partitions with the processes of this consumer group.")
@click.option("--rows", default=50_000, show_default=True, help="Rows at which a part is written.")
@click.option("--seconds", default=5.0, show_default=True, help="Age at which a part is written.")
@FOLLOW
@METRICS_PORT
def capture(
    topic: str,
    lake: Path | None,
    group: str | None,
    rows: int,
    seconds: float,
    follow: bool,
    metrics_port: int,
) -> None:
    """Copy a topic into the lake, each record exactly once.

    Example: volatility capture --follow --metrics-port 9102
    """
    from streaming.capture import Rotation, capture_topic

    if group is not None and not follow:
        raise click.UsageError("--group shares a stream that goes on: give --follow too")
    with closing(_start(metrics_port)) as log:
        count = capture_topic(
            log,
            topic,
            lake or Path("data") / topic,
            rotation=Rotation(rows, seconds),
            group=group,
            follow=follow,
            stopped=stopping(),
        )
    click.echo(f"{count:,} rows written")


@click.command()
@FOLLOW
@METRICS_PORT
@click.pass_obj
def score(settings: Settings, follow: bool, metrics_port: int) -> None:
    """Score the ticks in Kafka with the champion, and the challenger in its shadow.

    Example: volatility score --follow --metrics-port 9103
    """
    from streaming.models import Models
    from streaming.score import GROUP, Scorer

    models = Models(environment().model_variant)
    models.watch()
    # What is loaded by now stays: with MLflow half a million objects, 0.3 s a full collection.
    gc.collect()
    gc.freeze()
    with closing(_start(metrics_port)) as log:
        scorer = Scorer(log, models, settings.features, group=GROUP if follow else None)
        if metrics_port:
            scorer.watch_lag()
        try:
            made = scorer.run(follow=follow, stopped=stopping())
        finally:
            scorer.close()
    click.echo(f"{made:,} predictions")


@click.command()
@click.option("--symbol", required=True, help="Product of Coinbase, such as BTC-USD.")
@click.option("--since", required=True, help="Such as 2026-04-04T00:00, in UTC.")
@click.option("--until", help="The same; now by default.")
@LAKE
@click.option("--url", help="Address of the REST interface, where it is not Coinbase's own.")
def backfill(symbol: str, since: str, until: str | None, lake: Path, url: str | None) -> None:
    """Fetch past trades from Coinbase into the folder `trades` of a lake.

    Trades carry no quotes: no features are built from them. Run again, it goes on where it
    stopped. Example: volatility backfill --symbol BTC-USD --since 2026-04-04T00:00
    """
    from streaming.backfill import backfill, parse_bound
    from streaming.trades import URL, Trades

    since_ns = parse_bound("--since", since)
    until_ns = time.time_ns() if until is None else parse_bound("--until", until)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    done = backfill(Trades(symbol, url or URL), lake, since_ns, until_ns)
    rejected = f", {done.rejected:,} left out as invalid" if done.rejected else ""
    click.echo(f"{done.written:,} trades in {lake / 'trades'}{rejected}")
