from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from pipelines import drift as drifting
from service.predictor import load
from service.watch import Watch
from tests.bundles import random_rows, small_bundle
from tests.live import some_features
from tests.registries import NAME, chosen, register_small, versions
from volatility import registry, settings, stages
from volatility.features.table import FEATURE_NAMES, INDEX
from volatility.models.prior import shipped
from volatility.registry import RegistryError, UnknownVersionError
from volatility.registry import store as store_module
from volatility.streaming import Models


def scores(bundle, rows):
    """Score rows as those of the only symbol that the small bundles know."""
    return bundle.score(rows, np.zeros(len(rows), dtype=np.int64)).tolist()


@pytest.mark.slow
def test_a_bundle_comes_back_from_the_registry_as_it_was(mlflow_store, tmp_path):
    plot = tmp_path / "plot.svg"
    plot.write_text("<svg/>")
    registered = register_small(
        tmp_path,
        metrics={"pr_auc": 0.25, "undefined": math.nan},
        artifacts=[plot],
        tags={"ticks": "simulated"},
    )
    assert (registered.version, registered.created) == ("1", True)
    model = registry.resolve("challenger")
    rows = random_rows(100)
    assert scores(model.bundle, rows) == scores(small_bundle(), rows)
    assert model.bundle.digest == registered.digest == model.tags["digest"]
    assert (model.name, model.version, model.alias) == (NAME, "1", "challenger")
    assert model.metrics == {"pr_auc": 0.25}
    assert model.tags["ticks"] == "simulated"
    run = mlflow_store.get_run(registered.run_id)
    assert run.data.params["train.seed"] == "0"
    assert run.data.params["data_digest"] == small_bundle().specification.data_digest
    assert run.info.status == "FINISHED"
    assert [f.path for f in mlflow_store.list_artifacts(registered.run_id, "reports")] == [
        "reports/plot.svg"
    ]


@pytest.mark.slow
def test_the_same_bundle_is_one_version_and_one_run(mlflow_store, tmp_path):
    first = register_small(tmp_path, seed=0)
    other = register_small(tmp_path, seed=1)
    again = register_small(tmp_path, seed=0)
    assert (other.version, other.created) == ("2", True)
    assert (again.version, again.created, again.run_id) == ("1", False, first.run_id)
    assert versions(mlflow_store) == ["1", "2"]
    experiment = mlflow_store.get_experiment_by_name("crypto-volatility")
    assert len(mlflow_store.search_runs([experiment.experiment_id])) == 2
    assert registry.latest() == "1"  # what was trained last is the candidate
    assert registry.version_of(other.digest) == "2"
    assert registry.version_of(small_bundle(2).digest) is None


def test_a_version_about_to_be_deleted_does_not_become_challenger(
    mlflow_store, tmp_path, monkeypatch
):
    create = store_module._create_version

    def with_a_rival(client, name, source, run_id, tags):
        result = create(client, name, source, run_id, tags)
        client.create_model_version(name, source, run_id, tags)  # by another process, as version 2
        return result

    monkeypatch.setattr(store_module, "_create_version", with_a_rival)
    assert register_small(tmp_path).version == "1"
    assert versions(mlflow_store) == ["1", "2"]
    assert registry.latest() == "1"


@pytest.mark.slow
@pytest.mark.parametrize(
    "reference", ["challenger", "2", f"models:/{NAME}@challenger", f"models:/{NAME}/2", "folder"]
)
def test_a_model_has_many_names(mlflow_store, tmp_path, reference):
    register_small(tmp_path, seed=0)
    register_small(tmp_path, seed=1)
    if reference == "folder":
        reference = str(tmp_path / "bundle-1")
    assert registry.resolve(reference).bundle.digest == small_bundle(1).digest


@pytest.mark.slow
def test_the_environment_names_the_alias(mlflow_store, tmp_path, monkeypatch):
    register_small(tmp_path)
    with pytest.raises(UnknownVersionError, match="'champion' \\(aliases: challenger\\)"):
        registry.resolve()
    monkeypatch.setenv("MODEL_ALIAS", "challenger")
    assert registry.resolve().version == "1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("9", "has no version '9'"),
        ("nobody", "has the alias 'nobody'"),
        ("models:/other/1", "other has no version '1'"),
        ("models:/other@champion", "no version of other"),
        (f"models:/{NAME}/latest", "has no version 'latest'"),
        ("models:/", "not a model"),
        (f"models:/{NAME}", "not a model"),
        ("no/such/folder", "not a bundle folder"),
    ],
)
def test_an_unknown_model_is_an_error_of_one_line(mlflow_store, tmp_path, reference, message):
    register_small(tmp_path)
    with pytest.raises(RegistryError, match=message) as caught:
        registry.resolve(reference)
    assert "\n" not in str(caught.value)


def test_an_empty_registry_has_no_versions(mlflow_store):
    assert registry.latest() is None
    assert registry.champion() is None
    with pytest.raises(UnknownVersionError):
        registry.resolve()
    with pytest.raises(RegistryError):
        registry.rollback()


def test_looking_for_a_registry_does_not_make_one(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(UnknownVersionError, match="run `volatility train`"):
        registry.resolve()
    assert (registry.champion(), registry.latest(), registry.version_of("0")) == (None, None, None)
    assert (registry.demotion(), registry.read_evidence("0")) == (None, None)
    assert chosen() == (None, "prior", None)
    assert not list(tmp_path.iterdir())


def test_a_registry_out_of_reach_is_an_error_of_one_line(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match="check MLFLOW_TRACKING_URI") as caught:
        registry.champion()
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_evidence_is_kept_by_recipe_and_by_version(mlflow_store, tmp_path):
    assert registry.read_evidence("a" * 64) is None
    with pytest.raises(RegistryError):
        registry.write_evidence("a" * 64, "{}")  # no model is registered yet
    register_small(tmp_path)
    registry.write_evidence("a" * 64, '{"blocks":1}')
    registry.write_evidence("b" * 64, '{"blocks":2}')
    registry.write_live_evidence("1", '{"blocks":3}')
    assert registry.read_evidence("a" * 64) == '{"blocks":1}'
    assert registry.read_evidence("b" * 64) == '{"blocks":2}'
    assert registry.read_evidence("c" * 64) is None
    assert registry.read_live_evidence("1") == '{"blocks":3}'
    assert registry.read_live_evidence("2") is None
    registry.write_evidence("a" * 64, "x" * 3_999)
    assert registry.read_evidence("a" * 64) == "x" * 3_999
    with pytest.raises(ValueError, match="4000 characters"):
        registry.write_evidence("a" * 64, "x" * 4_000)


@pytest.mark.slow
def test_what_serves_follows_aliases_and_environment(mlflow_store, tmp_path, monkeypatch):
    assert chosen() == (None, "prior", None)
    register_small(tmp_path, seed=0)
    assert chosen() == ("1", "baseline", None)
    registry.promote("1", evidence={})
    assert chosen() == ("1", "ml", None)
    register_small(tmp_path, seed=1)
    assert chosen() == ("1", "ml", "2")
    monkeypatch.setenv("MODEL_VARIANT", "baseline")
    assert chosen() == ("1", "baseline", "2")
    monkeypatch.delenv("MODEL_VARIANT")
    monkeypatch.setenv("MODEL_ALIAS", "challenger")
    assert chosen() == ("2", "ml", None)
    monkeypatch.setenv("MODEL_ALIAS", "1")
    assert chosen() == ("1", "ml", "2")


def test_the_shipped_prior_has_a_name_and_a_version():
    found = registry.shipped_model()
    assert (found.name, found.version) == (NAME, f"prior-{shipped().digest[:12]}")
    assert found.bundle.variant == "prior"


@pytest.mark.slow
def test_an_unknown_version_is_not_promoted(mlflow_store, tmp_path):
    register_small(tmp_path)
    with pytest.raises(UnknownVersionError):
        registry.promote("2", evidence={})
    assert registry.champion() is None


@pytest.mark.slow
def test_a_bundle_of_the_wrong_digest_is_refused(mlflow_store, tmp_path):
    register_small(tmp_path)
    mlflow_store.set_model_version_tag(NAME, "1", "digest", small_bundle(1).digest)
    with pytest.raises(RegistryError, match="digest differs"):
        registry.resolve("1")


@pytest.mark.slow
def test_damaged_artifacts_are_refused(mlflow_store, tmp_path):
    register_small(tmp_path)
    (arrays,) = (tmp_path / "mlartifacts").rglob("bundle/arrays.npz")
    arrays.write_bytes(arrays.read_bytes()[:100])
    with pytest.raises(RegistryError, match="version 1 of crypto-vol-ml cannot be used"):
        registry.resolve("1")
    arrays.unlink()
    with pytest.raises(RegistryError) as caught:
        registry.resolve("1")
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_bundle_is_not_registered(mlflow_store, tmp_path):
    with pytest.raises(RegistryError, match="no usable model"):
        registry.register(tmp_path, parameters={}, metrics={})
    assert versions(mlflow_store) == []


@pytest.mark.slow
def test_mlflows_own_interface_gives_the_same_scores(mlflow_store, tmp_path):
    import mlflow.pyfunc

    register_small(tmp_path)
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@challenger")
    rows = random_rows(50)
    frame = pd.DataFrame(rows, columns=list(FEATURE_NAMES))
    assert model.predict(frame).tolist() == scores(small_bundle(), rows)
    few = ["spread", "volatility_ratio_60s"]
    partial = np.full_like(rows, np.nan)
    partial[:, [INDEX[n] for n in few]] = frame[few]
    assert model.predict(frame[few]).tolist() == scores(small_bundle(), partial)
    assert all(c.type.name == "double" and not c.required for c in model.metadata.signature.inputs)
    assert model.metadata.load_input_example("models:/" + NAME + "@challenger") is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("alias", "variant"), [("champion", "ml"), ("challenger", "ml"), ("champion", "baseline")]
)
def test_scorer_report_drift_and_service_follow_one_choice(
    mlflow_store, tmp_path, monkeypatch, alias, variant
):
    register_small(tmp_path, seed=0)
    register_small(tmp_path, seed=1)
    registry.promote("1", evidence={})
    monkeypatch.setenv("MODEL_ALIAS", alias)
    monkeypatch.setenv("MODEL_VARIANT", variant)
    choice = registry.choose()
    assert (choice.version, choice.variant) == ("1" if alias == "champion" else "2", variant)
    scorer = Models().current()[0]
    report = registry.live_models()[0]
    service = laid_out(tmp_path / "serving")
    for version, bundle in (
        (scorer.version, scorer.bundle), (report.version, report.bundle), service,
    ):  # fmt: skip
        assert (version, bundle.variant) == (choice.version, choice.variant)

    asked: list[str | None] = []
    monkeypatch.setattr(stages, "drift", lambda *_, model: asked.append(model))
    monkeypatch.setattr(drifting, "observe", lambda *_: None)
    some_features(tmp_path)
    drifting.compare(str(tmp_path), str(tmp_path / "reports"), "params.yaml")
    assert asked == [choice.version]


def laid_out(folder):
    """Export the model with the service's watcher, and load it as a worker does."""
    current = Watch(folder).look()
    served = load(settings.environment(), folder / current.model, reason=current.reason or None)
    assert served.reason == (current.reason or None)
    return served.model.version, served.bundle
