"""A champion that its own live predictions refute loses its place, and its recipe earns again."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from tests.bundles import small_bundle
from tests.registries import make_registry, register_small
from volatility import registry
from volatility.evaluation.evidence import LEAST_BLOCKS, Evidence, observe
from volatility.evaluation.performance import Gains
from volatility.registry import RegistryError, champions, live_models
from volatility.registry.live_evidence import judge_live
from volatility.streaming.models import Models
from volatility.units import SECOND

BLOCK_NS = 1_200 * SECOND
RECIPE = small_bundle(1).specification.recipe


def gains(values: list[float], first: int = 0, version: str = "2") -> Gains:
    """Return so many blocks of champion against baseline; above zero the champion is better."""
    end = (1_000_000 + first + np.arange(len(values), dtype=np.int64)) * BLOCK_NS
    return Gains(version, RECIPE, end, np.array(values))


def stored(text: str | None) -> Evidence:
    assert text is not None
    return msgspec.json.decode(text, type=Evidence)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Two versions, promoted one after the other; the second one's recipe has evidence."""
    uri = make_registry(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for seed in (0, 1):
        register_small(tmp_path, seed)
        registry.promote(str(seed + 1), evidence={})
    evidence = Evidence(newest=999_000 * BLOCK_NS, blocks=50, best=math.log(40.0))
    registry.write_evidence(RECIPE, msgspec.json.encode(evidence).decode())
    return MlflowClient(uri)


def test_a_refuted_champion_is_demoted_and_its_recipe_has_to_earn_again(
    store: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    models = Models()
    assert [(m.version, m.bundle.variant) for m in models.current()] == [("2", "ml")]
    bad = gains([-0.4] * 2 * LEAST_BLOCKS)
    with caplog.at_level(logging.WARNING):
        found = judge_live(bad)
    assert found is not None
    assert (found.version, found.blocks) == ("2", 2 * LEAST_BLOCKS)
    assert found.mean == pytest.approx(-0.4)
    assert found.e_value_against >= 20.0
    demotion = registry.demotion()
    assert demotion is not None
    assert (demotion.version, demotion.e_value) == ("2", found.e_value_against)
    assert "its QLIKE differed by +0.400 from that of the best simple forecast" in demotion.reason
    assert f"demoted version 2: {demotion.reason}" in caplog.text
    # Whoever asks what serves finds the best simple forecast.
    assert [(m.name, m.version, m.bundle.variant) for m in live_models()] == [
        ("baseline", "2", "baseline")
    ]
    models.look()
    assert [m.bundle.variant for m in models.current()] == ["baseline"]
    restarted = stored(registry.read_evidence(RECIPE))
    assert (restarted.blocks, restarted.best) == (0, 0.0)
    assert restarted.newest == bad.end_ns[-1]  # what was counted once does not count again
    assert registry.rollback() == ("1", None)
    assert registry.demotion() is None


def test_looks_add_up_and_no_block_counts_twice(store: MlflowClient) -> None:
    values = np.random.default_rng(1).normal(0.0, 0.1, 60).tolist()
    found = None
    for stop in (1, 2, 20, 20, 41, 60):
        found = judge_live(gains(values[max(0, stop - 25) : stop], max(0, stop - 25)))
    whole = observe(Evidence(), gains(values).end_ns, np.array(values))
    assert found is not None
    assert found.blocks == 60
    assert found.e_value_against == pytest.approx(whole.e_value_against)
    assert stored(registry.read_live_evidence(RECIPE)) == whole
    assert registry.champion() == "2"
    assert registry.demotion() is None


def test_a_champion_that_is_better_or_has_too_few_blocks_stays(store: MlflowClient) -> None:
    judge_live(gains([-0.5] * (LEAST_BLOCKS - 1)))
    assert registry.champion() == "2"
    judge_live(gains([0.5] * 100, LEAST_BLOCKS))
    assert registry.champion() == "2"
    assert stored(registry.read_evidence(RECIPE)).blocks == 50


def test_one_that_is_not_the_champion_any_more_is_not_judged(store: MlflowClient) -> None:
    assert judge_live(gains([-0.4] * 100, version="1")) is None
    assert registry.read_live_evidence(RECIPE) is None
    assert registry.champion() == "2"


def test_a_demotion_that_was_cut_short_is_made_up_for(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object, **__: object) -> None:
        raise RegistryError("the registry cannot be reached")

    with monkeypatch.context() as patch:
        patch.setattr(champions, "demote", dies)
        with pytest.raises(RegistryError):
            judge_live(gains([-0.4] * 72))
    assert registry.champion() == "2"
    judge_live(gains([-0.4] * 72))  # nothing new
    assert registry.demotion() is not None


def test_a_version_promoted_again_is_judged_by_what_it_does_from_then_on(
    store: MlflowClient,
) -> None:
    judge_live(gains([-0.4] * 72))
    registry.promote("2", evidence={})
    found = judge_live(gains([-0.4] * 6, 72))
    assert found is not None
    assert (found.blocks, found.e_value_against) == (6, 1.0)
    assert registry.champion() == "2"
    judge_live(gains([-0.4] * 72, 78))
    assert registry.champion() is None


def test_damaged_evidence_is_an_error_of_one_line(store: MlflowClient) -> None:
    registry.write_live_evidence(RECIPE, "{")
    with pytest.raises(RegistryError, match="stored evidence cannot be read") as caught:
        judge_live(gains([0.1]))
    assert "\n" not in str(caught.value)
