"""The long-running sub-commands: ingest, capture and score."""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from volatility.settings import Settings, environment

METRICS_PORT = click.option(
    "--metrics-port", default=0, show_default=True, help="Port for /metrics; 0 disables it."
)
FOLLOW = click.option("--follow", is_flag=True, help="Keep running until stopped.")
LAKE = click.option(
    "--lake",
    type=click.Path(file_okay=False, path_type=Path),
    default="data/ticks",
    show_default=True,
)

SOURCE = (
    click.option(
        "--source",
        type=click.Choice(["coinbase", "binance", "kraken", "replay", "simulate"]),
        default="coinbase",
        show_default=True,
    ),
    click.option(
        "--symbols",
        help="[default: BTC-USD,ETH-USD; binance: BTC-USDT,ETH-USDT; replay: all recorded]",
    ),
    click.option(
        "--protocol",
        type=click.Choice(["advanced-trade", "exchange"]),
        default="advanced-trade",
        show_default=True,
        help="Protocol of the coinbase source.",
    ),
    click.option("--url", help="Feed address [default: the venue's public feed]"),
    click.option(
        "--path",
        type=click.Path(exists=True, path_type=Path),
        help="Lake or recordings to replay (source replay).",
    ),
    click.option("--speed", default="1", show_default=True, help="Multiple of real time, or max."),
)


def from_source(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that name a source of ticks."""
    for option in reversed(SOURCE):
        command = option(command)
    return command


def stopping() -> Callable[[], bool]:
    """Turn SIGTERM and SIGINT into a flag, so that the current work is finished first."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.append(1))
    return lambda: bool(asked)


def _start(metrics_port: int) -> Any:
    """Open the event log, and serve the metrics of this process."""
    from volatility.streaming import metrics
    from volatility.streaming.log import KafkaLog

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it logs every failed attempt to connect
    metrics.serve(metrics_port)
    return KafkaLog(environment().kafka_bootstrap_servers)


@click.command()
@from_source
@click.option("--hours", type=float, help="Length of the simulation [default: endless]")
@click.option("--partitions", default=4, show_default=True, help="Partitions of a new topic.")
@LAKE
@METRICS_PORT
@click.pass_obj
def ingest(
    settings: Settings, /, source: str, lake: Path, metrics_port: int, **options: Any
) -> None:
    """Stream ticks from a venue or another source into Kafka.

    Gaps are recorded in the lake's ledger. Topic and lake take the market of one venue only.

    Example: volatility ingest --source replay --path data/ticks --speed 60
    """
    from volatility.lake import Lake
    from volatility.streaming import (
        VENUES,
        last_records,
        market_from,
        run,
        source_of,
        symbols_of,
    )
    from volatility.streaming.sources import SourceStatistics

    partitions = options.pop("partitions")
    options["symbols"] = symbols_of(source, options["symbols"])
    with closing(_start(metrics_port)) as log:
        # What a live source missed since the last run is a gap.
        known = last_records(log) if source in VENUES else []
        statistics = SourceStatistics()
        events = source_of(source, settings, statistics, known=known, **options)
        count = run(
            log,
            events,
            Lake(lake),
            partitions=partitions,
            market=market_from(source, options["path"]),
            patient=source not in VENUES,
            stopped=stopping(),
            statistics=statistics,
        )
    click.echo(f"{count:,} records")


@click.command()
@click.option(
    "--topic", type=click.Choice(["ticks", "predictions"]), default="ticks", show_default=True
)
@click.option("--lake", type=click.Path(path_type=Path), help="Target lake [default: data/TOPIC]")
@click.option("--group", help="Consumer group to share the partitions with; needs --follow.")
@click.option(
    "--rows", default=50_000, show_default=True, help="Write a part after this many rows."
)
@click.option("--seconds", default=5.0, show_default=True, help="Write a part after this long.")
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
    """Copy a topic into a lake, each record exactly once.

    Example: volatility capture --follow --metrics-port 9102
    """
    from volatility.streaming import Rotation, capture_topic

    if group is not None and not follow:
        raise click.UsageError("--group requires --follow")
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
def score(follow: bool, metrics_port: int) -> None:
    """Score the ticks in Kafka.

    The champion serves, and the challenger is scored in its shadow. If no model is registered,
    the shipped prior is used.

    Example: volatility score --follow --metrics-port 9103
    """
    from volatility.streaming import GROUP, Models, Scorer

    models = Models()
    models.watch()
    # What is loaded by now lives forever: half a million objects with MLflow, which would cost
    # 0.3 s in every full garbage collection.
    gc.collect()
    gc.freeze()
    with closing(_start(metrics_port)) as log:
        scorer = Scorer(log, models, group=GROUP if follow else None)
        if metrics_port:
            scorer.watch_lag()
        try:
            made = scorer.run(follow=follow, stopped=stopping())
        finally:
            scorer.close()
    click.echo(f"{made:,} predictions")
