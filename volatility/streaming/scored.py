"""Forecast the rows that a poll has closed with one model, and make predictions of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from volatility.features import INDEX, FeatureRow
from volatility.models import Forecasts
from volatility.records import HorizonForecast, Prediction, Quantiles
from volatility.streaming.models import Model
from volatility.units import Bools, Floats

MIDPRICE = INDEX["midprice"]


class Scored(NamedTuple):
    """Represent a model's forecasts for rows, and the spike levels of their symbols [bps]."""

    model: Model
    forecasts: Forecasts
    levels_bps: Sequence[Sequence[float]]
    strange: Bools  # bool[n]: outside the range of the training data

    @classmethod
    def of(cls, model: Model, values: Floats, symbols: list[str]) -> Scored:
        """Forecast float64[n, features] rows of n symbols."""
        places = model.bundle.places(symbols)
        levels = model.bundle.specification.spike_levels_bps
        forecasts = model.bundle.forecast(values, places)
        strange = model.bundle.out_of_distribution(values)
        return cls(model, forecasts, [levels[place] for place in places.tolist()], strange)

    def prediction(self, place: int, row: FeatureRow, said_at: int) -> Prediction:
        """Return one row's prediction."""
        bundle, made = self.model.bundle, self.forecasts
        score, threshold = float(made.exceedance[place, 0]), bundle.threshold
        midprice = float(row.values[MIDPRICE])
        return Prediction(
            symbol=row.symbol,
            time=row.time,
            midprice=None if np.isnan(midprice) else midprice,
            forecasts={
                f"{horizon}s": HorizonForecast(
                    float(made.volatility_bps[place, h]),
                    Quantiles(*made.quantiles_bps[place, h].tolist()),
                    self.levels_bps[place][h],
                    float(made.exceedance[place, h]),
                )
                for h, horizon in enumerate(bundle.specification.horizons)
            },
            score=score,
            threshold=threshold,
            spike=score >= threshold,
            model_name=self.model.name,
            model_version=self.model.version,
            model_variant=bundle.variant,
            said_at=said_at,
            out_of_distribution=bool(self.strange[place]),
        )
