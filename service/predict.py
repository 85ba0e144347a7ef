"""Score a Parquet file with a running service: the ``volatility predict`` command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from service.parquet import Writer, open_source
from volatility.client import Client, ClientError
from volatility.settings import Features, Settings, environment

TOO_FEW = "too few ticks"  # prefix of the error for ticks without a warm step


def score_file(
    client: Client, source: Path, output: Path, features: Features, *, progress: bool = True
) -> int:
    """Score a Parquet file of feature rows or of ticks, and write the scores to another file.

    For feature rows, the output has one row per input row, in order. For ticks, it has one row per
    symbol and warm one-second step, bit-identical to the result of ``volatility features`` and the
    model. ``output`` is created atomically, once everything has been scored.

    Parameters
    ----------
    features : Features
        Feature settings; ``memory_seconds`` must be that of the service's model.

    Returns
    -------
    int
        Number of scores written.

    Raises
    ------
    ClientError
        If the file has neither rows nor ticks, or the service rejects a part of it; names the row
        of the file (counted from 0) and the field if the service does.
    """
    opened = open_source(source, client.limits(), features)
    bar = tqdm(total=opened.total, unit=f" {opened.unit}", disable=None if progress else True)
    with bar, Writer(output) as writer:
        for request in opened.requests():
            if request.body:
                try:
                    answer = client.post(opened.route, request.body)
                except ClientError as error:
                    # Ticks after a gap may be too few to complete a warm-up: not an error.
                    if not str(error).startswith(TOO_FEW):
                        raise _placed(error, source, request.place) from error
                else:
                    writer.write(request.table(answer))
            bar.update(request.records)
    return writer.rows


def _placed(error: ClientError, source: Path, place: Any) -> ClientError:
    """Return the error with the row of the file instead of the row of the request."""
    if error.row is None:
        return error
    row = place(error.row)
    field = f", {error.field}" if error.field else ""
    return ClientError(f"{source}: row {row}{field}: {error}", row, error.field)


def _address(_: click.Context, __: click.Parameter, value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise click.BadParameter(f"{value!r} does not start with http:// or https://")
    return value


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Parquet file for the scores.",
)
@click.option(
    "--url",
    default="http://localhost:3000",
    show_default=True,
    callback=_address,
    help="Address of the service.",
)
@click.pass_obj
def predict(settings: Settings, file: Path, output: Path, url: str) -> None:
    """Score a Parquet file of feature rows or ticks with a running service.

    Ticks need the columns symbol, time, price, bid and ask. The API key is read from
    VOLATILITY_API_KEY.

    Example: volatility predict --url http://localhost:3000 ticks.parquet --output scores.parquet
    """
    with Client(url, environment().volatility_api_key) as client:
        count = score_file(client, file, output, settings.features)
    click.echo(f"Wrote {count:,} scores to {output}")
