"""Run the whole path on a market of pure noise, where any skill is leakage."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import msgspec
import numpy as np

from volatility.dataset import assemble
from volatility.evaluation import Json, resample
from volatility.features import FeatureFrame, feature_batches
from volatility.settings import Settings
from volatility.simulate import noise
from volatility.training import train

START_NS = 1_767_571_200_000_000_000  # 2026-01-05, a Monday
STANDARD_ERRORS = 3.0


@dataclass(frozen=True)
class Placebo:
    """Hold the PR-AUC that the path reaches on noise, and the base rate it must not leave."""

    pr_auc: float
    base_rate: float
    standard_error: float

    @property
    def passed(self) -> bool:
        """Tell whether skill on noise is within three standard errors of none."""
        return abs(self.pr_auc - self.base_rate) <= STANDARD_ERRORS * self.standard_error

    def json(self) -> Json:
        """Give what evaluation.json holds."""
        return {**asdict(self), "passed": self.passed}


def run_placebo(settings: Settings, *, seed: int = 0) -> Placebo:
    """Simulate noise, build its features, label, split, train, calibrate and measure."""
    batches = noise("NOISE-USD", START_NS, settings.evaluate.placebo_hours, seed)
    parts = [(t.copy(), r.copy()) for t, r in feature_batches(batches, settings.features)]
    frame = FeatureFrame(
        "NOISE-USD", np.concatenate([t for t, _ in parts]), np.concatenate([r for _, r in parts])
    )
    # An absolute label has its own scale; noise has another, so the placebo's is relative.
    label = msgspec.structs.replace(settings.label, kind="relative")
    settings = msgspec.structs.replace(settings, label=label)
    predictions = train(assemble([frame], label), settings, progress=False).predictions
    found = resample(predictions, settings, label.horizon_seconds).difference("ml", "base_rate")
    base_rate = float(predictions.spikes.mean())
    return Placebo(base_rate + found.difference, base_rate, found.standard_error)
