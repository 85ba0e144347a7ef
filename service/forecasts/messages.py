"""Define the answers of the forecast routes, and make them from predictions."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Literal

import msgspec

from service.forecasts.distribution import Distribution
from service.predictor import YEAR_SECONDS
from service.wire import (
    ModelName,
    ModelVariant,
    ModelVersion,
    Positive,
    Probability,
    Quantiles,
    Time,
    doc,
)
from volatility.records import HorizonForecast, Prediction
from volatility.units import SECOND

_BPS = "[basis points over the horizon]"
Symbol = Annotated[str, doc("Symbol.", "BTC-USD")]
Name = Annotated[str, doc("Horizon.", "60s")]
AsOf = Annotated[
    Time, doc("The step: what was known until then is used, UTC.", "2026-04-04T21:13:43.000000000Z")
]
SaidAt = Annotated[
    Time | None, doc("When the forecast was made, UTC.", "2026-04-04T21:13:43.291004118Z")
]


class Outlook(msgspec.Struct, frozen=True, gc=False):
    """Represent the forecast over one horizon."""

    volatility_bps: Annotated[
        Positive, doc(f"Expected volatility {_BPS}: root of the expected variance.", 4.1)
    ]
    annualised_percent: Annotated[
        Positive, doc("Expected volatility, annualised [per cent].", 29.7)
    ]
    expected_move_bps: Annotated[
        Positive, doc("Expected absolute change of the midprice over the horizon [bps].", 3.1)
    ]
    quantiles_bps: Quantiles
    spike_level_bps: Annotated[
        Positive, doc(f"Volatility from which a move counts as a spike {_BPS}.", 7.5)
    ]
    spike_probability: Annotated[
        Probability | None, doc("Probability of reaching the spike level.", 0.07)
    ]


class Ranked(Outlook, frozen=True, gc=False):
    """Represent the newest forecast over one horizon, beside those of the last day."""

    percentile_24h: Annotated[
        Annotated[float, msgspec.Meta(ge=0, le=100)] | None,
        doc(
            "Share of the symbol's forecasts of the last 24 h, one a minute, that were lower [per "
            "cent]; null until there are 60 of them.",
            62.5,
        ),
    ] = None


class Said(msgspec.Struct, frozen=True):
    """Represent a forecast as it was said."""

    symbol: Symbol
    as_of: AsOf
    said_at: SaidAt
    midprice: Annotated[
        Positive | None, doc("Midprice known at the step [quote currency].", 68000.5)
    ]
    horizons: Annotated[
        dict[str, Outlook],
        doc(
            "Forecasts keyed by horizon.",
            {"60s": Outlook(4.1, 29.7, 2.9, Quantiles(1.2, 2.4, 3.6, 5.3, 9.2), 7.5, 0.08)},
        ),
    ]
    model_name: ModelName
    model_version: ModelVersion
    model_variant: ModelVariant
    out_of_distribution: Annotated[
        bool | None, doc("Whether the features lie outside the range of the training data.", False)
    ]


class Event(msgspec.Struct, frozen=True):
    """Represent a message of the stream: a new forecast."""

    symbol: Symbol
    as_of: AsOf
    said_at: SaidAt
    midprice: Annotated[
        Positive | None, doc("Midprice known at the step [quote currency].", 68000.5)
    ]
    horizons: Annotated[
        dict[str, Ranked],
        doc(
            "Forecasts keyed by horizon.",
            {"60s": Ranked(4.1, 29.7, 2.9, Quantiles(1.2, 2.4, 3.6, 5.3, 9.2), 7.5, 0.08, 62.5)},
        ),
    ]
    model_name: ModelName
    model_version: ModelVersion
    model_variant: ModelVariant
    out_of_distribution: Annotated[
        bool | None, doc("Whether the features lie outside the range of the training data.", False)
    ]
    id: Annotated[
        str,
        doc(
            "Place in the stream after this forecast, for Last-Event-ID.",
            "Xb3kq0ZsQ3mB9yXy.41822.-1.20911.-1",
        ),
    ]


class Newest(Event, frozen=True, kw_only=True):
    """Represent the newest forecast of a symbol."""

    state: Annotated[
        Literal["ok", "stale", "halted"],
        doc(
            "`stale`: no forecast for 15 s; `halted`: none for 15 min, so that the next comes "
            "after a new warm-up only.",
            "ok",
        ),
    ]
    age_ms: Annotated[int, msgspec.Meta(ge=0), doc("Time since the forecast was made [ms].", 412)]


class Warming(msgspec.Struct, frozen=True):
    """Represent a symbol whose first forecast is still to come."""

    symbol: Symbol
    state: Annotated[
        Literal["warming"], doc("Ticks arrive, and a baseline is being measured.", "warming")
    ]
    seconds_left: Annotated[
        int, msgspec.Meta(ge=1), doc("Most seconds until the first forecast, if ticks last.", 212)
    ]


class Several(msgspec.Struct, frozen=True):
    """Represent the newest forecasts of several symbols."""

    forecasts: Annotated[
        list[Newest],
        doc("In the order asked for; one that is warming is described as such."),
    ]


class Odds(msgspec.Struct, frozen=True):
    """Represent the probability of a volatility, by the newest forecast of a symbol."""

    symbol: Symbol
    as_of: AsOf
    horizon: Name
    above_bps: Annotated[Positive | None, doc(f"Lower bound of the volatility {_BPS}.", 12.0)]
    below_bps: Annotated[Positive | None, doc(f"Upper bound of the volatility {_BPS}.", None)]
    probability: Annotated[
        Probability,
        doc("Probability that forward volatility lies within the bounds.", 0.02),
    ]
    state: Annotated[Literal["ok", "stale", "halted"], doc("As in GET /forecast.", "ok")]
    age_ms: Annotated[int, msgspec.Meta(ge=0), doc("Time since the forecast was made [ms].", 412)]


class Page(msgspec.Struct, frozen=True):
    """Represent forecasts of the past."""

    rows: Annotated[list[Said], doc("In the order of their steps.")]
    next: Annotated[
        str | None,
        doc("Query string of the next page; null on the last.", None),
    ]


@lru_cache(maxsize=4096)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def written(time_ns: int) -> str:
    """Return a time [ns since the epoch] as ISO 8601 with nanoseconds, UTC."""
    return f"{_second(time_ns // SECOND)}.{time_ns % SECOND:09d}Z"


def outlook(name: str, one: HorizonForecast) -> Outlook:
    """Return the answer of one horizon."""
    return Outlook(
        one.volatility_bps,
        one.volatility_bps / 100.0 * (YEAR_SECONDS / int(name.removesuffix("s"))) ** 0.5,
        Distribution.of(one).expected_move(),
        Quantiles(*msgspec.structs.astuple(one.quantiles_bps)),
        one.spike_level_bps,
        one.spike_probability,
    )


def said(one: Prediction) -> Said:
    """Return a prediction as the history shows it."""
    return Said(
        one.symbol,
        written(one.time),
        None if one.said_at is None else written(one.said_at),
        one.midprice,
        {name: outlook(name, made) for name, made in (one.forecasts or {}).items()},
        one.model_name,
        one.model_version,
        one.model_variant,  # type: ignore[arg-type]  # shown as it was said, whatever it is
        one.out_of_distribution,
    )
