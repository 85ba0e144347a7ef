from __future__ import annotations

import dataclasses
import time

import msgspec
import numpy as np
import pytest

from service.predictor import Served, load
from tests.bundles import random_rows, small_bundle
from tests.registries import make_registry, register_small
from volatility import registry
from volatility.models.prior import shipped
from volatility.registry import RegistryError, packaging
from volatility.settings import environment


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    return tmp_path


def serve(folder):
    """Lay out what the registry chooses and load it, as watcher and worker do."""
    choice = registry.choose()
    place = folder / f"laid-{time.time_ns()}"
    packaging.write_packaged(registry.load(choice), place)
    return load(environment(), place, reason=choice.reason)


def chosen(folder):
    served, choice = serve(folder), registry.choose()
    assert (served.variant, served.reason) == (choice.variant, choice.reason)
    return served.model.version, served.variant, served.reason


@pytest.mark.slow
def test_the_champion_serves_as_ml(store):
    register_small(store, seed=0)
    register_small(store, seed=1)
    registry.promote("1", evidence={})
    assert chosen(store) == ("1", "ml", None)


@pytest.mark.slow
def test_without_a_champion_the_newest_baseline_serves(store):
    register_small(store, seed=0)
    register_small(store, seed=1)
    assert chosen(store) == ("2", "baseline", "no ml version has earned promotion to champion")
    served = serve(store)
    assert served.describe()["baseline"] == small_bundle(1).specification.best_simple
    assert served.answers()


@pytest.mark.slow
def test_the_baseline_serves_where_it_is_asked_for(store, monkeypatch):
    register_small(store, seed=0)
    monkeypatch.setenv("MODEL_VARIANT", "baseline")
    assert chosen(store) == ("1", "baseline", "MODEL_VARIANT is baseline")
    registry.promote("1", evidence={})
    register_small(store, seed=1)
    assert chosen(store) == ("1", "baseline", "MODEL_VARIANT is baseline")


@pytest.mark.slow
def test_the_prior_of_a_model_serves_where_it_is_asked_for(store, monkeypatch):
    register_small(store, seed=0)
    registry.promote("1", evidence={})
    monkeypatch.setenv("MODEL_VARIANT", "prior")
    assert chosen(store) == ("1", "prior", "MODEL_VARIANT is prior")


@pytest.mark.slow
def test_a_demotion_is_the_reason_why_the_baseline_serves(store):
    register_small(store, seed=0)
    register_small(store, seed=1)
    registry.promote("1", evidence={})
    registry.demote("1", reason="version 1 was worse than har for 9 days", e_value=30.0)
    assert chosen(store) == ("2", "baseline", "version 1 was worse than har for 9 days")
    registry.promote("2", evidence={})
    assert chosen(store) == ("2", "ml", None)


@pytest.mark.slow
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


def prior(folder, monkeypatch, variant):
    monkeypatch.setenv("MODEL_VARIANT", variant)
    served = serve(folder)
    assert served.variant == "prior"
    assert served.model.version == f"prior-{shipped().digest[:12]}"
    assert served.model.alias is None
    assert "no model is registered" in str(served.reason)
    assert served.answers()
    told = served.describe()
    assert told["forecast"]["best_simple"] is None
    assert list(told["forecast"]["spike_levels_bps"]) == ["unknown"]
    rows = random_rows(3)
    expected = shipped().bundle.forecast(rows, np.full(3, -1))
    for symbol in ("BTC-USD", None):
        answer = served.predict(rows, symbol, 0.0)
        assert answer.scores == expected.exceedance[:, 0].tolist()
        assert answer.model_variant == "prior"


@pytest.mark.parametrize("variant", ["ml", "prior", "baseline"])
def test_the_shipped_prior_serves_on_an_empty_registry(store, monkeypatch, variant):
    prior(store, monkeypatch, variant)


def test_the_shipped_prior_serves_without_a_registry(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    prior(tmp_path, monkeypatch, "ml")
    assert not (tmp_path / "none.db").exists()


def test_a_registry_that_cannot_be_reached_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").write_text("this is not a database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(RegistryError, match="is not a model registry"):
        chosen(tmp_path)


def test_version_lists_the_spike_levels_of_every_symbol():
    bundle = small_bundle(0, ("BTC-USD", "ETH-USD"))
    model = registry.RegisteredModel(bundle, "crypto-vol-ml", "7", "champion")
    told = Served(bundle, model, None).describe()["forecast"]
    spec = bundle.specification
    assert told == {
        "horizons_seconds": [60, 300, 900],
        "spike_levels_bps": {
            name: dict(zip(("60s", "300s", "900s"), levels, strict=True))
            for name, levels in zip(
                ("BTC-USD", "ETH-USD", "unknown"), spec.spike_levels_bps, strict=True
            )
        },
        "best_simple": spec.best_simple,
        "recipe": spec.recipe,
    }


@pytest.mark.slow
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
    [
        ("champion", ("ml", None)),
        ("challenger", ("baseline", "no ml version has earned promotion to champion")),
    ],
)
def test_a_packaged_model_needs_no_registry(tmp_path, monkeypatch, alias, served):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    model = registry.RegisteredModel(
        small_bundle(), "crypto-vol-ml", "7", alias, "run", {"a": "b"}, {"pr_auc": 0.3}
    )
    packaging.write_packaged(model, tmp_path / "model")
    found = load(environment(), tmp_path / "model")
    assert (found.variant, found.reason) == served
    assert (found.model.version, found.model.metrics) == ("7", {"pr_auc": 0.3})


def test_a_packaged_model_that_was_changed_is_refused(tmp_path):
    model = registry.RegisteredModel(small_bundle(), "crypto-vol-ml", "7", "champion")
    packaging.write_packaged(model, tmp_path)
    small_bundle(1).save(tmp_path)
    with pytest.raises(RegistryError, match="digest differs"):
        load(environment(), tmp_path)


def test_packaging_outside_the_repository_says_so(tmp_path):
    with pytest.raises(packaging.PackagingError, match=r"has no bentofile.yaml"):
        packaging.package(tmp_path)


def test_a_model_of_another_platform_is_healthy_and_a_damaged_one_is_not():
    bundle = small_bundle()
    for change, healthy in ((1e-15, True), (1e-6, False)):
        scores = tuple(score + change for score in bundle.specification.example_scores)
        spec = msgspec.structs.replace(bundle.specification, example_scores=scores)
        model = registry.RegisteredModel(bundle, "crypto-vol-ml", "7")
        served = Served(dataclasses.replace(bundle, specification=spec), model, None)
        assert served.answers() == healthy
