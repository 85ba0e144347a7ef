from __future__ import annotations

import pytest

from service.predictor import choose
from tests.bundles import small_bundle
from tests.registries import make_registry, register_small
from volatility import packaging, registry
from volatility.registry import RegistryError
from volatility.settings import environment


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    return tmp_path


def chosen(folder):
    served = choose(environment(), folder / "no-package")
    return served.model.version, served.variant, served.reason


def test_the_champion_serves_as_ml(store):
    register_small(store, seed=0)
    register_small(store, seed=1)
    registry.promote("1", evidence={})
    assert chosen(store) == ("1", "ml", None)


def test_without_a_champion_the_newest_baseline_serves(store):
    register_small(store, seed=0)
    register_small(store, seed=1)
    assert chosen(store) == ("2", "baseline", "no ml version has earned champion")
    served = choose(environment(), store / "no-package")
    assert served.describe()["baseline"] == "persistence"
    assert served.answers()


def test_the_baseline_serves_where_it_is_asked_for(store, monkeypatch):
    register_small(store, seed=0)
    monkeypatch.setenv("MODEL_VARIANT", "baseline")
    assert chosen(store) == ("1", "baseline", "MODEL_VARIANT is baseline")
    registry.promote("1", evidence={})
    register_small(store, seed=1)
    assert chosen(store) == ("1", "baseline", "MODEL_VARIANT is baseline")


def test_another_alias_or_a_version_can_serve(store, monkeypatch):
    register_small(store, seed=0)
    register_small(store, seed=1)
    registry.promote("1", evidence={})
    monkeypatch.setenv("MODEL_ALIAS", "challenger")
    assert chosen(store) == ("2", "ml", None)
    monkeypatch.setenv("MODEL_ALIAS", "1")
    assert chosen(store) == ("1", "ml", None)
    monkeypatch.setenv("MODEL_ALIAS", "shadow")
    assert chosen(store) == ("2", "baseline", "no version has the alias shadow")


def test_without_any_version_the_error_says_what_to_do(store):
    with pytest.raises(RegistryError, match="run `volatility train`"):
        chosen(store)


def test_without_a_registry_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(RegistryError, match="run `volatility train`"):
        chosen(tmp_path)


def test_a_refused_champion_is_not_replaced_in_silence(store):
    register_small(store, seed=0)
    register_small(store, seed=1)
    registry.promote("1", evidence={})
    for file in (store / "mlartifacts").rglob("bundle/model.json"):
        file.write_bytes(b"{}")
    with pytest.raises(RegistryError, match="version 1 of crypto-vol-ml cannot be used"):
        chosen(store)


@pytest.mark.parametrize(
    ("alias", "served"),
    [("champion", ("ml", None)), ("challenger", ("baseline", "no ml version has earned champion"))],
)
def test_a_packaged_model_needs_no_registry(tmp_path, monkeypatch, alias, served):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    model = registry.RegisteredModel(
        small_bundle(), "crypto-vol-ml", "7", alias, "run", {"a": "b"}, {"pr_auc": 0.3}
    )
    packaging.write_packaged(model, tmp_path / "model")
    found = choose(environment(), tmp_path / "model")
    assert (found.variant, found.reason) == served
    assert (found.model.version, found.model.metrics) == ("7", {"pr_auc": 0.3})


def test_a_packaged_model_that_was_changed_is_refused(tmp_path):
    model = registry.RegisteredModel(small_bundle(), "crypto-vol-ml", "7", "champion")
    packaging.write_packaged(model, tmp_path)
    small_bundle(1).save(tmp_path)
    with pytest.raises(RegistryError, match="digest differs"):
        choose(environment(), tmp_path)


def test_packaging_outside_the_repository_says_so(tmp_path):
    with pytest.raises(packaging.PackagingError, match=r"holds no bentofile.yaml"):
        packaging.package(tmp_path)
