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
from volatility.evaluation.blocks import symbol_weights
from volatility.evaluation.bootstrap import Draws, stratified_precision
from volatility.evaluation.predictions import realised_bps, unseen
from volatility.evaluation.scores import brier, calibration_error, qlike_bps, roc_auc
from volatility.features.engine import build_features, read_features
from volatility.lake.lake import Lake
from volatility.models.bundle import Bundle
from volatility.records.prediction import PREDICTION_SCHEMA
from volatility.settings import load

Figures = dict[str, float]
MEASURES = ("qlike", "pr_auc", "brier", "roc_auc", "calibration_error")


@dataclass(frozen=True)
class Offline:
    """Represent the rows with a known outcome, the base rate, and each model's figures on them."""

    rows: int
    base_rate: float
    models: dict[str, Figures]


def evaluate(folder: Path, scratch: Path) -> Offline:
    """Build the features of the whole lake again and score the rows that were predicted live."""
    settings = load(folder / "params.yaml")
    build_features(Lake(folder / "data" / "ticks"), scratch, settings.features, progress=False)
    places = registry.versions_by_alias()
    champion = registry.resolve(places["champion"]).bundle
    challenger = registry.resolve(places["challenger"]).bundle
    data = assemble(read_features(scratch), settings)
    for bundle in (champion, challenger):
        data = data.take(unseen(bundle, data.time))
    scored = [_predicted(folder, places[alias]) for alias in ("champion", "challenger")]
    names = [data.symbols[place] for place in data.symbol]
    steps = zip(names, data.time.tolist(), strict=True)
    kept = [n for n, step in enumerate(steps) if all(step in version for version in scored)]
    rows = data.take(np.array(kept, dtype=np.int64))
    if not len(rows):
        return Offline(0, 0.0, {})
    place = champion.places(rows.symbols)[rows.symbol]
    weight = symbol_weights(rows.symbol)
    real = realised_bps(rows)[:, 0]
    spikes = real >= np.array(champion.specification.spike_levels_bps)[place, 0]

    def figures(bundle: Bundle) -> Figures:
        made = bundle.forecast(rows.rows, bundle.places(rows.symbols)[rows.symbol])
        score, block = made.exceedance[:, 0], np.zeros(len(rows), dtype=np.int64)
        once = Draws(np.ones((1, 1)))
        ranked = stratified_precision(spikes, score, weight, rows.symbol, block, once)
        loss = qlike_bps(made.volatility_bps[:, 0], real)
        return {
            "qlike": float(np.average(loss, weights=weight)),
            "pr_auc": ranked.point,
            "brier": float(np.average(brier(spikes, score), weights=weight)),
            "roc_auc": roc_auc(spikes, score, weight),
            "calibration_error": calibration_error(spikes, score, weight),
        }

    bundles = {
        "champion": champion,
        "challenger": challenger,
        "baseline": champion.as_variant("baseline"),
    }
    base_rate = float(np.average(spikes, weights=weight))
    return Offline(len(rows), base_rate, {name: figures(b) for name, b in bundles.items()})


def live(folder: Path) -> dict[str, Any]:
    """Read the newest figures that the performance flow wrote."""
    path = folder / "reports" / "performance" / "latest.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _predicted(folder: Path, version: str) -> set[tuple[str, int]]:
    """Return the (symbol, step) of every captured prediction of a version."""
    lake = Lake(folder / "data" / "predictions", PREDICTION_SCHEMA)
    found: set[tuple[str, int]] = set()
    for symbol in lake.symbols():
        for batch in lake.scan(symbol, ["time", "model_version"]):
            table = pa.Table.from_batches([batch])
            mine = table.column("model_version").to_pylist()
            time = table.column("time").cast(pa.int64()).to_pylist()
            found |= {(symbol, t) for t, v in zip(time, mine, strict=True) if v == version}
    return found
