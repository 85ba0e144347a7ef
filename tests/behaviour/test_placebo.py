"""DESIGN 7.4: nothing beats the truth on a placebo market; what leaks does, and stops training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from volatility import stages
from volatility.dataset import Dataset, assemble
from volatility.evaluation import Placebo, placebo, run_placebo
from volatility.evaluation.markets import DEVIATION, PlaceboMarket, placebo_markets
from volatility.evaluation.placebo import STANDARD_ERRORS, Skill, _wider, measure_placebo
from volatility.features.engine import FeatureFrame
from volatility.features.table import INDEX
from volatility.models.fit import TrainingError
from volatility.models.prior import shipped
from volatility.models.simple import SIMPLE
from volatility.settings import Evaluate, Settings, Simulate, Train

QUICK = Settings(
    simulate=Simulate(hours=4.0),
    evaluate=Evaluate(resamples=50, placebo_hours=6.0),
    train=Train(folds=2, stride_seconds=30),
)
TRAILING = INDEX["realised_volatility_900s"]
RECENT = INDEX["realised_volatility_30s"]
MARKETS = {"constant", "har", "sparse_1s", "sparse_10s", "sparse_30s", "together"}


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_beats_the_truth(seed: int) -> None:
    found = run_placebo(QUICK, shipped(), seed=seed)
    assert found.beaten == []
    assert set(found.skills) == MARKETS
    for models in found.skills.values():
        assert set(models) == {*SIMPLE, "ml", "prior", "baseline"}
        for skill in models.values():
            assert 0.0 < skill.standard_error < 0.5
    # Where there is something to know, who does not know it is far from the truth.
    assert found.skills["har"]["constant"].skill < -0.02
    reported = found.results()["har"]["ml"]
    assert (reported.skill, reported.passed) == (found.skills["har"]["ml"].skill, True)


@cache
def constant() -> PlaceboMarket:
    """Return two days of the market of one variance: there is nothing to know."""
    return next(iter(placebo_markets(QUICK.features, 48.0, 1)))


def relative(data: Dataset) -> Dataset:
    """Label as this project once did: what follows, over the trailing volatility."""
    over = np.square(DEVIATION / data.rows[:, TRAILING])
    return replace(data, variance=data.variance * over[:, None])


def overlapping(data: Dataset) -> Dataset:
    """Make the label look 30 s back: the most common leak."""
    past = np.square(data.rows[:, RECENT])
    return replace(data, variance=(data.variance * 60.0 + past[:, None] * 30.0) / 90.0)


def measure(label: Callable[[Dataset], Dataset], patch: pytest.MonkeyPatch) -> Placebo:
    def labelled(frames: tuple[FeatureFrame, ...], settings: Settings) -> Dataset:
        return label(assemble(frames, settings))

    patch.setattr(placebo, "assemble", labelled)
    return measure_placebo([constant()], QUICK, shipped())


def test_the_forward_label_itself_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure(lambda data: data, monkeypatch).beaten == []


def test_a_label_that_its_own_denominator_predicts_does_not_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = measure(relative, monkeypatch)
    beaten = {model for _, model, _ in found.beaten}
    # The level alone predicts the ratio, and so does whatever knows the level.
    assert {"persistence_900s", "har", "ewma_level", "baseline"} <= beaten
    assert found.skills["constant"]["persistence_900s"].skill > 0.0


def test_a_label_that_overlaps_its_features_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    beaten = {model for _, model, _ in measure(overlapping, monkeypatch).beaten}
    assert {"persistence_60s", "ewma", "har", "ml"} <= beaten


@pytest.mark.parametrize(
    ("skill", "area", "passed"),
    [
        (0.029, 0.0, True),
        (0.031, 0.0, False),
        (0.0, 0.29, True),
        (0.0, 0.31, False),
        (-9, -9, True),
    ],
)
def test_three_standard_errors_decide(skill: float, area: float, passed: bool) -> None:
    assert STANDARD_ERRORS == 3.0
    assert Skill(skill, 0.01, area, 0.1).passed is passed


@pytest.mark.parametrize(("blocks", "quantile"), [(4, 9.22), (14, 3.69), (1000, 3.01)])
def test_few_blocks_widen_the_standard_error(blocks: int, quantile: float) -> None:
    # Student's t exceeds this as seldom as a normal variable exceeds 3.
    assert STANDARD_ERRORS * _wider(blocks) == pytest.approx(quantile, abs=0.02)
    assert _wider(1) == np.inf


def test_training_registers_nothing_when_the_truth_is_beaten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    leak = Placebo({"constant": {"har": Skill(0.05, 0.01, 0.0, 0.1)}})
    monkeypatch.setattr(stages, "run_placebo", lambda *_: leak)
    paths = stages.Paths(tmp_path / "t", tmp_path / "f", tmp_path / "m", tmp_path / "r")
    quick = msgspec.structs.replace(QUICK, train=Train(folds=1, stride_seconds=30))
    stages.simulate_ticks(quick, paths, progress=False)
    stages.make_features(quick, paths, progress=False)
    with pytest.raises(TrainingError, match=r"constant .* har beats .* nothing was registered"):
        stages.train(quick, paths, progress=False)
    assert not paths.model.exists()
    assert not (tmp_path / "mlflow.db").exists()
