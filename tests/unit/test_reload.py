"""A worker serves what the watcher has laid out, and keeps what it has where that is damaged."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service import reload as module
from service.current import Current, read_current, write_current
from service.reload import Reload
from service.state import State
from tests.bundles import small_bundle
from volatility import registry
from volatility.models.bundle import ARRAYS_FILE
from volatility.registry import RegisteredModel, packaging
from volatility.settings import Serving, Settings, environment


class Place:
    """Play the watcher: lay models out by hand."""

    def __init__(self, folder: Path) -> None:
        self.state = State(Settings(serving=Serving(max_age_hours=1e9)))
        self.shown: list[str] = []
        self.refused = 0
        metrics = SimpleNamespace(
            show_model=lambda served: self.shown.append(served.model.version),
            refused=self._refuse,
            show_health=lambda _: None,
        )
        self.reload = Reload(self.state, environment(), metrics)
        self.folder = self.reload._folder = folder

    def _refuse(self, versions: int) -> None:
        self.refused = versions

    def lay_out(self, version: int) -> Path:
        name = f"{version}-champion-x"
        model = RegisteredModel(small_bundle(version), "crypto-vol-ml", str(version), "champion")
        packaging.write_packaged(model, self.folder / name)
        self.say(model=name)
        return self.folder / name

    def say(self, **given: Any) -> None:
        known = read_current(self.folder)
        fields = {name: getattr(known, name) for name in known.__struct_fields__}
        write_current(self.folder, Current(**{**fields, "checked": time.time(), **given}))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def served(place: Place) -> str | None:
    return place.state.served.model.version if place.state.served else None


@pytest.mark.slow
def test_what_is_laid_out_is_served_and_swapped(place: Place) -> None:
    place.reload.look()
    assert served(place) is None
    for version in (1, 2, 1):
        place.lay_out(version)
        place.reload.look()
        place.reload.look()
        assert served(place) == str(version)
        assert place.state.healthy()
    assert place.shown == ["1", "2", "1"]


@pytest.mark.slow
def test_a_damaged_model_is_refused_and_the_one_before_serves_on(place: Place) -> None:
    place.lay_out(1)
    place.reload.look()
    folder = place.lay_out(2)
    (folder / ARRAYS_FILE).write_bytes(b"")
    place.reload.look()
    assert served(place) == "1"
    assert "cannot be used" in place.state.warnings["refused"]
    assert place.state.health()[1]["status"] == "degraded"
    place.lay_out(3)
    place.reload.look()
    assert served(place) == "3"
    assert place.state.warnings == {}


def test_the_prior_serves_until_a_model_is_laid_out(place: Place) -> None:
    model = registry.shipped_model()
    packaging.write_packaged(model, place.folder / "prior")
    place.say(model="prior")
    place.reload.look()
    assert served(place) == model.version
    assert place.state.health()[1]["model_variant"] == "prior"
    place.lay_out(1)
    place.reload.look()
    assert served(place) == "1"
    assert place.state.health()[1]["model_variant"] == "ml"


def test_a_demotion_is_passed_on(place: Place) -> None:
    model = RegisteredModel(small_bundle(1), "crypto-vol-ml", "1", "challenger")
    packaging.write_packaged(model, place.folder / "1-challenger-x")
    place.say(model="1-challenger-x", reason="it was worse than har")
    place.reload.look()
    assert place.state.served is not None
    assert place.state.served.describe()["variant"] == "baseline"
    assert place.state.served.describe()["reason"] == "it was worse than har"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("champoin", True),
        ("models:/crypto-vol-ml@staging", True),
        ("champion", False),
        ("2", False),
    ],
)
def test_an_alias_that_no_version_has_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, told: bool
) -> None:
    monkeypatch.setenv("MODEL_ALIAS", asked)
    place = Place(tmp_path)
    place.lay_out(2)
    place.reload.look()
    status, body = place.state.health()
    assert (status, body["status"]) == (200, "degraded" if told else "ok")
    assert ("check MODEL_ALIAS" in body["warnings"].get("alias", "")) == told


def test_what_the_watcher_cannot_do_is_told(place: Place) -> None:
    place.lay_out(1)
    place.say(registry="it is away", refused="version 2 is refused", refusals=4)
    place.reload.look()
    assert served(place) == "1"
    assert place.state.warnings == {"registry": "it is away", "refused": "version 2 is refused"}
    assert place.refused == 4
    place.say(registry="", refused="", checked=time.time() - module.SILENT_SECONDS - 1)
    place.reload.look()
    assert "has not been queried" in place.state.warnings["registry"]


def test_without_any_model_the_reason_is_what_clients_are_told(place: Place) -> None:
    place.say(registry="no version is registered; run `volatility train`")
    place.reload.look()
    status, body = place.state.health()
    assert (status, body["status"]) == (503, "unavailable")
    assert "run `volatility train`" in body["error"]


def test_a_warning_is_logged_once_and_its_end_too(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    place.lay_out(1)
    place.say(registry="it is away")
    for _ in range(5):
        place.reload.look()
    place.say(registry="")
    place.reload.look()
    place.reload.look()
    told = Counter(record.getMessage() for record in caplog.records)
    assert told["it is away"] == 1
    assert told["resolved: it is away"] == 1


@pytest.mark.slow
def test_a_packaged_model_needs_no_watcher(place: Place) -> None:
    place.reload.load_packaged(place.lay_out(5))
    assert served(place) == "5"
    broken = Place(place.folder)
    (place.folder / "5-champion-x" / "model.json").write_text("{}")
    broken.reload.load_packaged(place.folder / "5-champion-x")
    assert served(broken) is None
    assert "no model is loaded" in broken.state.problem
