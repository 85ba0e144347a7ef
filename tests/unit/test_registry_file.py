from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest
from mlflow.exceptions import MlflowException

from tests.registries import NAME, chosen, make_registry, promoted, register_small
from volatility import registry
from volatility.registry import RegistryError, UnknownVersionError, tracking


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_deleted_experiment_is_restored_and_used(mlflow_store, tmp_path, seed, caplog):
    register_small(tmp_path, seed=2)
    mlflow_store.delete_experiment(
        mlflow_store.get_experiment_by_name("crypto-volatility").experiment_id
    )
    assert register_small(tmp_path, seed=seed).version == "2"
    assert registry.latest() == "2"
    assert mlflow_store.get_experiment_by_name("crypto-volatility").lifecycle_stage == "active"
    assert "had been deleted and was restored" in caplog.text


@pytest.mark.slow
def test_deleted_versions_and_models_are_registered_again(mlflow_store, tmp_path):
    promoted(tmp_path, 2)
    mlflow_store.delete_model_version(NAME, "2")
    assert chosen() == (None, "prior", None)
    assert register_small(tmp_path, seed=1).version == "3"
    assert registry.rollback() == ("1", None)
    mlflow_store.delete_registered_model(NAME)
    assert chosen() == (None, "prior", None)
    assert register_small(tmp_path, seed=1).version == "1"


def set_schema(tmp_path, revision):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as file, file:
        file.execute("UPDATE alembic_version SET version_num = ?", (revision,))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("revision", "told"),
    [
        ("ffffffffffff", "does not know its schema ffffffffffff; it needs the version"),
        ("0123456789ab", "does not know its schema 0123456789ab; it needs the version"),
    ],
)
@pytest.mark.parametrize("ask", [registry.rollback, registry.choose, registry.resolve, "register"])
def test_a_registry_of_another_mlflow_is_named_and_left_as_it_is(
    mlflow_store, tmp_path, revision, told, ask
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


@pytest.mark.slow
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


@pytest.mark.slow
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
