"""DESIGN 6.4: on noise the whole path scores the base rate, and skill on noise stops training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest

from volatility import placebo, stages
from volatility.dataset import Dataset, assemble
from volatility.model import TrainingError
from volatility.placebo import Placebo, run_placebo
from volatility.settings import Evaluate, Settings, Simulate, Train

QUICK = Settings(
    simulate=Simulate(hours=4.0),
    evaluate=Evaluate(resamples=200, placebo_hours=8.0),
    train=Train(folds=2, iterations=60),
)


@pytest.mark.parametrize("seed", [1, 2])
def test_noise_scores_the_base_rate(seed: int) -> None:
    found = run_placebo(QUICK, seed=seed)
    assert found.passed, found
    assert 0.05 < found.base_rate < 0.2
    assert 0.0 < found.standard_error < 0.05


def test_a_label_that_overlaps_its_features_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaking(frames: list, label: object) -> Dataset:
        data = assemble(frames, QUICK.label)
        past = data.frames[0].column("volatility_ratio_60s")
        # The label looks 30 s back instead of only forward: the commonest leak there is.
        return dataclasses.replace(data, values=data.values + np.nan_to_num(past[data.frame_row]))

    monkeypatch.setattr(placebo, "assemble", leaking)
    assert not run_placebo(QUICK, seed=1).passed


def test_scores_from_the_future_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def shuffled(time: np.ndarray, folds: int, *_: object) -> list:
        from volatility.splits import Fold

        order = np.random.default_rng(0).permutation(len(time))
        parts = np.array_split(order, folds + 1)
        return [Fold(np.sort(np.setdiff1d(order, part)), np.sort(part)) for part in parts[1:]]

    monkeypatch.setattr("volatility.training.walk_forward", shuffled)
    options = msgspec.structs.replace(
        QUICK.train, iterations=300, max_leaf_nodes=64, min_samples_leaf=5, l2_regularization=0.0
    )
    assert not run_placebo(msgspec.structs.replace(QUICK, train=options), seed=1).passed


def test_training_registers_nothing_when_the_placebo_has_skill(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(stages, "run_placebo", lambda _: Placebo(0.4, 0.1, 0.01))
    paths = stages.Paths(tmp_path / "t", tmp_path / "f", tmp_path / "m", tmp_path / "r")
    stages.simulate_ticks(QUICK, paths, progress=False)
    stages.make_features(QUICK, paths, progress=False)
    with pytest.raises(TrainingError, match="nothing was registered"):
        stages.train(QUICK, paths, progress=False)
    assert not paths.model.exists()
    assert not (tmp_path / "mlflow.db").exists()
