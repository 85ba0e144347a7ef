"""Create the inputs of the serving benchmark: a champion, the usual pickle, and requests.

``python -m benchmarks.serving_models FOLDER`` creates them in a separate process, so that the
measuring process loads neither MLflow nor scikit-learn. The registry comes from the environment.
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
from volatility.dataset import assemble
from volatility.features import FEATURE_NAMES, INDEX, MODEL_INPUTS, FeatureFrame, derive
from volatility.models import Bundle, fit_bundle, shipped
from volatility.settings import Settings, Train
from volatility.units import Floats

FOUR = ("midprice", "spread", "trade_intensity", "volatility_30s")
KINDS = {CONTRACT: FOUR, INPUTS: MODEL_INPUTS}
ROWS = 1000


def make(folder: Path) -> None:
    """Fit both models on a simulated day, promote ours, and write the rows of the requests."""
    settings = Settings()
    frame = FeatureFrame(SYMBOL, *kernel_features(day_of_records()))
    data = assemble([frame], settings)
    with threadpool_limits(1):
        bundle = fit_bundle(data, settings, shipped())
    bundle.save(folder / "bundle")
    version = registry.register(folder / "bundle", parameters={}, metrics={}).version
    registry.promote(version, evidence={"reason": "benchmark"})

    spikes = np.sqrt(data.variance[:, 0]) >= bundle.spike_levels[0, 0]
    trees = max(len(bundle.forecaster.packed.roots), 1)
    model = fit_usual(data.rows, spikes, trees, settings.train)
    (folder / PICKLE_FILE).write_bytes(pickle.dumps(model))

    chosen = np.linspace(0, len(data) - 1, ROWS).astype(int)
    for kind, names in KINDS.items():
        content = as_sent(data.rows[chosen], names)
        requests = {"rows": content, "scores": expected(bundle, content)}
        (folder / f"{kind}.json").write_text(json.dumps(requests))


def fit_usual(
    rows: Floats, spikes: npt.NDArray[np.bool_], trees: int, options: Train
) -> GradientBoostingClassifier:
    """Fit the usual model: the same number and size of trees, on the contract's four features."""
    inputs = pd.DataFrame(rows[:, [INDEX[name] for name in FOUR]], columns=FOUR)
    whole = inputs.notna().all(axis=1).to_numpy()  # it does not support missing values
    model = GradientBoostingClassifier(
        learning_rate=options.learning_rate,
        n_estimators=trees,
        max_leaf_nodes=options.max_leaf_nodes,
        min_samples_leaf=options.min_samples_leaf,
        subsample=0.1,  # ten times faster to fit, and no faster to score
        random_state=options.seed,
    )
    return model.fit(inputs[whole], spikes[whole])


def as_sent(rows: Floats, names: Sequence[str]) -> list[dict[str, float]]:
    """Convert float64[n, features] rows to the form that a client sends, without missing values.

    >>> as_sent(np.array([[68000.5, np.nan]]), ("midprice", "spread"))
    [{'midprice': 68000.5}]
    """
    columns = [INDEX[name] for name in names]
    return [
        {name: value for name, value in zip(names, row, strict=True) if value == value}
        for row in rows[:, columns].tolist()
    ]


def expected(bundle: Bundle, content: Sequence[dict[str, Any]]) -> list[float]:
    """Score the requests without a server, for comparison with the service."""
    rows = np.full((len(content), len(FEATURE_NAMES)), np.nan)
    for place, row in enumerate(content):
        for name, value in row.items():
            rows[place, INDEX[name]] = value
    derive(rows)
    # A request without a symbol refers to the only one that the model knows.
    symbol = np.full(len(rows), bundle.place(None))
    scores: list[float] = bundle.score(rows, symbol).tolist()
    return scores


if __name__ == "__main__":
    make(Path(sys.argv[1]))
