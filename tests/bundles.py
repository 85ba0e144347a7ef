"""Build a small bundle from random rows: a real model in a second, for tests of what holds one."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier

from volatility import trees
from volatility.baselines import Baseline
from volatility.bundle import FORMAT, Bundle, Provenance, Specification
from volatility.feature_table import FEATURE_NAMES, INDEX, MODEL_INPUTS, table_digest

SECOND = 1_000_000_000
START_NS = 1_775_337_223 * SECOND


def random_rows(count: int, seed: int = 0, missing: float = 0.1) -> npt.NDArray[np.float64]:
    """Give float64[count, features] positive rows, a share of their values missing."""
    random = np.random.default_rng(seed)
    rows = random.lognormal(0.0, 1.0, (count, len(FEATURE_NAMES)))
    rows[random.random(rows.shape) < missing] = np.nan
    return rows


def small_bundle(seed: int = 0) -> Bundle:
    """Fit a bundle on random rows; another seed is another model."""
    rows = random_rows(600, seed)
    columns = [INDEX[name] for name in MODEL_INPUTS]
    inputs = rows[:, columns]
    signal = np.nan_to_num(rows[:, INDEX["volatility_ratio_60s"]], nan=1.0)
    spikes = signal + np.random.default_rng(seed).normal(0.0, 0.5, len(rows)) > 2.0
    model = HistGradientBoostingClassifier(max_iter=10, max_leaf_nodes=5, random_state=seed)
    model.fit(inputs, spikes)
    baseline = Baseline(
        name="persistence",
        inputs=("realised_volatility_60s",),
        relative=True,
        means=(0.0,),
        coefficients=(1.0 + seed / 10,),
        intercept=-2.0,
    )
    specification = Specification(
        format=FORMAT,
        feature_digest=table_digest(),
        inputs=MODEL_INPUTS,
        label_kind="relative",
        horizon_seconds=60,
        tau=1.5,
        slope=1.0,
        intercept=-0.25,
        threshold=0.4,
        baselines=(baseline,),
        best_baseline="persistence",
        baseline_threshold=0.3,
        base_rate=float(spikes.mean()),
        lowest=tuple(np.nanmin(inputs, axis=0).tolist()),
        highest=tuple(np.nanmax(inputs, axis=0).tolist()),
        may_be_missing=(True,) * len(MODEL_INPUTS),
        train_start=START_NS,
        train_stop=START_NS + len(rows) * SECOND,
        train_rows=len(rows),
        symbols=("BTC-USD",),
        data_digest=f"{seed:064d}",
        parameters={"train": {"seed": seed}},
        example_rows=(),
        example_scores=(),
        provenance=Provenance("2026-04-04T21:13:43Z", "0" * 40, {"numpy": np.__version__}),
    )
    bundle = Bundle(specification, trees.from_classifier(model))
    examples = random_rows(3, seed + 1)
    return Bundle(
        msgspec.structs.replace(
            specification,
            example_rows=tuple(
                tuple(None if np.isnan(v) else float(v) for v in row) for row in examples
            ),
            example_scores=tuple(bundle.score(examples).tolist()),
        ),
        bundle.trees,
    )
