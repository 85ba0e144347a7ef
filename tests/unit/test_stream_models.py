from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.bundles import OTHER_RULES, under
from tests.chaos.checks import bundle
from tests.registries import make_registry, register_small
from volatility import registry
from volatility.models.prior import shipped
from volatility.registry import follow
from volatility.streaming import models as models_module
from volatility.streaming.models import Models


@pytest.mark.slow
def test_models_follow_the_aliases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def current() -> list[tuple[str, str]]:
        models.look()
        return [(m.version, m.bundle.variant) for m in models.current()]

    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    models = Models()
    assert current() == [(f"prior-{shipped().digest[:12]}", "prior")]
    assert models.current()[0].name == "crypto-vol-ml"
    register_small(tmp_path, 0)
    assert current() == [("1", "baseline")]
    registry.promote("1", evidence={"test": True})
    register_small(tmp_path, 1)
    assert current() == [("1", "ml"), ("2", "ml")]
    registry.promote("2", evidence={"test": True})
    assert current() == [("2", "ml")]
    registry.demote("2", reason="refuted", e_value=25.0)
    assert current() == [("2", "baseline")]


@pytest.mark.slow
def test_a_challenger_with_other_feature_rules_is_left_out_and_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    register_small(tmp_path, 0)
    registry.promote("1", evidence={})
    other = under(bundle(1), OTHER_RULES)
    other.save(tmp_path / "other")
    registry.register(tmp_path / "other", parameters={}, metrics={})
    models = Models()
    models.look()
    assert [m.version for m in models.current()] == ["1"]
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert "version 2" in warned[0]
    assert "feature rules" in warned[0]
    registry.promote("2", evidence={})
    models.look()
    assert models.current()[0].bundle.specification.features == OTHER_RULES


def test_models_stay_when_the_registry_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(10))

    def sleep(_: float) -> None:
        if next(calls) == 3:
            raise SystemExit

    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    register_small(tmp_path, 0)
    models = Models()
    monkeypatch.setattr(follow, "choose", _away)
    monkeypatch.setattr(models_module, "time", SimpleNamespace(sleep=sleep))
    with pytest.raises(SystemExit):
        models._watch()
    assert [m.version for m in models.current()] == ["1"]


@pytest.mark.slow
def test_models_stay_when_the_registry_has_lost_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    register_small(tmp_path, 0)
    models = Models()
    make_registry(tmp_path)
    with pytest.raises(registry.RegistryError, match="lost its models"):
        models.look()
    assert [m.version for m in models.current()] == ["1"]


def with_damaged_newest(folder: Path) -> Models:
    """Follow a champion; then register a challenger whose files are damaged."""
    register_small(folder, 0)
    registry.promote("1", evidence={})
    models = Models()
    before = set(folder.rglob("arrays.npz"))
    register_small(folder, 1)
    for file in set(folder.rglob("arrays.npz")) - before:
        file.write_bytes(file.read_bytes()[:-40])
    return models


@pytest.mark.slow
def test_a_refused_challenger_does_not_hold_back_the_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    models = with_damaged_newest(tmp_path)
    for _ in range(3):
        models.look()
    assert [m.version for m in models.current()] == ["1"]
    told = [r.message for r in caplog.records if "not scoring challenger version 2" in r.message]
    assert len(told) == 1, "a registered version never changes: it is tried once"


@pytest.mark.slow
def test_a_refused_champion_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    models = with_damaged_newest(tmp_path)
    registry.promote("2", evidence={})
    with pytest.raises(registry.RefusedVersionError):
        models.look()
    models.look()
    assert [m.version for m in models.current()] == ["1"]


def _away() -> str:
    raise registry.RegistryError("away")
