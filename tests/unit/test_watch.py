"""The watcher lays out what the registry wants; where it cannot, what was there before stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service import watch
from service.current import CURRENT, Current, read_current
from service.watch import Watch
from tests.bundles import small_bundle
from tests.registries import make_registry, register_small
from tests.serving import ROOT
from volatility import registry
from volatility.models.prior import shipped
from volatility.registry import packaging


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    return tmp_path


def laid_out(folder: Path) -> tuple[str, str | None, str]:
    """Return version, alias and digest of the model to serve."""
    model = packaging.read_packaged(folder / read_current(folder).model)
    return model.version, model.alias, model.bundle.digest


@pytest.mark.slow
def test_the_champion_is_laid_out_and_followed(store: Path) -> None:
    register_small(store, 0)
    register_small(store, 1)
    registry.promote("1", evidence={})
    watching, folder = Watch(store / "serving"), store / "serving"
    watching.look()
    assert laid_out(folder) == ("1", "champion", small_bundle(0).digest)
    registry.promote("2", evidence={})
    watching.look()
    assert laid_out(folder) == ("2", "champion", small_bundle(1).digest)
    registry.rollback()
    watching.look()
    assert laid_out(folder) == ("1", "champion", small_bundle(0).digest)


@pytest.mark.slow
def test_without_a_champion_the_newest_version_is_laid_out_for_its_baseline(store: Path) -> None:
    register_small(store, 0)
    watching, folder = Watch(store / "serving"), store / "serving"
    watching.look()
    assert laid_out(folder)[:2] == ("1", "challenger")
    register_small(store, 1)
    watching.look()
    assert laid_out(folder)[:2] == ("2", "challenger")
    registry.promote("2", evidence={})
    watching.look()
    assert laid_out(folder)[:2] == ("2", "champion")


@pytest.mark.slow
def test_a_damaged_version_is_refused_once_and_the_one_before_stays(store: Path) -> None:
    register_small(store, 0)
    register_small(store, 1)
    registry.promote("1", evidence={})
    watching, folder = Watch(store / "serving"), store / "serving"
    watching.look()
    for file in (store / "mlartifacts").rglob("bundle/arrays.npz"):
        if f"/{_model_of('2')}/" in str(file):
            file.write_bytes(file.read_bytes()[:-40])
    registry.promote("2", evidence={})
    for _ in range(3):
        current = watching.look()
        assert current.refusals == 1
        assert "version 2 of crypto-vol-ml cannot be used" in current.refused
        assert laid_out(folder)[0] == "1"
    registry.rollback()
    assert watching.look().refused == ""
    registry.promote("2", evidence={})
    assert watching.look().refusals == 2


@pytest.mark.slow
def test_a_version_that_cannot_be_read_for_a_moment_is_tried_again(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_small(store, 0)
    register_small(store, 1)
    registry.promote("1", evidence={})
    watching, folder = Watch(store / "serving"), store / "serving"
    watching.look()
    registry.promote("2", evidence={})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "load", full)
        current = watching.look()
    assert current.refused == ""
    assert "No space left" in current.registry
    assert laid_out(folder)[0] == "1"
    assert watching.look().registry == ""
    assert laid_out(folder)[0] == "2"


def _model_of(version: str) -> str:
    """Return the folder of a version's artifacts."""
    from mlflow.tracking import MlflowClient

    source = MlflowClient().get_model_version("crypto-vol-ml", version).source
    assert source is not None
    return source.rpartition("/")[2]


@pytest.mark.slow
def test_while_the_registry_is_away_the_model_stays(store: Path) -> None:
    register_small(store, 0)
    watching, folder = Watch(store / "serving"), store / "serving"
    watching.look()
    before = read_current(folder)
    (store / "mlflow.db").rename(store / "away.db")
    current = watching.look()
    assert current.registry
    assert current.model == before.model
    assert current.checked > before.checked
    # One that starts meanwhile has only what was laid out before it.
    assert Watch(folder).look().model == before.model
    (store / "away.db").rename(store / "mlflow.db")
    assert watching.look().registry == ""


@pytest.mark.slow
def test_where_nothing_is_registered_the_prior_is_laid_out_until_something_is(store: Path) -> None:
    watching, folder = Watch(store / "serving"), store / "serving"
    assert watching.look().registry == ""
    digest = shipped().bundle.digest
    assert laid_out(folder) == (f"prior-{shipped().digest[:12]}", None, digest)
    before = read_current(folder)
    assert watching.look().model == before.model
    register_small(store, 0)
    assert watching.look().registry == ""
    assert laid_out(folder)[:2] == ("1", "challenger")


def test_without_a_registry_the_prior_is_laid_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none/mlflow.db")
    current = Watch(tmp_path / "serving").look()
    assert current.registry == ""
    assert laid_out(tmp_path / "serving")[0] == f"prior-{shipped().digest[:12]}"


@pytest.mark.slow
def test_a_demotion_is_laid_out_with_its_reason(store: Path) -> None:
    register_small(store, 0)
    registry.promote("1", evidence={})
    watching, folder = Watch(store / "serving"), store / "serving"
    assert watching.look().reason == ""
    registry.demote("1", reason="it was worse than har", e_value=40.0)
    assert watching.look().reason == "it was worse than har"
    assert laid_out(folder)[:2] == ("1", "challenger")
    assert Watch(folder).look().reason == "it was worse than har"
    registry.promote("1", evidence={})
    assert watching.look().reason == ""
    assert laid_out(folder)[:2] == ("1", "champion")


@pytest.mark.slow
def test_old_models_are_cleared_away(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "KEPT", 1)
    watching, folder = Watch(store / "serving"), store / "serving"
    for seed in range(watch.KEPT + 2):
        register_small(store, seed)
        watching.look()
    assert len([path for path in folder.iterdir() if path.is_dir()]) == watch.KEPT
    assert laid_out(folder)[0] == str(watch.KEPT + 2)


def test_a_watcher_whose_worker_is_gone_ends(store: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    command = [sys.executable, "-m", "service.watcher", str(store / "serving"), str(ended.pid)]
    assert subprocess.run(command, cwd=ROOT, timeout=120, check=False).returncode == 0


def test_nothing_is_read_where_nothing_was_said(tmp_path: Path) -> None:
    assert read_current(tmp_path) == Current()
    (tmp_path / CURRENT).write_text("{")
    assert read_current(tmp_path) == Current()
