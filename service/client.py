"""Send requests to a running service, with retries; errors are one line.

>>> with Client("http://localhost:3000") as client:  # doctest: +SKIP
...     client.post("/predict", b'{"rows": [{"spread_bps": 0.2}]}').scores
[0.07]
"""

from __future__ import annotations

import time

import httpx
import msgspec

from service.wire import Answer, Error

TIMEOUT_SECONDS = 60.0  # the service gives up after serving.timeout_seconds
RETRY_SECONDS = 60  # how long to retry while the service answers 429 (too many requests)


class ClientError(ValueError):
    """Report a request that failed; the message is one line.

    Parameters
    ----------
    message : str
    row : int, optional
        Index of the invalid row or tick in the request, counted from 0.
    field : str, optional
        Name of the invalid feature or field.
    """

    def __init__(self, message: str, row: int | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.row, self.field = row, field


class Limits(msgspec.Struct, frozen=True):
    """Represent the maximum numbers of rows and of ticks in one request."""

    rows: int
    ticks: int


class Client:
    """Send requests to a running service; use as a context manager.

    Parameters
    ----------
    url : str
        For example ``http://localhost:3000``.
    key : str
        API key; empty to send none.
    transport : httpx.BaseTransport, optional
        Transport to use instead of the network.
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
        """Query the maximum size of a request.

        Raises
        ------
        ClientError
            If the service does not respond, or is a different service.
        """
        content = self._request("GET", "/docs.json").content
        try:
            schemas = msgspec.json.decode(content)["components"]["schemas"]
            rows, ticks = (
                schemas[kind]["properties"][items]["maxItems"]
                for kind, items in (("Rows", "rows"), ("Ticks", "ticks"))
            )
        except (msgspec.MsgspecError, LookupError, TypeError):
            raise self._unexpected_response() from None
        return Limits(rows, ticks)

    def post(self, route: str, body: bytes) -> Answer:
        """Send rows to ``/predict`` or ticks to ``/predict/ticks``.

        Raises
        ------
        ClientError
            If the request fails; with the invalid row and field if the service names them.
        """
        response = self._request("POST", route, body)
        for _ in range(RETRY_SECONDS):
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                break
            time.sleep(1.0)
            response = self._request("POST", route, body)
        if response.status_code != httpx.codes.OK:
            raise self._refused(response)
        try:
            return msgspec.json.decode(response.content, type=Answer)
        except msgspec.MsgspecError:
            raise self._unexpected_response() from None

    def _request(self, method: str, route: str, body: bytes | None = None) -> httpx.Response:
        try:
            return self._client.request(method, route, content=body)
        except httpx.ConnectError as error:
            raise ClientError(
                f"no service responds at {self._url} ({error}): start one with `make serve`, or "
                "pass another address with --url"
            ) from error
        except httpx.TimeoutException as error:
            raise ClientError(
                f"{self._url} did not respond within {TIMEOUT_SECONDS:.0f} s"
            ) from error
        except httpx.HTTPError as error:
            raise ClientError(f"the connection to {self._url} failed: {error}") from error

    def _refused(self, response: httpx.Response) -> ClientError:
        if response.status_code == httpx.codes.UNAUTHORIZED:
            return ClientError(
                f"{self._url} rejects the key in VOLATILITY_API_KEY"
                if self._key
                else f"{self._url} requires a key: set VOLATILITY_API_KEY"
            )
        try:
            refusal = msgspec.json.decode(response.content, type=Error)
        except msgspec.MsgspecError:
            return self._unexpected_response(f": HTTP {response.status_code}")
        return ClientError(
            f"{refusal.error} (HTTP {response.status_code})", refusal.row, refusal.field
        )

    def _unexpected_response(self, detail: str = "") -> ClientError:
        return ClientError(f"{self._url} does not respond like this service{detail}: check --url")
