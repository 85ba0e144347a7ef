"""Choose the model that serves, load it, and score rows with it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from service.wire import Answer, Explained, Reason, decode_rows
from volatility import packaging, registry
from volatility.bundle import Bundle
from volatility.feature_table import FEATURE_NAMES, FEATURES, INDEX
from volatility.registry import RegisteredModel
from volatility.settings import Environment

Floats = npt.NDArray[np.float64]

REASONS = 3  # of each row, the weightiest
PACKAGED = Path(__file__).parent / packaging.MODEL_FOLDER


@dataclass(frozen=True)
class Served:
    """Hold the model that answers, and why it is this one.

    ``bundle`` is set to its variant; ``reason`` says why the baseline serves where it does.
    """

    bundle: Bundle
    model: RegisteredModel
    reason: str | None

    @property
    def variant(self) -> Literal["ml", "baseline"]:
        """Tell whether the model or its best baseline answers."""
        return self.bundle.variant

    def predict(self, rows: Floats, started: float, *, explain: bool = False) -> Answer:
        """Score float64[n, features] rows; ``started`` is the ``perf_counter`` of the request."""
        bundle = self.bundle
        scores = bundle.score(rows)
        threshold = bundle.threshold
        reasons = {"reasons": self.reasons(rows)} if explain else {}
        return (Explained if explain else Answer)(
            **reasons,
            volatility_score=float(scores[-1]),
            scores=scores.tolist(),
            spike=(scores >= threshold).tolist(),
            threshold=threshold,
            out_of_distribution=bundle.out_of_distribution(rows).tolist(),
            model_name=self.model.name,
            model_version=self.model.version,
            model_variant=bundle.variant,
            version=self.model.version,
            ts=_iso(datetime.now(UTC)),
            latency_ms=round((perf_counter() - started) * 1e3, 4),
        )

    def reasons(self, rows: Floats) -> list[list[Reason]]:
        """Give each row's weightiest inputs, with what they add to the log odds of its score.

        An input that adds nothing is no reason.
        """
        names, parts = self.bundle.contributions(rows)
        columns = [INDEX[name] for name in names]
        order = np.argsort(-np.abs(parts), axis=1, kind="stable")[:, :REASONS]
        found = []
        for row, part, places in zip(rows.tolist(), parts.tolist(), order.tolist(), strict=True):
            values = [row[columns[k]] for k in places]
            found.append(
                [
                    Reason(names[k], None if value != value else value, part[k])
                    for k, value in zip(places, values, strict=True)
                    if part[k]
                ]
            )
        return found

    def warm_up(self) -> None:
        """Compile, or read from the cache, what the first requests would wait for."""
        for body in (b'{"rows":[{}]}', b'{"rows":[{},{}]}'):  # two memory layouts, compiled apart
            self.predict(decode_rows(body, 2), 0.0, explain=True)

    def answers(self) -> bool:
        """Score the bundle's stored example, as a check that it works in this process."""
        example = self.bundle.specification.example_rows
        rows = np.array([[np.nan if v is None else v for v in row] for row in example])
        scores = self.bundle.score(rows.reshape(-1, len(FEATURE_NAMES)))
        if self.variant == "ml":
            return scores.tolist() == list(self.bundle.specification.example_scores)
        return bool(np.all((scores >= 0.0) & (scores <= 1.0)))

    def describe(self) -> dict[str, Any]:
        """Say what serves: the body of ``GET /version``."""
        spec = self.bundle.specification
        inputs = set(spec.inputs)
        return {
            "name": self.model.name,
            "version": self.model.version,
            "alias": self.model.alias,
            "variant": self.variant,
            "baseline": spec.best_baseline if self.variant == "baseline" else None,
            "reason": self.reason,
            "threshold": self.bundle.threshold,
            "label": {
                "kind": spec.label_kind,
                "tau": spec.tau,
                "horizon_seconds": spec.horizon_seconds,
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


def choose(environment: Environment, packaged: Path = PACKAGED) -> Served:
    """Load the model that the environment asks for, from a folder or the registry.

    A packaged model needs no registry. Otherwise ``MODEL_ALIAS`` names the version; where no
    version carries it, the newest version's baseline serves.

    Raises
    ------
    RegistryError
        When there is no version at all, the registry cannot be reached, or the version is refused.
    """
    if packaging.is_packaged(packaged):
        return _variant(packaging.read_packaged(packaged), environment)
    return _variant(registry.serving(), environment)


def _variant(model: RegisteredModel, environment: Environment) -> Served:
    """Serve ``ml`` only where it is wanted and the version has the alias that is wanted."""
    reason = None
    if environment.model_variant == "baseline":
        reason = "MODEL_VARIANT is baseline"
    elif environment.model_alias not in (model.alias, model.version):
        wanted = environment.model_alias
        reason = (
            "no ml version has earned champion"
            if wanted == registry.CHAMPION
            else f"no version has the alias {wanted}"
        )
    variant: Literal["ml", "baseline"] = "ml" if reason is None else "baseline"
    return Served(model.bundle.as_variant(variant), model, reason)


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
