"""The sub-command that fetches public recordings."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from volatility.cli.streaming import LAKE

DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.argument("vendor", type=click.Choice(["tardis", "binance", "coinbase"]))
@click.option("--symbol", required=True, help="Such as BTC-USD, or BTC-USDT-PERP at binance.")
@click.option("--from", "first", required=True, type=DAY, help="First day, UTC.")
@click.option("--to", "last", required=True, type=DAY, help="Last day, UTC.")
@click.option(
    "--exchange", default="coinbase", show_default=True, help="One of Tardis's, such as kraken."
)
@click.option("--url", help="Address of a mirror [default: the vendor's own]")
@LAKE
def fetch(vendor: str, lake: Path, first: datetime, last: datetime, **options: Any) -> None:
    """Fetch a vendor's public recordings into a lake, a day at a time.

    Tardis has quotes, free on the first day of each month; Binance and Coinbase have trades. A run
    that was stopped goes on where it was.

    Example: volatility fetch tardis --symbol BTC-USD --from 2025-10-01 --to 2025-12-01
    """
    from volatility.fetch import Request, fetch
    from volatility.reports import import_lines

    report = fetch(Request(vendor, first=first.date(), last=last.date(), **options), lake)
    if report.fetched:
        click.echo("\n".join(import_lines(report.imported, lake)))
    for found, what in (
        (report.held, "in the lake already"),
        (report.empty, "without a record"),
        (report.missing, "that the vendor does not have"),
    ):
        if found:
            click.echo(f"{len(found)} day(s) {what}: {', '.join(map(str, found[:5]))}")
