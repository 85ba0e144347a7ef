"""Ask a running service, from any program: importing this needs httpx and msgspec only.

>>> from volatility.client import Client
>>> with Client("http://localhost:3000") as client:  # doctest: +SKIP
...     client.latest("BTC-USD").horizons["60s"].volatility_bps
4.1
"""

from volatility.client.asynchronous import AsyncClient
from volatility.client.blocking import Client
from volatility.client.core import ClientError
from volatility.client.history import History
from volatility.client.types import (
    Answer,
    Forecast,
    Horizon,
    Limits,
    Odds,
    Quantiles,
    Reason,
    Warming,
)

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "ClientError",
    "Forecast",
    "History",
    "Horizon",
    "Limits",
    "Odds",
    "Quantiles",
    "Reason",
    "Warming",
]
