"""Decide whether a challenger has earned to serve: on rows that neither model has seen."""

from __future__ import annotations

import numpy as np

from volatility.bundle import Bundle
from volatility.evaluation import (
    Json,
    against_baselines,
    clean,
    effective_windows,
    resample,
    unseen,
)
from volatility.metrics import scorecard
from volatility.settings import Settings
from volatility.training import Predictions

LEAST_WINDOWS = 30  # independent windows: with fewer, no interval means anything


def gate(
    challenger: Bundle,
    held_out: Predictions,
    settings: Settings,
    champion: tuple[str, Bundle] | None,
) -> Json:
    """Hold a challenger against the best baseline and the champion on its held-out rows.

    Parameters
    ----------
    held_out : Predictions
        Rows after the challenger's training window, scored by it and by the baselines.
    champion : (version, bundle), optional
        The model that serves; rows of its own training window are left out for both.

    Returns
    -------
    dict
        ``held_out`` of evaluation.json: metrics, paired differences, ``earned``, ``reasons``.
    """
    horizon = challenger.specification.horizon_seconds
    reasons = []
    if champion is not None:
        held_out = held_out.take(unseen(champion[1], held_out.data.time))
    data, spikes = held_out.data, held_out.spikes
    windows = effective_windows(data, horizon) if len(data) else 0
    if windows < LEAST_WINDOWS or not spikes.any():
        return {
            "rows": len(data),
            "effective_windows": windows,
            "base_rate": None,
            "models": {},
            "ml_vs_best_baseline": None,
            "ml_vs_champion": None,
            "earned": False,
            "reasons": [
                (
                    f"{windows} independent windows that no compared model has seen are too few"
                    f" or without spikes ({LEAST_WINDOWS} are needed)"
                )
            ],
        }
    others = {}
    if champion is not None:
        others["champion"] = champion[1].as_variant("ml").score(data.rows)
    drawn = resample(held_out, settings, horizon, others)
    baseline = against_baselines(drawn)
    if not baseline["interval"][0] > 0.0:
        reasons.append(f"does not beat {baseline['baseline']} beyond doubt")
    against_champion = None
    if champion is not None:
        found = drawn.difference("ml", "champion")
        against_champion = {
            "champion": champion[0],
            "difference": found.difference,
            "interval": list(found.interval),
        }
        if not found.interval[0] > 0.0:
            reasons.append(f"does not beat champion {champion[0]} beyond doubt")
    result = clean(
        {
            "rows": len(data),
            "effective_windows": windows,
            "base_rate": float(np.mean(spikes)),
            "models": {
                name: scorecard(spikes, score).__dict__ for name, score in held_out.scores.items()
            },
            "ml_vs_best_baseline": baseline,
            "ml_vs_champion": against_champion,
            "earned": not reasons,
            "reasons": reasons,
        }
    )
    return dict(result)
