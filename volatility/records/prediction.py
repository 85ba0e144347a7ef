"""Define predictions: their fields, JSON and columns.

``(symbol, time, model_version)`` identifies one; the topic may repeat it, the lake does not.
Predictions written before forecasts existed carry only a score: the other fields read as null.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from volatility.units import Floats

Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

_HORIZON = re.compile(r"[1-9][0-9]{0,6}s")

_FORECAST = pa.struct(
    [
        pa.field("horizon_seconds", pa.int32(), nullable=False),
        *(
            pa.field(name, pa.float64(), nullable=False)
            for name in ("volatility_bps", "p05", "p25", "p50", "p75", "p95", "spike_level_bps")
        ),
        pa.field("spike_probability", pa.float64()),
    ]
)
PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("ns", tz="UTC"), nullable=False),
        pa.field("midprice", pa.float64()),
        pa.field("forecasts", pa.list_(_FORECAST)),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("threshold", pa.float64(), nullable=False),
        pa.field("spike", pa.bool_(), nullable=False),
        pa.field("model_name", pa.string(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("model_variant", pa.string(), nullable=False),
        pa.field("said_at", pa.timestamp("ns", tz="UTC")),
        pa.field("out_of_distribution", pa.bool_()),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
    ]
)


class Quantiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Represent quantiles of forward volatility [basis points over the horizon]."""

    p05: float
    p25: float
    p50: float
    p75: float
    p95: float


class HorizonForecast(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Represent the forecast for one horizon [basis points over the horizon].

    ``spike_probability`` is that of reaching the spike level; absent in older predictions.
    """

    volatility_bps: float
    quantiles_bps: Quantiles
    spike_level_bps: float
    spike_probability: float | None = None


class Prediction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Represent the forecast of one symbol at one step.

    Parameters
    ----------
    symbol : str
    time : int
        The step, nanoseconds since the epoch.
    midprice : float, optional
        Midprice known at the step.
    forecasts : dict, optional
        Forecasts by horizon in seconds, such as ``60s``, the shortest first.
    score, threshold : float
        Probability of a spike over the first horizon, and the level that raises an alert.
    spike : bool
        Whether the score has reached the threshold.
    model_name, model_version, model_variant : str
    said_at : int, optional
        When the prediction was made by the wall clock, nanoseconds since the epoch.
    out_of_distribution : bool, optional
        Whether the row lies outside the range of the training data.
    """

    symbol: str
    time: Nanoseconds
    midprice: float | None = None
    forecasts: dict[str, HorizonForecast] | None = None
    score: float
    threshold: float
    spike: bool
    model_name: str
    model_version: str
    model_variant: str
    said_at: Nanoseconds | None = None
    out_of_distribution: bool | None = None

    def __post_init__(self) -> None:
        """Reject horizons that the lake could not store."""
        for name in self.forecasts or ():
            if not _HORIZON.fullmatch(name):
                raise ValueError(f"{name!r} is not a horizon in seconds, such as 60s")


def to_table(predictions: Sequence[Prediction], partition: int, offsets: Sequence[int]) -> pa.Table:
    """Convert predictions to a table of ``PREDICTION_SCHEMA``, with one offset each."""
    columns = {
        name: [getattr(prediction, name) for prediction in predictions]
        for name in Prediction.__struct_fields__
    }
    columns["forecasts"] = [_entries(forecasts) for forecasts in columns["forecasts"]]
    columns["partition"] = [partition] * len(predictions)
    columns["offset"] = list(offsets)
    arrays = []
    for field in PREDICTION_SCHEMA:
        stored = pa.int64() if pa.types.is_timestamp(field.type) else field.type
        arrays.append(pa.array(columns[field.name], stored).cast(field.type))
    return pa.Table.from_arrays(arrays, schema=PREDICTION_SCHEMA)


def volatility_of(forecasts: pa.ListArray, horizons: Sequence[int]) -> Floats:
    """Read the forecast volatility of each row from the column ``forecasts``.

    Returns
    -------
    float64[n, H]
        Basis points over each horizon; NaN where a row has no forecast for it.
    """
    result = np.full((len(forecasts), len(horizons)), np.nan)
    row = pc.list_parent_indices(forecasts).to_numpy()
    entries = pc.list_flatten(forecasts)
    seconds = pc.struct_field(entries, "horizon_seconds").to_numpy()
    volatility = pc.struct_field(entries, "volatility_bps").to_numpy()
    for place, horizon in enumerate(horizons):
        mine = seconds == horizon
        result[row[mine], place] = volatility[mine]
    return result


def _entries(
    forecasts: dict[str, HorizonForecast] | None,
) -> list[dict[str, float | None]] | None:
    """Return the rows of the nested column."""
    if forecasts is None:
        return None
    return [
        {
            "horizon_seconds": int(name.removesuffix("s")),
            "volatility_bps": one.volatility_bps,
            **msgspec.structs.asdict(one.quantiles_bps),
            "spike_level_bps": one.spike_level_bps,
            "spike_probability": one.spike_probability,
        }
        for name, one in forecasts.items()
    ]
