"""The noise demonstration shows what each way of evaluating finds on a small market of noise."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks import noise, noise_plot
from benchmarks.noise import INPUT_LABEL, OURS, OVERLAP, PURGED, RANDOM, Found, Ours
from benchmarks.results import read
from volatility.settings import Evaluate, Settings, Train

SMALL = Settings(train=Train(folds=2, stride_seconds=30), evaluate=Evaluate(placebo_hours=5.0))


@pytest.fixture(scope="module")
def found() -> dict[str, Found]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "TREES", 20)
        return noise.evaluations(SMALL, seed=5)


def test_only_the_purged_split_finds_nothing_in_noise(found: dict[str, Found]) -> None:
    area = {name: one.pr_auc for name, one in found.items()}
    assert area[INPUT_LABEL] > 0.95
    assert area[RANDOM] > 0.7
    assert area[OVERLAP] > 1.7 * found[OVERLAP].base_rate
    assert area[PURGED] < 1.6 * found[PURGED].base_rate


def test_a_random_split_keeps_every_row_once() -> None:
    fold = noise.random_split(100, seed=3)
    assert len(fold.test) == 20
    assert sorted([*fold.train, *fold.test]) == list(range(100))


def test_our_promise_is_in_standard_errors() -> None:
    one = Found(np.array([True, False] * 5), np.linspace(0.0, 1.0, 10))
    own = [Ours(0.12, 0.1, -0.5), Ours(0.09, 0.1, 2.0)]
    *ways, path, skill = noise.rows([{RANDOM: one}] * 2, own)
    assert (ways[0].ours, ways[0].peer) == (one.pr_auc, 0.5)
    assert (path.ours, path.peer) == pytest.approx((0.105, 0.1))
    assert (skill.ours, skill.unit, skill.met) == (2.0, "standard errors", True)
    assert noise.rows([{RANDOM: one}], [Ours(0.14, 0.1, 4.0)])[-1].met is False
    assert noise.rows([{RANDOM: one}], [Ours(0.1, 0.1, -4.0)])[-1].met is True


def test_this_project_s_path_finds_nothing_either() -> None:
    longer = msgspec.structs.replace(SMALL, evaluate=Evaluate(placebo_hours=6.0))
    found = noise.ours(longer, seed=5)
    assert found.pr_auc < 1.6 * found.base_rate
    assert found.skill < 3.0


def test_the_picture_shows_every_way(tmp_path: Path) -> None:
    one = Found(np.array([True, False] * 5), np.linspace(0.0, 1.0, 10))
    areas = {RANDOM: [0.9, 0.95], OURS: [0.1, 0.12]}
    path = noise_plot.write(areas, 0.1, {RANDOM: (one.spikes, one.scores)}, tmp_path / "a.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
    figure = noise_plot.draw(areas, 0.1, {RANDOM: (one.spikes, one.scores)})
    shown = {label.get_text() for label in figure.axes[0].get_yticklabels()}
    assert shown == set(areas)


def test_the_committed_figures_show_what_the_documents_say() -> None:
    committed = read(Path(noise.RESULTS))
    area = {row.measure.partition(", mean of")[0]: row for row in committed}
    assert area[RANDOM].ours > 0.9
    assert area[PURGED].ours < 1.2 * msgspec.to_builtins(area[PURGED].peer)
    assert committed[-1].met is True
