"""Two trainings that end at the same time: real processes, one registry, one promotion."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from tests.bundles import small_bundle
from tests.registries import make_registry, register_small
from volatility import registry, stages
from volatility.evaluation import Evidence, Verdict, WalkForward
from volatility.registry import promotion
from volatility.settings import Settings

JUDGING_SECONDS = 1.0


def verdict_of(*, earned: bool) -> Verdict:
    reasons = () if earned else ("no better",)
    return Verdict("a recipe", earned, "promotion", reasons, None, "har", Evidence())


def trained(seed: int) -> stages.Trained:
    """Return a training of which only the product matters: the gate is replaced."""
    return stages.Trained(small_bundle(seed), WalkForward(None, ()), {})  # type: ignore[arg-type]


def promote(folder: str, seed: int, start: object) -> None:
    """Promote one of two models, with a gate that lets a first champion pass and no second."""

    def judge(*_: object) -> Verdict:
        before = registry.champion()
        time.sleep(JUDGING_SECONDS)
        return verdict_of(earned=before is None)

    promotion.judge = judge  # type: ignore[assignment]
    start.wait()  # type: ignore[attr-defined]
    paths = stages.Paths(model=Path(folder, "model"))
    version, verdict = stages.promote(Settings(), paths, trained(seed))
    Path(folder, f"verdict-{seed}").write_text(f"{version} {verdict.earned}")


def test_two_trainings_that_end_together_do_not_both_promote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    monkeypatch.setenv("MODEL_NAME", "together")
    versions = [register_small(tmp_path, seed).version for seed in (0, 1)]
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    both = [
        context.Process(target=promote, args=(os.fspath(tmp_path), seed, start)) for seed in (0, 1)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    verdicts = [(tmp_path / f"verdict-{seed}").read_text().split() for seed in (0, 1)]
    promoted = [version for version, earned in verdicts if earned == "True"]
    assert len(promoted) == 1
    assert sorted(version for version, _ in verdicts) == sorted(versions)
    assert registry.champion() == promoted[0]


def test_a_champion_made_elsewhere_while_judging_is_judged_against(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    monkeypatch.setenv("MODEL_NAME", "elsewhere")
    first, second = (register_small(tmp_path, seed).version for seed in (0, 1))
    met: list[str | None] = []

    def judge(*_: object) -> Verdict:
        met.append(registry.champion())
        if met[-1] is None:  # another machine, which the lock does not reach
            registry.promote(first, evidence={})
        return verdict_of(earned=met[-1] is None)

    monkeypatch.setattr(promotion, "judge", judge)
    paths = stages.Paths(model=tmp_path / "model")
    version, verdict = stages.promote(Settings(), paths, trained(1))
    assert (version, verdict.earned) == (second, False)
    assert met == [None, first]
    assert registry.champion() == first
