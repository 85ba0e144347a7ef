"""Build a small bundle from random rows: a real model in a second, for tests of what holds one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import msgspec
import numpy as np
import numpy.typing as npt

from volatility.dataset import Dataset
from volatility.features.table import FEATURE_NAMES, INDEX
from volatility.models.bundle import Bundle
from volatility.models.fit import fit_bundle
from volatility.models.prior import shipped
from volatility.models.storage import forecasters_from_arrays, forecasters_to_arrays
from volatility.settings import Features, Settings
from volatility.units import SECOND

START_NS = 1_775_337_225 * SECOND  # on the grid of training rows
STRIDE = 15
HORIZONS = (60, 300, 900)
SCALE = 1e-5  # volatility per root second: a spike level that the simulated market passes often
OTHER_RULES = Features(min_baseline_seconds=400, min_coverage=0.5)

Arrays = dict[str, np.ndarray]


def random_rows(count: int, seed: int = 0, missing: float = 0.1) -> npt.NDArray[np.float64]:
    """Return float64[count, features] positive rows, a share of their values missing."""
    random = np.random.default_rng(seed)
    rows = random.lognormal(0.0, 1.0, (count, len(FEATURE_NAMES)))
    for name in FEATURE_NAMES:
        if "volatility_" in name and "ratio" not in name:
            rows[:, INDEX[name]] *= SCALE
    rows[random.random(rows.shape) < missing] = np.nan
    return rows


def random_dataset(
    count: int = 1_000, seed: int = 0, symbols: tuple[str, ...] = ("BTC-USD",)
) -> Dataset:
    """Return labelled random rows in which recent volatility says something of what follows."""
    random = np.random.default_rng(seed + 1000)
    rows = random_rows(count, seed)
    warm = INDEX["realised_volatility_900s"]  # known in every row that training sees
    rows[:, warm] = np.nan_to_num(rows[:, warm], nan=SCALE)
    level = np.nan_to_num(rows[:, INDEX["ewma_volatility_60s"]], nan=SCALE)
    noise = random.gamma(5.0, 0.2, (count, len(HORIZONS)))
    steps = np.arange(count) // len(symbols)
    return Dataset(
        symbols=symbols,
        horizons=HORIZONS,
        symbol=np.arange(count, dtype=np.int64) % len(symbols),
        time=START_NS + steps * STRIDE * SECOND,
        rows=rows,
        variance=(level**2)[:, None] * noise,
    )


@cache
def small_bundle(seed: int = 0, symbols: tuple[str, ...] = ("BTC-USD",)) -> Bundle:
    """Fit a bundle on random rows; another seed is another model."""
    return fit_bundle(random_dataset(seed=seed, symbols=symbols), Settings(), shipped())


def arrays_of(bundle: Bundle) -> Arrays:
    """Return copies of the arrays of a bundle's forecasters."""
    return {name: np.array(a) for name, a in forecasters_to_arrays(bundle.forecasters).items()}


def with_arrays(bundle: Bundle, arrays: Arrays) -> Bundle:
    """Return the bundle with these arrays instead."""
    spec = bundle.specification
    found = forecasters_from_arrays(arrays, spec.models, len(spec.symbols), len(spec.horizons))
    return replace(bundle, forecasters=found)


def under(bundle: Bundle, rules: Features) -> Bundle:
    """Return the bundle as if it had been trained under other feature rules."""
    return replace(
        bundle, specification=msgspec.structs.replace(bundle.specification, features=rules)
    )
