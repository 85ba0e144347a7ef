"""Loading a model runs no code from the model's files (DESIGN 6.10)."""

from __future__ import annotations

import io
import json
import pickle
import sys
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.bundles import small_bundle
from tests.registries import make_registry, register_small
from volatility import registry
from volatility.models import bundle as bundles
from volatility.models.bundle import BundleError

CODE = {"pickle.find_class", "exec", "marshal.loads"}


@dataclass
class Watch:
    """Note what the interpreter opens and runs while it is on."""

    on: bool = False
    events: list[tuple[str, object]] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.on and (event == "open" or event in CODE):
            self.events.append((event, arguments[0] if arguments else None))


@cache
def watch() -> Watch:
    watch = Watch()
    sys.addaudithook(watch)  # for good: a hook cannot be taken away, only told not to look
    return watch


@contextmanager
def watched():
    seen = watch()
    seen.events.clear()
    seen.on = True
    try:
        yield seen.events
    finally:
        seen.on = False


class Bomb:
    """Create a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.fixture
def stored(tmp_path) -> Path:
    folder = tmp_path / "bundle"
    small_bundle().save(folder)
    bundles.load(folder)  # what numba caches is unpickled at the first call; that is our own
    return folder


def test_a_bundle_is_read_without_unpickling_or_running_anything(stored):
    with watched() as events:
        bundles.load(stored)
    kinds = {event for event, _ in events}
    assert "open" in kinds
    assert not kinds & CODE


def test_the_registry_reads_only_the_data_files(tmp_path, monkeypatch, stored):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    register_small(tmp_path)
    registry.resolve("1")  # imports what it needs
    with watched() as events:
        registry.resolve("1")
    assert "pickle.find_class" not in {event for event, _ in events}
    opened = {
        Path(str(path)).name
        for event, path in events
        if event == "open" and "mlartifacts" in str(path) and Path(str(path)).is_file()
    }
    assert opened == {bundles.MODEL_FILE, bundles.ARRAYS_FILE}
    # MLflow and SQLAlchemy may run generated code of their own, but none from the artifacts.
    assert not [e for e in events if e[0] == "exec" and "mlartifacts" in str(e[1])]


def test_code_in_the_registry_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    register_small(tmp_path)
    mark = tmp_path / "was-run"
    artifacts = tmp_path / "mlartifacts"
    for script in artifacts.rglob("*.py"):
        script.write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    for file in artifacts.rglob("MLmodel"):
        text = file.read_text().replace("mlflow.pyfunc.model", "pickle")
        file.write_text(text)
    assert registry.resolve("1").bundle.digest == small_bundle().digest
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["object array", "object start", "pickle", "npy", "floats"])
def test_a_pickle_in_place_of_the_arrays_is_refused(stored, tmp_path, kind):
    mark = tmp_path / "was-run"
    target = stored / bundles.ARRAYS_FILE
    with np.load(target) as file:
        arrays = dict(file)
    bomb = np.array([Bomb(mark)], dtype=object)
    if kind == "object array":
        np.savez(target, **{**arrays, "har.law.table": bomb})
    elif kind == "object start":
        np.savez(target, **{**arrays, "own.trees.0.start": bomb.reshape(())})
    elif kind == "pickle":
        target.write_bytes(pickle.dumps(Bomb(mark)))
    else:
        with target.open("wb") as file:
            np.save(file, bomb if kind == "npy" else np.zeros(3), allow_pickle=True)
    with pytest.raises(BundleError):
        bundles.load(stored)
    assert not mark.exists()
    # The bomb itself works: the same bytes, unpickled, go off.
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()


def test_an_extra_member_is_not_unpickled(stored, tmp_path):
    mark = tmp_path / "was-run"
    content = io.BytesIO()
    np.save(content, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(stored / bundles.ARRAYS_FILE, "a") as archive:
        archive.writestr("extra.npy", content.getvalue())
    with pytest.raises(BundleError):
        bundles.load(stored)
    assert not mark.exists()


def test_a_model_file_with_more_in_it_is_refused(stored):
    file = stored / bundles.MODEL_FILE
    content = json.loads(file.read_bytes())
    content["__reduce__"] = ["os.system", ["true"]]
    file.write_text(json.dumps(content))
    with pytest.raises(BundleError):
        bundles.load(stored)
