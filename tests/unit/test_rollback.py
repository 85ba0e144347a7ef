from __future__ import annotations

import json

import pytest

from tests.registries import NAME, chosen, promoted, register_small
from volatility import registry
from volatility.registry import RegistryError, UnknownVersionError


def test_promotions_are_rolled_back_one_by_one(mlflow_store, tmp_path):
    for seed in range(3):
        register_small(tmp_path, seed=seed)
    for version in ("1", "2", "3", "3"):
        registry.promote(version, evidence={"difference": 0.1, "reasons": ["better"]})
        assert registry.champion() == version
    assert registry.latest() == "3"
    tags = mlflow_store.get_model_version(NAME, "3").tags
    assert json.loads(tags["promotion_evidence"]) == {"difference": 0.1, "reasons": ["better"]}
    assert registry.rollback() == ("2", "3")
    assert registry.rollback() == ("1", "2")
    with pytest.raises(RegistryError, match="no earlier champion"):
        registry.rollback()
    assert registry.champion() == "1"


def test_rollback_skips_versions_that_are_gone(mlflow_store, tmp_path):
    for seed in range(3):
        register_small(tmp_path, seed=seed)
        registry.promote(str(seed + 1), evidence={})
    mlflow_store.delete_model_version(NAME, "2")
    assert registry.rollback() == ("1", "3")


def test_rollback_restores_a_champion_that_was_taken_away(mlflow_store, tmp_path):
    for seed in range(2):
        register_small(tmp_path, seed=seed)
        registry.promote(str(seed + 1), evidence={})
    mlflow_store.delete_registered_model_alias(NAME, "champion")
    assert registry.rollback() == ("1", None)


def test_a_promotion_that_was_cut_short_leaves_no_step_behind(mlflow_store, tmp_path):
    for seed in range(2):
        register_small(tmp_path, seed=seed)
        registry.promote(str(seed + 1), evidence={})
    # The tag was written, the alias was not moved.
    mlflow_store.set_registered_model_tag(NAME, "champion_before.99999999999999999999", "2")
    assert registry.rollback() == ("1", "2")


def test_a_demoted_champion_serves_no_more(mlflow_store, tmp_path):
    promoted(tmp_path)
    assert chosen() == ("2", "ml", None)
    assert registry.demotion() is None
    found = registry.demote("2", reason="refuted", e_value=31.5)
    assert (found.version, found.reason, found.e_value) == ("2", "refuted", 31.5)
    assert registry.demotion() == found
    assert registry.champion() is None
    assert chosen() == ("2", "baseline", None)
    with pytest.raises(UnknownVersionError):
        registry.resolve()


def test_only_the_champion_is_demoted(mlflow_store, tmp_path):
    promoted(tmp_path)
    with pytest.raises(RegistryError, match="version 1 of crypto-vol-ml is not the champion"):
        registry.demote("1", reason="refuted", e_value=31.5)
    assert registry.champion() == "2"
    assert registry.demotion() is None


def test_a_promotion_ends_a_demotion(mlflow_store, tmp_path):
    promoted(tmp_path)
    registry.demote("2", reason="refuted", e_value=31.5)
    registry.promote("1", evidence={})
    assert registry.demotion() is None
    assert "demotion" not in mlflow_store.get_registered_model(NAME).tags


def test_a_demotion_that_was_cut_short_counts_for_nothing(mlflow_store, tmp_path):
    promoted(tmp_path)
    text = '{"version":"2","reason":"refuted","time_ns":1,"e_value":31.5}'
    mlflow_store.set_registered_model_tag(NAME, "demotion", text)  # the alias is still there
    assert registry.demotion() is None


def test_rollback_after_a_demotion_goes_to_the_champion_before(mlflow_store, tmp_path):
    promoted(tmp_path, 3)
    registry.demote("3", reason="refuted", e_value=31.5)
    assert registry.rollback() == ("2", None)
    assert registry.demotion() is None
    assert registry.rollback() == ("1", "2")
