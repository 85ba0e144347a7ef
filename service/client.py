"""Ask a running service to score a Parquet file, of feature rows or of ticks.

>>> with Client("http://localhost:3000") as client:  # doctest: +SKIP
...     client.post("/predict", b'{"rows": [{"spread_bps": 0.2}]}').scores
[0.07]
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec
from tqdm import tqdm

from volatility.settings import Features, Settings, environment

TIMEOUT_SECONDS = 60.0  # the service gives up after serving.timeout_seconds
PATIENCE_SECONDS = 60  # with a service that says: too many requests


class ClientError(ValueError):
    """A request that was not answered with scores; the text says why, in one line.

    Parameters
    ----------
    message : str
    row : int, optional
        Row or tick at fault, counted from 0 in the request.
    field : str, optional
        Its feature or field.
    """

    def __init__(self, message: str, row: int | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.row, self.field = row, field


class Scores(msgspec.Struct, frozen=True):
    """Hold what of an answer is kept; see ``service.wire.Answer``."""

    scores: list[float]
    spike: list[bool]
    threshold: float
    out_of_distribution: list[bool]
    model_name: str
    model_version: str
    model_variant: str


class Limits(msgspec.Struct, frozen=True):
    """Say how many rows and how many ticks one request may have."""

    rows: int
    ticks: int


class _Refusal(msgspec.Struct):
    error: str
    row: int | None = None
    field: str | None = None


class Client:
    """Speak to a running service; use it as a context manager.

    Parameters
    ----------
    url : str
        Such as ``http://localhost:3000``.
    key : str
        API key; empty: none.
    transport : httpx.BaseTransport, optional
        What carries the requests, where it is not the network.
    """

    def __init__(
        self, url: str, key: str = "", *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._url, self._key = url.rstrip("/"), key
        headers = {"content-type": "application/json"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        self._client = httpx.Client(
            base_url=self._url, headers=headers, timeout=TIMEOUT_SECONDS, transport=transport
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def limits(self) -> Limits:
        """Ask how large a request may be.

        Raises
        ------
        ClientError
            When nobody is there, or it is not this service.
        """
        content = self._request("GET", "/docs.json").content
        try:
            schemas = msgspec.json.decode(content)["components"]["schemas"]
            rows, ticks = (
                schemas[kind]["properties"][items]["maxItems"]
                for kind, items in (("Rows", "rows"), ("Ticks", "ticks"))
            )
        except (msgspec.MsgspecError, LookupError, TypeError):
            raise self._stranger() from None
        return Limits(rows, ticks)

    def post(self, route: str, body: bytes) -> Scores:
        """Send rows to ``/predict`` or ticks to ``/predict/ticks``.

        Raises
        ------
        ClientError
            When nobody answers, or not with scores; with the row and the field at fault where
            the service names them.
        """
        response = self._request("POST", route, body)
        for _ in range(PATIENCE_SECONDS):
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                break
            time.sleep(1.0)
            response = self._request("POST", route, body)
        if response.status_code != httpx.codes.OK:
            raise self._refused(response)
        try:
            return msgspec.json.decode(response.content, type=Scores)
        except msgspec.MsgspecError:
            raise self._stranger() from None

    def _request(self, method: str, route: str, body: bytes | None = None) -> httpx.Response:
        try:
            return self._client.request(method, route, content=body)
        except httpx.ConnectError as error:
            raise ClientError(
                f"no service answers at {self._url} ({error}): start one with `make serve`, or "
                "name another with --url"
            ) from error
        except httpx.TimeoutException as error:
            raise ClientError(
                f"{self._url} has not answered for {TIMEOUT_SECONDS:.0f} s"
            ) from error
        except httpx.HTTPError as error:
            raise ClientError(f"the connection to {self._url} broke: {error}") from error

    def _refused(self, response: httpx.Response) -> ClientError:
        if response.status_code == httpx.codes.UNAUTHORIZED:
            return ClientError(
                f"{self._url} refuses the key in VOLATILITY_API_KEY"
                if self._key
                else f"{self._url} asks for a key: set VOLATILITY_API_KEY"
            )
        try:
            refusal = msgspec.json.decode(response.content, type=_Refusal)
        except msgspec.MsgspecError:
            return self._stranger(f": HTTP {response.status_code}")
        return ClientError(
            f"{refusal.error} (HTTP {response.status_code})", refusal.row, refusal.field
        )

    def _stranger(self, told: str = "") -> ClientError:
        return ClientError(f"{self._url} does not answer as this service does{told}: check --url")


def score_file(
    client: Client, source: Path, output: Path, features: Features, *, progress: bool = True
) -> int:
    """Score a Parquet file of feature rows or of ticks, and write the scores to another.

    Rows are answered one for one and in order. Ticks are answered with one row for each symbol
    and step of one second whose baseline is warm: what ``volatility features`` and the model make
    of them, bit for bit. ``output`` appears as a whole, and only when all is scored.

    Parameters
    ----------
    features : Features
        Those of the service.

    Returns
    -------
    int
        Scores written.

    Raises
    ------
    ClientError
        When the file is neither, or the service refuses a part of it; names the file's row
        (counted from 0) and the field where the service does.
    """
    from service.parquet import Writer, open_source

    opened = open_source(source, client.limits(), features)
    bar = tqdm(total=opened.total, unit=f" {opened.unit}", disable=None if progress else True)
    with bar, Writer(output) as writer:
        for request in opened.requests():
            if request.body:
                try:
                    answer = client.post(opened.route, request.body)
                except ClientError as error:
                    raise _placed(error, source, request.place) from error
                writer.write(request.table(answer))
            bar.update(request.records)
    return writer.rows


def _placed(error: ClientError, source: Path, place: Any) -> ClientError:
    """Name the file, and its row in place of the request's."""
    if error.row is None:
        return error
    row = place(error.row)
    field = f", {error.field}" if error.field else ""
    return ClientError(f"{source}: row {row}{field}: {error}", row, error.field)


def _address(_: click.Context, __: click.Parameter, value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise click.BadParameter(f"{value!r} does not begin with http:// or https://")
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
    """Let a running service score a Parquet file of feature rows, or of ticks.

    Ticks have the columns symbol, time, price, bid and ask. The key is read from
    VOLATILITY_API_KEY.

    Example: volatility predict --url http://localhost:3000 ticks.parquet --output scores.parquet
    """
    with Client(url, environment().volatility_api_key) as client:
        count = score_file(client, file, output, settings.features)
    click.echo(f"{count:,} scores in {output}")
