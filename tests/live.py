"""Make live predictions: a market, models that can be wrong about it, and what they say of it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from tests.bundles import small_bundle
from volatility.dataset import assemble
from volatility.evaluation import LiveModel
from volatility.evaluation.live_rows import Live, captured_schema
from volatility.evaluation.predictions import realised_bps
from volatility.features.engine import FeatureFrame, feature_batches
from volatility.models.bundle import Bundle
from volatility.records.prediction import HorizonForecast, Prediction, Quantiles
from volatility.settings import Evaluate, Performance, Settings
from volatility.simulation.simulator import simulate
from volatility.units import SECOND

START_NS = 1_775_800_800 * SECOND  # five days after the small bundles' training
SETTINGS = Settings(evaluate=Evaluate(resamples=50), performance=Performance(hours=240.0))
HORIZONS = SETTINGS.forecast.horizons


@cache
def market(symbol: str = "BTC-USD", seed: int = 11, hours: float = 3.0) -> FeatureFrame:
    """Build the feature rows of a simulated market, from its first warm one on."""
    ticks = simulate(symbol, START_NS, hours, seed)
    parts = [(t.copy(), rows.copy()) for t, rows in feature_batches(ticks, SETTINGS.features)]
    time, rows = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    return FeatureFrame(symbol, time[900:], rows[900:])


@cache
def live_bundle(seed: int = 0) -> Bundle:
    """Return a small bundle whose spike levels are those of the simulated market."""
    return with_levels(small_bundle(seed))


def with_levels(bundle: Bundle) -> Bundle:
    """Return a bundle with the 0.9 quantiles of the simulated market as spike levels."""
    outcomes = realised_bps(assemble([market()], SETTINGS))
    row = tuple(np.nanquantile(outcomes, 0.9, axis=0).tolist())
    levels = (row,) * (len(bundle.specification.symbols) + 1)
    spec = msgspec.structs.replace(bundle.specification, spike_levels_bps=levels)
    scores = replace(bundle, specification=spec).score(*bundle.examples())
    spec = msgspec.structs.replace(spec, example_scores=tuple(scores.tolist()))
    return replace(bundle, specification=spec)


def said(frame: FeatureFrame, model: Live, chosen: slice = slice(None), shift: int = 0) -> pa.Table:
    """Return what the stream would have said of some rows, as ``read_captured`` returns it."""
    rows = frame.rows[chosen]
    made = model.bundle.forecast(rows, np.repeat(model.bundle.places([frame.symbol]), len(rows)))
    schema = captured_schema(HORIZONS)
    columns = [
        pa.array(frame.time[chosen] + shift * SECOND).cast(schema.field("time").type),
        pa.array(made.exceedance[:, 0]),
        pa.array([model.version] * len(rows)),
        pa.array([model.bundle.variant] * len(rows)),
        *(pa.array(column) for column in made.volatility_bps.T),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def prediction(
    time: int, symbol: str = "BTC-USD", version: str = "1", score: float = 0.5
) -> Prediction:
    """Return a prediction of three horizons."""
    quantiles = Quantiles(1.0, 2.0, 3.0, 4.0, 5.0)
    return Prediction(
        symbol=symbol,
        time=time,
        midprice=100.0,
        forecasts={
            f"{horizon}s": HorizonForecast(3.0 + place, quantiles, 7.5, 0.25 * (place + 1))
            for place, horizon in enumerate(HORIZONS)
        },
        score=score,
        threshold=0.5,
        spike=score >= 0.5,
        model_name="m",
        model_version=version,
        model_variant="ml",
        said_at=time + SECOND,
        out_of_distribution=False,
    )


def without_forecasts(one: Prediction) -> Prediction:
    """Return a prediction as it was written before forecasts were."""
    return msgspec.structs.replace(
        one, midprice=None, forecasts=None, said_at=None, out_of_distribution=None
    )


def live_model(qlike: float | None, pr_auc: float | None) -> LiveModel:
    """Return the live skill of a model of which little is known."""
    unknown: dict[str, Any] = dict.fromkeys(LiveModel.__struct_fields__)
    return LiveModel(**(unknown | {"qlike": qlike, "pr_auc": pr_auc}))


def some_features(data: Path) -> None:
    """Create a file of feature rows, which the replaced stage does not read."""
    path = data / "features" / "symbol=BTC-USD" / "date=2026-01-05" / "features.parquet"
    path.parent.mkdir(parents=True)
    path.touch()
