"""Load the serving model and forecast rows with it."""

from __future__ import annotations

import importlib.metadata
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from service.bodies import Version
from service.wire import Answer, Horizon, Quantiles, Reason, decode_rows
from volatility import registry
from volatility.features import FEATURE_NAMES, FEATURES
from volatility.models import Bundle, Variant, contributions
from volatility.registry import UNREGISTERED, RegisteredModel, packaging
from volatility.settings import Environment
from volatility.units import Floats

REASONS = 3  # reasons per row: those with the largest contributions
PACKAGED = Path(__file__).parent / packaging.MODEL_FOLDER
YEAR_SECONDS = 31_536_000.0
UNKNOWN = "unknown"  # key in spike levels by symbol; symbols have no lower-case letters


@dataclass(frozen=True)
class Served:
    """Represent the serving model and why it was chosen.

    ``bundle`` is set to the serving variant; ``reason`` explains why it is not ``ml``, if so.
    """

    bundle: Bundle
    model: RegisteredModel
    reason: str | None

    @property
    def variant(self) -> Variant:
        """Variant of the bundle that serves."""
        return self.bundle.variant

    @property
    def shipped(self) -> bool:
        """Whether the shipped prior serves, to which every symbol is unknown."""
        return not self.bundle.specification.symbols

    def predict(
        self,
        rows: Floats,
        symbol: str | None,
        started: float,
        *,
        explain: bool = False,
        steps: list[int] | None = None,
    ) -> Answer:
        """Forecast rows of one symbol.

        Parameters
        ----------
        rows : float64[n, features]
        symbol : str, optional
            None selects the training symbol if there is only one. An unknown symbol is forecast
            with the parameters that all symbols share.
        started : float
            ``perf_counter`` at the start of the request.
        explain : bool
            Whether to add reasons.
        steps : list of int, optional
            Times of the rows [ns since the epoch], if they were built from ticks.
        """
        bundle = self.bundle
        place = bundle.place(symbol)
        symbols = np.full(len(rows), place)
        found = bundle.forecast(rows, symbols)
        scores: list[float] = found.exceedance[:, 0].tolist()
        threshold = bundle.threshold
        make, annual, levels = self._constants
        level = levels[place]
        forecasts = [
            make(
                *[
                    Horizon(bps, bps * scale, Quantiles(*spread), spike)
                    for bps, scale, spread, spike in zip(
                        volatility, annual, quantiles, level, strict=False
                    )
                ]
            )
            for volatility, quantiles in zip(
                found.volatility_bps.tolist(), found.quantiles_bps.tolist(), strict=False
            )
        ]
        return Answer(
            scores[-1],
            scores,
            [score >= threshold for score in scores],
            threshold,
            bundle.out_of_distribution(rows).tolist(),
            forecasts,
            self.model.name,
            self.model.version,
            bundle.variant,
            self.model.version,
            _now(),
            round((perf_counter() - started) * 1e3, 4),
            UNSET if steps is None else steps,
            self._reasons(rows, symbols) if explain else UNSET,
        )

    @cached_property
    def _constants(self) -> tuple[Any, list[float], list[tuple[float, ...]]]:
        """Values shared by all responses.

        A type with one field per horizon, which msgspec encodes faster than a dictionary; the
        annualised per cent of one basis point over each horizon; spike levels by symbol index,
        with the unknown symbol last, where index -1 finds it.
        """
        spec = self.bundle.specification
        names = {f"over_{h}": f"{h}s" for h in spec.horizons}
        make = msgspec.defstruct(
            "Forecasts", [(name, Horizon) for name in names], rename=names, frozen=True, gc=False
        )
        annual = [100.0 / 1e4 * (YEAR_SECONDS / h) ** 0.5 for h in spec.horizons]
        return make, annual, list(spec.spike_levels_bps)

    def _reasons(self, rows: Floats, symbols: npt.NDArray[np.int64]) -> list[list[Reason]]:
        """Return the features with the largest non-zero contributions to each row."""
        parts = contributions(self.bundle, rows, symbols).parts
        order = np.argsort(-np.abs(parts), axis=1, kind="stable")[:, :REASONS]
        weights = np.take_along_axis(parts, order, axis=1).tolist()
        values = np.take_along_axis(rows, order, axis=1).tolist()
        return [
            [
                Reason(FEATURE_NAMES[column], None if value != value else value, weight)
                for column, value, weight in zip(*row, strict=True)
                if weight
            ]
            for row in zip(order.tolist(), values, weights, strict=True)
        ]

    def warm_up(self) -> None:
        """Compile, or load from the cache, the code that the first requests need."""
        for body in (
            b'{"rows":[{}]}',
            b'{"rows":[{},{}]}',
        ):  # two memory layouts
            self.predict(decode_rows(body, 2), None, 0.0, explain=True)

    def answers(self) -> bool:
        """Check that the model works in this process by forecasting its stored example."""
        if self.variant == ("prior" if self.shipped else "ml"):
            return self.bundle.reproduces()
        scores = self.bundle.score(*self.bundle.examples())
        return bool(np.all((scores >= 0.0) & (scores <= 1.0)))

    def describe(self) -> Version:
        """Return the body of ``GET /version``."""
        spec = self.bundle.specification
        inputs = set(spec.inputs)
        return {
            "name": self.model.name,
            "version": self.model.version,
            "alias": self.model.alias,
            "variant": self.variant,
            "baseline": self.bundle.model if self.variant == "baseline" else None,
            "reason": self.reason,
            "threshold": self.bundle.threshold,
            "forecast": {
                "horizons_seconds": list(spec.horizons),
                "spike_levels_bps": {
                    symbol: dict(zip((f"{h}s" for h in spec.horizons), levels, strict=True))
                    for symbol, levels in zip(
                        (*spec.symbols, UNKNOWN), spec.spike_levels_bps, strict=True
                    )
                },
                "best_simple": spec.best_simple or None,
                "recipe": spec.recipe or None,
            },
            "training": {
                "start": _iso(datetime.fromtimestamp(spec.train_start / 1e9, UTC)),
                "stop": _iso(datetime.fromtimestamp(spec.train_stop / 1e9, UTC)),
                "rows": spec.train_rows,
                "symbols": list(spec.symbols),
                "base_rate": spec.base_rate,
                "data_digest": spec.data_digest,
                "created": spec.provenance.created,
            },
            "metrics": self.model.metrics,
            "features": [
                {
                    "name": feature.name,
                    "unit": feature.unit,
                    "window_seconds": feature.window_seconds,
                    "model_input": feature.name in inputs,
                    "meaning": feature.meaning,
                }
                for feature in FEATURES
            ],
            "digest": self.bundle.digest,
            "run_id": self.model.run_id,
            "git_commit": spec.provenance.git_commit,
            "package_versions": {
                "trained_with": spec.provenance.versions,
                "serving_with": {n: _installed(n) for n in spec.provenance.versions},
            },
        }


def load(environment: Environment, folder: Path = PACKAGED, *, reason: str | None = None) -> Served:
    """Load the model in a folder, as the variant chosen by the environment.

    Parameters
    ----------
    environment : Environment
    folder : Path
        Folder written by ``packaging.write_packaged``.
    reason : str, optional
        Why the registry chose this model, if it gave a reason.

    Raises
    ------
    RegistryError
        If the model is refused.
    """
    model = packaging.read_packaged(folder)
    if not model.bundle.specification.symbols:
        return Served(model.bundle, model, UNREGISTERED)
    found = environment.model_alias in (model.alias, model.version)
    variant, rule = registry.variant_of(environment, found=found, demotion=reason)
    return Served(model.bundle.as_variant(variant), model, rule)


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _now() -> str:
    """Return the UTC time to the millisecond, in a tenth of the time ``datetime`` takes."""
    milliseconds = time.time_ns() // 1_000_000
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
