"""Define the answers of the service as a client reads them; fields it does not know are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec


class Quantiles(msgspec.Struct, frozen=True):
    """Represent quantiles of forward volatility [basis points over the horizon]."""

    p05: float
    p25: float
    p50: float
    p75: float
    p95: float


class Horizon(msgspec.Struct, frozen=True):
    """Represent the forecast over one horizon; docs/api.md explains the fields."""

    volatility_bps: float
    annualised_percent: float
    quantiles_bps: Quantiles
    spike_level_bps: float
    expected_move_bps: float | None = None
    spike_probability: float | None = None
    percentile_24h: float | None = None


class Forecast(msgspec.Struct, frozen=True):
    """Represent a forecast of the stream.

    ``id`` is its place in the stream; it is empty in a forecast of the past. ``age_ms`` is known
    only of one that was asked for.
    """

    symbol: str
    as_of: str
    said_at: str | None
    midprice: float | None
    horizons: dict[str, Horizon]
    model_name: str
    model_version: str
    model_variant: str
    out_of_distribution: bool | None = None
    id: str = ""
    state: Literal["ok", "stale", "halted"] = "ok"
    age_ms: int | None = None

    @property
    def time(self) -> datetime:
        """The step, UTC."""
        return datetime.fromisoformat(self.as_of)


class Warming(msgspec.Struct, frozen=True):
    """Represent a symbol whose first forecast is still to come."""

    symbol: str
    seconds_left: int
    state: Literal["warming"] = "warming"


class Odds(msgspec.Struct, frozen=True):
    """Represent the probability of a volatility between two levels [basis points]."""

    symbol: str
    as_of: str
    horizon: str
    above_bps: float | None
    below_bps: float | None
    probability: float
    state: Literal["ok", "stale", "halted"]
    age_ms: int


class Page(msgspec.Struct, frozen=True):
    """Represent a page of the history, and the query of the next one."""

    rows: list[Forecast]
    next: str | None


class Reason(msgspec.Struct, frozen=True):
    """Represent a feature's contribution to a log forecast."""

    feature: str
    value: float | None
    contribution: float


class Answer(msgspec.Struct, frozen=True):
    """Represent the answer to rows or ticks."""

    volatility_score: float
    scores: list[float]
    spike: list[bool]
    threshold: float
    out_of_distribution: list[bool]
    forecasts: list[dict[str, Horizon]]
    model_name: str
    model_version: str
    model_variant: str
    version: str
    ts: str
    latency_ms: float
    steps: list[int] | None = None
    reasons: list[list[Reason]] | None = None


class Limits(msgspec.Struct, frozen=True):
    """Represent the maximum numbers of rows and of ticks in one request."""

    rows: int
    ticks: int


class Refusal(msgspec.Struct, frozen=True):
    """Represent the body of an error."""

    error: str
    row: int | None = None
    field: str | None = None


Fields = dict[str, Any]  # of a feature row or a tick
