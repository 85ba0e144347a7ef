"""Store forecasters as named arrays, and rebuild them with checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from volatility.features import FEATURE_NAMES
from volatility.models import trees
from volatility.models.forecaster import Forecaster, Linear, Pooled, pack, without_trees
from volatility.models.inputs import GARCH
from volatility.models.law import GRID, LEVELS, Law
from volatility.models.trees import Trees, empty

Arrays = dict[str, npt.NDArray[Any]]
ML, PRIOR = "ml", "prior"  # the forecasters with trees


def forecasters_to_arrays(forecasters: dict[str, Forecaster]) -> Arrays:
    """Return all arrays by name, with the pooled part and the own trees stored once."""
    result: Arrays = {}
    for name, forecaster in forecasters.items():
        result |= {f"{name}.{key}": array for key, array in forecaster.arrays().items()}
    pooled = forecasters[PRIOR].pooled
    result |= {"pooled.columns": pooled.columns, "pooled.coefficients": pooled.coefficients}
    result |= _trees_to_arrays("pooled", pooled.trees)
    if ML in forecasters:
        result |= _trees_to_arrays("own", forecasters[ML].own)
    return result


def forecasters_from_arrays(
    arrays: Arrays, names: Sequence[str], symbols: int, horizons: int
) -> dict[str, Forecaster]:
    """Rebuild the forecasters.

    Raises
    ------
    ValueError
        If an array is missing, has the wrong type or shape, or contains an index out of bounds.
    """
    pooled = Pooled(
        _integers(arrays, "pooled.columns", (None,)),
        _floats(arrays, "pooled.coefficients", (horizons, None)),
        tuple(_trees_from_arrays(arrays, "pooled", h) for h in range(horizons)),
    )
    if pooled.coefficients.shape[1] != len(pooled.columns) + 1:
        raise ValueError("the numbers of coefficients and inputs of the pooled part differ")
    _bounded(pooled.columns, len(FEATURE_NAMES), "pooled.columns")
    result = {}
    for name in names:
        count = 0 if name == PRIOR else symbols
        linear, law = _linear(arrays, name, count, horizons), _law(arrays, name, count, horizons)
        used = arrays.get(f"{name}.own")
        if used is None or used.dtype != np.bool_ or used.shape != (count + 1, horizons):
            raise ValueError(f"array '{name}.own' is missing, or has the wrong type or shape")
        if name in (ML, PRIOR):
            own = tuple(
                _trees_from_arrays(arrays, "own", h) if name == ML else empty()
                for h in range(horizons)
            )
            result[name] = Forecaster(linear, pooled, pack(pooled, own, used), law, own)
        else:
            none, packed = without_trees(horizons, count)
            result[name] = Forecaster(linear, none, packed, law)
    return result


def _linear(arrays: Arrays, name: str, symbols: int, horizons: int) -> Linear:
    kinds = _integers(arrays, f"{name}.linear.kinds", (symbols + 1, horizons, None))
    shape = kinds.shape
    linear = Linear(
        kinds,
        _integers(arrays, f"{name}.linear.columns", shape),
        _floats(arrays, f"{name}.linear.coefficients", (*shape[:2], shape[2] + 1)),
        _floats(arrays, f"{name}.linear.garch", (*shape[:2], 2)),
        _floats(arrays, f"{name}.linear.level", (symbols + 1,)),
    )
    _bounded(kinds, GARCH + 1, f"{name}.linear.kinds")
    _bounded(linear.columns, len(FEATURE_NAMES), f"{name}.linear.columns")
    if not (linear.level > 0.0).all():
        raise ValueError(f"array '{name}.linear.level' is not positive")
    return linear


def _law(arrays: Arrays, name: str, symbols: int, horizons: int) -> Law:
    coordinates = _floats(arrays, f"{name}.law.coordinates", (symbols + 1, horizons, 4))
    corners = (len(GRID), len(GRID), len(LEVELS))
    table = _floats(arrays, f"{name}.law.table", (symbols + 1, horizons, *corners))
    if np.any(np.diff(table, axis=-1) < 0.0) or np.any(table < 0.0):
        raise ValueError(f"array '{name}.law.table' is not sorted")
    if not (coordinates[..., 1::2] > 0.0).all():
        raise ValueError(f"array '{name}.law.coordinates' has a non-positive spread")
    return Law(coordinates, table)


def _floats(arrays: Arrays, name: str, shape: tuple[int | None, ...]) -> npt.NDArray[np.float64]:
    found = _array(arrays, name, np.dtype(np.float64), shape)
    if not np.isfinite(found).all():
        raise ValueError(f"array {name!r} has a non-finite value")
    return found


def _integers(arrays: Arrays, name: str, shape: tuple[int | None, ...]) -> npt.NDArray[np.int64]:
    return _array(arrays, name, np.dtype(np.int64), shape)


def _array(
    arrays: Arrays, name: str, kind: np.dtype[Any], shape: tuple[int | None, ...]
) -> npt.NDArray[Any]:
    found = arrays.get(name)
    fits = (
        found is not None
        and found.dtype == kind
        and found.ndim == len(shape)
        and all(want in (None, size) for want, size in zip(shape, found.shape, strict=True))
    )
    if found is None or not fits:
        raise ValueError(f"array {name!r} is missing, or not {kind} with its shape")
    return np.ascontiguousarray(found)


def _bounded(array: npt.NDArray[np.int64], stop: int, name: str) -> None:
    if np.any((array < 0) | (array >= stop)):
        raise ValueError(f"array {name!r} has an index out of bounds")


def _trees_to_arrays(part: str, ensembles: Sequence[Trees]) -> Arrays:
    return {
        f"{part}.trees.{place}.{key}": array
        for place, ensemble in enumerate(ensembles)
        for key, array in ensemble.arrays().items()
    }


def _trees_from_arrays(arrays: Arrays, part: str, place: int) -> Trees:
    prefix = f"{part}.trees.{place}."
    mine = {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}
    return trees.from_arrays(mine, len(FEATURE_NAMES))
