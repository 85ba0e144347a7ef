"""Evaluate offline what was predicted live: another way to the same rows and the same figures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from volatility import registry
from volatility.dataset import assemble
from volatility.features import build_features, read_features
from volatility.lake import Lake
from volatility.metrics import Scorecard, scorecard
from volatility.prediction import PREDICTION_SCHEMA
from volatility.settings import load


@dataclass(frozen=True)
class Offline:
    """Hold the rows with a known outcome, the base rate, and each model's figures on them."""

    rows: int
    base_rate: float
    models: dict[str, Scorecard]


def evaluate(folder: Path, scratch: Path) -> Offline:
    """Build the features of the whole lake anew and score the rows that were predicted live."""
    settings = load(folder / "params.yaml")
    build_features(Lake(folder / "data" / "ticks"), scratch, settings.features, progress=False)
    places = registry.versions_by_alias()
    champion = registry.resolve(places["champion"]).bundle
    challenger = registry.resolve(places["challenger"]).bundle
    data = assemble(read_features(scratch), settings.label)
    scored = [_predicted(folder, places[alias]) for alias in ("champion", "challenger")]
    names = [data.symbols[place] for place in data.symbol]
    steps = zip(names, data.time.tolist(), strict=True)
    kept = [n for n, step in enumerate(steps) if all(step in version for version in scored)]
    rows = data.take(np.array(kept, dtype=np.int64))
    spikes = rows.values >= champion.specification.tau
    bundles = {
        "champion": champion,
        "challenger": challenger,
        "baseline": champion.as_variant("baseline"),
    }
    return Offline(
        len(rows),
        float(spikes.mean()) if len(rows) else 0.0,
        {n: scorecard(spikes, b.score(rows.rows)) for n, b in bundles.items()} if len(rows) else {},
    )


def live(folder: Path) -> dict[str, Any]:
    """Read the newest figures that the performance flow wrote."""
    path = folder / "reports" / "performance" / "latest.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _predicted(folder: Path, version: str) -> set[tuple[str, int]]:
    """Give the (symbol, step) of every captured prediction of a version."""
    lake = Lake(folder / "data" / "predictions", PREDICTION_SCHEMA)
    found: set[tuple[str, int]] = set()
    for symbol in lake.symbols():
        for batch in lake.scan(symbol, ["time", "model_version"]):
            table = pa.Table.from_batches([batch])
            mine = table.column("model_version").to_pylist()
            time = table.column("time").cast(pa.int64()).to_pylist()
            found |= {(symbol, t) for t, v in zip(time, mine, strict=True) if v == version}
    return found
