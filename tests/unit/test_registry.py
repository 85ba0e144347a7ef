from __future__ import annotations

import json
import math
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipelines import drift as drifting
from service.predictor import load
from service.watch import Watch
from tests.bundles import random_rows, small_bundle
from tests.live import some_features
from tests.registries import make_registry, register_small
from volatility import registry, settings, stages
from volatility.features.table import FEATURE_NAMES, INDEX
from volatility.models.prior import shipped
from volatility.registry import RegistryError, UnknownVersionError, tracking
from volatility.registry import store as store_module
from volatility.streaming import Models

NAME = "crypto-vol-ml"


@pytest.fixture
def store(tmp_path, monkeypatch) -> MlflowClient:
    uri = make_registry(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return MlflowClient(uri)


def versions(store):
    return sorted(str(v.version) for v in store.search_model_versions(f"name='{NAME}'"))


def scores(bundle, rows):
    """Score rows as those of the only symbol that the small bundles know."""
    return bundle.score(rows, np.zeros(len(rows), dtype=np.int64)).tolist()


def chosen() -> tuple[str | None, str, str | None]:
    choice = registry.choose()
    return choice.version, choice.variant, choice.challenger


def test_a_bundle_comes_back_from_the_registry_as_it_was(store, tmp_path):
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
    run = store.get_run(registered.run_id)
    assert run.data.params["train.seed"] == "0"
    assert run.data.params["data_digest"] == small_bundle().specification.data_digest
    assert run.info.status == "FINISHED"
    assert [f.path for f in store.list_artifacts(registered.run_id, "reports")] == [
        "reports/plot.svg"
    ]


def test_the_same_bundle_is_one_version_and_one_run(store, tmp_path):
    first = register_small(tmp_path, seed=0)
    other = register_small(tmp_path, seed=1)
    again = register_small(tmp_path, seed=0)
    assert (other.version, other.created) == ("2", True)
    assert (again.version, again.created, again.run_id) == ("1", False, first.run_id)
    assert versions(store) == ["1", "2"]
    experiment = store.get_experiment_by_name("crypto-volatility")
    assert len(store.search_runs([experiment.experiment_id])) == 2
    assert registry.latest() == "1"  # what was trained last is the candidate
    assert registry.version_of(other.digest) == "2"
    assert registry.version_of(small_bundle(2).digest) is None


def test_a_version_about_to_be_deleted_does_not_become_challenger(store, tmp_path, monkeypatch):
    create = store_module._create_version

    def with_a_rival(client, name, source, run_id, tags):
        result = create(client, name, source, run_id, tags)
        client.create_model_version(name, source, run_id, tags)  # by another process, as version 2
        return result

    monkeypatch.setattr(store_module, "_create_version", with_a_rival)
    assert register_small(tmp_path).version == "1"
    assert versions(store) == ["1", "2"]
    assert registry.latest() == "1"


@pytest.mark.parametrize(
    "reference", ["challenger", "2", f"models:/{NAME}@challenger", f"models:/{NAME}/2", "folder"]
)
def test_a_model_has_many_names(store, tmp_path, reference):
    register_small(tmp_path, seed=0)
    register_small(tmp_path, seed=1)
    if reference == "folder":
        reference = str(tmp_path / "bundle-1")
    assert registry.resolve(reference).bundle.digest == small_bundle(1).digest


def test_the_environment_names_the_alias(store, tmp_path, monkeypatch):
    register_small(tmp_path)
    with pytest.raises(UnknownVersionError, match="'champion' \\(aliases: challenger\\)"):
        registry.resolve()
    monkeypatch.setenv("MODEL_ALIAS", "challenger")
    assert registry.resolve().version == "1"


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
def test_an_unknown_model_is_an_error_of_one_line(store, tmp_path, reference, message):
    register_small(tmp_path)
    with pytest.raises(RegistryError, match=message) as caught:
        registry.resolve(reference)
    assert "\n" not in str(caught.value)


def test_an_empty_registry_has_no_versions(store):
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


def test_promotions_are_rolled_back_one_by_one(store, tmp_path):
    for seed in range(3):
        register_small(tmp_path, seed=seed)
    for version in ("1", "2", "3", "3"):
        registry.promote(version, evidence={"difference": 0.1, "reasons": ["better"]})
        assert registry.champion() == version
    assert registry.latest() == "3"
    tags = store.get_model_version(NAME, "3").tags
    assert json.loads(tags["promotion_evidence"]) == {"difference": 0.1, "reasons": ["better"]}
    assert registry.rollback() == ("2", "3")
    assert registry.rollback() == ("1", "2")
    with pytest.raises(RegistryError, match="no earlier champion"):
        registry.rollback()
    assert registry.champion() == "1"


def test_rollback_skips_versions_that_are_gone(store, tmp_path):
    for seed in range(3):
        register_small(tmp_path, seed=seed)
        registry.promote(str(seed + 1), evidence={})
    store.delete_model_version(NAME, "2")
    assert registry.rollback() == ("1", "3")


def test_rollback_restores_a_champion_that_was_taken_away(store, tmp_path):
    for seed in range(2):
        register_small(tmp_path, seed=seed)
        registry.promote(str(seed + 1), evidence={})
    store.delete_registered_model_alias(NAME, "champion")
    assert registry.rollback() == ("1", None)


def test_a_promotion_that_was_cut_short_leaves_no_step_behind(store, tmp_path):
    for seed in range(2):
        register_small(tmp_path, seed=seed)
        registry.promote(str(seed + 1), evidence={})
    # The tag was written, the alias was not moved.
    store.set_registered_model_tag(NAME, "champion_before.99999999999999999999", "2")
    assert registry.rollback() == ("1", "2")


def promoted(tmp_path, count=2):
    """Register so many versions and promote one after the other."""
    for seed in range(count):
        register_small(tmp_path, seed=seed)
        registry.promote(str(seed + 1), evidence={})


def test_a_demoted_champion_serves_no_more(store, tmp_path):
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


def test_only_the_champion_is_demoted(store, tmp_path):
    promoted(tmp_path)
    with pytest.raises(RegistryError, match="version 1 of crypto-vol-ml is not the champion"):
        registry.demote("1", reason="refuted", e_value=31.5)
    assert registry.champion() == "2"
    assert registry.demotion() is None


def test_a_promotion_ends_a_demotion(store, tmp_path):
    promoted(tmp_path)
    registry.demote("2", reason="refuted", e_value=31.5)
    registry.promote("1", evidence={})
    assert registry.demotion() is None
    assert "demotion" not in store.get_registered_model(NAME).tags


def test_a_demotion_that_was_cut_short_counts_for_nothing(store, tmp_path):
    promoted(tmp_path)
    text = '{"version":"2","reason":"refuted","time_ns":1,"e_value":31.5}'
    store.set_registered_model_tag(NAME, "demotion", text)  # the alias is still there
    assert registry.demotion() is None


def test_rollback_after_a_demotion_goes_to_the_champion_before(store, tmp_path):
    promoted(tmp_path, 3)
    registry.demote("3", reason="refuted", e_value=31.5)
    assert registry.rollback() == ("2", None)
    assert registry.demotion() is None
    assert registry.rollback() == ("1", "2")


def test_evidence_is_kept_by_recipe_and_by_version(store, tmp_path):
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


def test_what_serves_follows_aliases_and_environment(store, tmp_path, monkeypatch):
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


def test_an_unknown_version_is_not_promoted(store, tmp_path):
    register_small(tmp_path)
    with pytest.raises(UnknownVersionError):
        registry.promote("2", evidence={})
    assert registry.champion() is None


def test_a_bundle_of_the_wrong_digest_is_refused(store, tmp_path):
    register_small(tmp_path)
    store.set_model_version_tag(NAME, "1", "digest", small_bundle(1).digest)
    with pytest.raises(RegistryError, match="digest differs"):
        registry.resolve("1")


def test_damaged_artifacts_are_refused(store, tmp_path):
    register_small(tmp_path)
    (arrays,) = (tmp_path / "mlartifacts").rglob("bundle/arrays.npz")
    arrays.write_bytes(arrays.read_bytes()[:100])
    with pytest.raises(RegistryError, match="version 1 of crypto-vol-ml cannot be used"):
        registry.resolve("1")
    arrays.unlink()
    with pytest.raises(RegistryError) as caught:
        registry.resolve("1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_deleted_experiment_is_restored_and_used(store, tmp_path, seed, caplog):
    register_small(tmp_path, seed=2)
    store.delete_experiment(store.get_experiment_by_name("crypto-volatility").experiment_id)
    assert register_small(tmp_path, seed=seed).version == "2"
    assert registry.latest() == "2"
    assert store.get_experiment_by_name("crypto-volatility").lifecycle_stage == "active"
    assert "had been deleted and was restored" in caplog.text


def test_deleted_versions_and_models_are_registered_again(store, tmp_path):
    promoted(tmp_path, 2)
    store.delete_model_version(NAME, "2")
    assert chosen() == (None, "prior", None)
    assert register_small(tmp_path, seed=1).version == "3"
    assert registry.rollback() == ("1", None)
    store.delete_registered_model(NAME)
    assert chosen() == (None, "prior", None)
    assert register_small(tmp_path, seed=1).version == "1"


def set_schema(tmp_path, revision):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as file, file:
        file.execute("UPDATE alembic_version SET version_num = ?", (revision,))


@pytest.mark.parametrize(
    ("revision", "told"),
    [
        ("ffffffffffff", "does not know its schema ffffffffffff; it needs the version"),
        ("0123456789ab", "does not know its schema 0123456789ab; it needs the version"),
    ],
)
@pytest.mark.parametrize("ask", [registry.rollback, registry.choose, registry.resolve, "register"])
def test_a_registry_of_another_mlflow_is_named_and_left_as_it_is(
    store, tmp_path, revision, told, ask
):
    set_schema(tmp_path, revision)
    before = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(RegistryError, match=told) as caught:
        register_small(tmp_path) if ask == "register" else ask()
    assert "unharmed" in str(caught.value)
    assert "latest" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"models: none\n", "is not a model registry"),
        (b"SQLite format 3\0" + b"\xff" * 5000, "is damaged"),
        ("folder", "is a folder"),
        ("other", "is a database of something else"),
    ],
)
@pytest.mark.parametrize("ask", [registry.rollback, registry.choose, "register"])
def test_what_is_not_a_registry_is_named_and_left_as_it_is(
    tmp_path, monkeypatch, content, told, ask
):
    path = tmp_path / "mlflow.db"
    if content == "folder":
        path.mkdir()
    elif content == "other":
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("CREATE TABLE notes (text)")
    else:
        path.write_bytes(content)
    before = None if path.is_dir() else path.read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    with pytest.raises(RegistryError, match=told) as caught:
        register_small(tmp_path) if ask == "register" else ask()
    assert "\n" not in str(caught.value)
    assert before is None or path.read_bytes() == before


@pytest.mark.parametrize("ask", [registry.rollback, registry.resolve])
def test_an_empty_file_is_not_filled_by_reading(tmp_path, monkeypatch, ask):
    path = tmp_path / "mlflow.db"
    path.touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    with pytest.raises(UnknownVersionError, match="empty \\(0 bytes\\); restore"):
        ask()
    assert chosen() == (None, "prior", None)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("names", [("p", "q"), ("mein Ordner", "über & so"), ("a", "a/b")])
def test_a_copied_project_writes_beside_itself(tmp_path, monkeypatch, names):
    project, copy = (tmp_path / name for name in names)
    project.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(project))
    promoted(project, 1)
    shutil.copytree(project, tmp_path / "taken")
    (tmp_path / "taken").rename(copy)
    before = sorted(path for path in (project / "mlartifacts").rglob("*"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copy}/mlflow.db")
    register_small(copy, seed=1)
    assert sorted(path for path in (project / "mlartifacts").rglob("*")) == before
    shutil.rmtree(project / "mlartifacts")
    assert [registry.resolve(version).version for version in ("1", "2")] == ["1", "2"]
    import mlflow.pyfunc

    assert mlflow.pyfunc.load_model(f"models:/{NAME}/1") is not None


@pytest.mark.parametrize("names", [("p", "moved"), ("p q", "größer 1")])
def test_a_moved_project_finds_its_models(tmp_path, monkeypatch, names):
    project, moved = (tmp_path / name for name in names)
    project.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(project))
    promoted(project, 1)
    project.rename(moved)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{moved}/mlflow.db")
    assert registry.resolve().version == "1"
    (moved / "mlartifacts").rename(moved / "elsewhere")
    with pytest.raises(RegistryError, match="has lost its files") as caught:
        registry.resolve()
    assert f"{project}/mlartifacts" in str(caught.value)
    assert f"nor in {moved}/mlartifacts" in str(caught.value)


def test_a_folder_without_a_bundle_is_not_registered(store, tmp_path):
    with pytest.raises(RegistryError, match="no usable model"):
        registry.register(tmp_path, parameters={}, metrics={})
    assert versions(store) == []


def test_mlflows_own_interface_gives_the_same_scores(store, tmp_path):
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


def test_a_locked_store_is_waited_for(monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr("volatility.registry.tracking.time.sleep", pauses.append)

    def locked_until(attempt):
        if len(pauses) < attempt:
            raise MlflowException("(sqlite3.OperationalError) database is locked")
        return len(pauses)

    assert tracking.retry_while_locked(locked_until, 3) == 3
    assert pauses[0] < 0.051
    assert max(pauses) <= tracking.LONGEST_PAUSE_SECONDS
    pauses.clear()
    with pytest.raises(MlflowException, match="locked"):
        tracking.retry_while_locked(locked_until, 10_000)


def test_other_errors_are_not_tried_again():
    calls = []

    def broken():
        calls.append(1)
        raise MlflowException("no such thing")

    with pytest.raises(MlflowException):
        tracking.retry_while_locked(broken)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("alias", "variant"), [("champion", "ml"), ("challenger", "ml"), ("champion", "baseline")]
)
def test_scorer_report_drift_and_service_follow_one_choice(
    store, tmp_path, monkeypatch, alias, variant
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
