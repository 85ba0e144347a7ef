"""Make what the serving benchmark serves and sends: a champion, the usual pickle, requests.

``python -m benchmarks.serving_models FOLDER`` makes them in a process of its own, so that the one
that measures holds neither MLflow nor scikit-learn. The registry is that of the environment.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import GradientBoostingClassifier
from threadpoolctl import threadpool_limits

from benchmarks.core import day_of_records, kernel_features
from benchmarks.month import SYMBOL
from benchmarks.serving_names import CONTRACT, INPUTS, PICKLE_FILE
from volatility import registry
from volatility.bundle import Bundle
from volatility.dataset import Dataset, assemble
from volatility.derive import derive
from volatility.feature_table import FEATURE_NAMES, INDEX, MODEL_INPUTS
from volatility.features import FeatureFrame
from volatility.model import fit_bundle
from volatility.settings import Settings, Train

FOUR = ("midprice", "spread", "trade_intensity", "volatility_30s")
KINDS = {CONTRACT: FOUR, INPUTS: MODEL_INPUTS}
ROWS = 1000

Floats = npt.NDArray[np.float64]


def make(folder: Path) -> None:
    """Fit both models on a simulated day, promote ours, and write the requests' rows."""
    settings = Settings()
    frame = FeatureFrame(SYMBOL, *kernel_features(day_of_records()))
    data = assemble([frame], settings.label)
    with threadpool_limits(1):
        bundle = fit_bundle(data, settings)
    bundle.save(folder / "bundle")
    version = registry.register(folder / "bundle", parameters={}, metrics={}).version
    registry.promote(version, evidence={"reason": "benchmark"})

    model = fit_usual(data, bundle.specification.tau, settings.train)
    (folder / PICKLE_FILE).write_bytes(pickle.dumps(model))

    chosen = np.linspace(0, len(data) - 1, ROWS).astype(int)
    for kind, names in KINDS.items():
        content = as_sent(data.rows[chosen], names)
        requests = {"rows": content, "scores": expected(bundle, content)}
        (folder / f"{kind}.json").write_text(json.dumps(requests))


def fit_usual(data: Dataset, tau: float, options: Train) -> GradientBoostingClassifier:
    """Fit the usual model: as many trees of the same size, on the four features of the contract."""
    inputs = pd.DataFrame(data.rows[:, [INDEX[name] for name in FOUR]], columns=FOUR)
    whole = inputs.notna().all(axis=1).to_numpy()  # it knows no missing value
    model = GradientBoostingClassifier(
        learning_rate=options.learning_rate,
        n_estimators=options.iterations,
        max_leaf_nodes=options.max_leaf_nodes,
        min_samples_leaf=options.min_samples_leaf,
        subsample=0.1,  # ten times faster to fit, as slow to score
        random_state=options.seed,
    )
    spikes = np.asarray(data.values) >= tau
    return model.fit(inputs[whole], spikes[whole])


def as_sent(rows: Floats, names: Sequence[str]) -> list[dict[str, float]]:
    """Lay float64[n, features] rows out as a client would send them, without what is missing.

    >>> as_sent(np.array([[68000.5, np.nan]]), ("midprice", "spread"))
    [{'midprice': 68000.5}]
    """
    columns = [INDEX[name] for name in names]
    return [
        {name: value for name, value in zip(names, row, strict=True) if value == value}
        for row in rows[:, columns].tolist()
    ]


def expected(bundle: Bundle, content: Sequence[dict[str, Any]]) -> list[float]:
    """Score what is sent without any server, for the service to be held against."""
    rows = np.full((len(content), len(FEATURE_NAMES)), np.nan)
    for place, row in enumerate(content):
        for name, value in row.items():
            rows[place, INDEX[name]] = value
    derive(rows)
    scores: list[float] = bundle.score(rows).tolist()
    return scores


if __name__ == "__main__":
    make(Path(sys.argv[1]))
