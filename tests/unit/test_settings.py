from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from volatility.settings import Environment, Settings, SettingsError, environment, load

ROOT = Path(__file__).parents[2]


def write(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text)
    return path


def test_the_repository_s_parameters_are_the_defaults() -> None:
    assert load(ROOT / "params.yaml") == Settings()


def test_every_parameter_is_written_out() -> None:
    import yaml

    written = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert {k: list(v) for k, v in written.items()} == {
        k: list(v) for k, v in msgspec.to_builtins(Settings()).items()
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "train: {}\n"])
def test_what_is_left_out_is_the_default(tmp_path: Path, text: str) -> None:
    assert load(write(tmp_path, text)) == Settings()
    assert load(tmp_path / "missing.yaml") == Settings()


def test_a_section_is_read(tmp_path: Path) -> None:
    found = load(write(tmp_path, "train: {folds: 2}\nsimulate: {symbols: [A, B], hours: 3}\n"))
    assert found.train.folds == 2
    assert found.simulate.symbols == ("A", "B")
    assert found.simulate.hours == 3.0
    assert found.forecast == Settings().forecast


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("trian: {}", "trian"),
        ("train: {fold: 2}", "fold"),
        ("train: {folds: 0}", "$.train.folds"),
        ("train: {folds: two}", "$.train.folds"),
        ("train: {folds: 2.5}", "$.train.folds"),
        ("train: {max_leaf_nodes: 1}", "$.train.max_leaf_nodes"),
        ("train: {stride_seconds: 0}", "$.train.stride_seconds"),
        ("train: {window_days: 0}", "$.train.window_days"),
        ("train: {learning_rate: -1}", "$.train.learning_rate"),
        ("label: {quantile: 0.9}", "label"),
        ("forecast: {spike_quantile: 90}", "$.forecast.spike_quantile"),
        ("forecast: {spike_levels_bps: {BTC-USD: 0}}", "$.forecast.spike_levels_bps"),
        ("forecast: {horizons: [300, 60]}", "$.forecast"),
        ("forecast: {horizons: [60, 60]}", "increasing"),
        ("forecast: {horizons: []}", "one or more"),
        ("features: {gap_seconds: 0}", "$.features.gap_seconds"),
        ("evaluate: {block_seconds: 1199}", "$.evaluate.block_seconds"),
        ("simulate: {symbols: BTC-USD}", "$.simulate.symbols"),
        ("simulate: {hours: -3}", "$.simulate.hours"),
        ("simulate: {seed: }", "$.simulate.seed"),
        ("[1, 2]", "array"),
        ("train: [", "params.yaml"),
    ],
)
def test_a_wrong_setting_names_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(write(tmp_path, text))
    assert "params.yaml: " in str(error.value)
    assert says in str(error.value)


def test_spike_levels_are_named_by_symbol(tmp_path: Path) -> None:
    found = load(write(tmp_path, "forecast: {spike_levels_bps: {BTC-USD: 7.5}}\n"))
    assert found.forecast.spike_levels_bps == {"BTC-USD": 7.5}


def test_settings_do_not_change() -> None:
    with pytest.raises(AttributeError):
        Settings().train.folds = 7  # type: ignore[misc]


NAMES = [name.upper() for name in Environment.__struct_fields__]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_an_empty_environment_is_the_defaults(bare: pytest.MonkeyPatch) -> None:
    assert environment() == Environment()
    bare.setenv("MODEL_NAME", "")
    assert environment().model_name == "crypto-vol-ml"


@pytest.mark.parametrize("name", NAMES)
def test_each_variable_is_read(bare: pytest.MonkeyPatch, name: str) -> None:
    text = "3" if name == "SERVICE_WORKERS" else "baseline"
    bare.setenv(name, text)
    assert str(getattr(environment(), name.lower())) == text


@pytest.mark.parametrize("variant", ["ml", "prior", "baseline"])
def test_each_variant_is_known(bare: pytest.MonkeyPatch, variant: str) -> None:
    bare.setenv("MODEL_VARIANT", variant)
    assert environment().model_variant == variant


def test_a_wrong_variant_names_the_variable(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("MODEL_VARIANT", "best")
    with pytest.raises(SettingsError, match="model_variant"):
        environment()


@pytest.mark.parametrize(
    "wrong", ["localhost:abc", "http://localhost:9092", "localhost:99999", ":9092", "a b:1", "::1"]
)
def test_a_broker_address_that_cannot_be_is_named(bare: pytest.MonkeyPatch, wrong: str) -> None:
    bare.setenv("KAFKA_BOOTSTRAP_SERVERS", f"kafka:9092,{wrong}")
    with pytest.raises(SettingsError, match=re.escape(f"{wrong!r} is not host:port")):
        environment()


@pytest.mark.parametrize("right", ["localhost", "kafka-1.example:9092", "[::1]:9092", "a:1, b:2"])
def test_a_broker_address_that_can_be_is_taken(bare: pytest.MonkeyPatch, right: str) -> None:
    bare.setenv("KAFKA_BOOTSTRAP_SERVERS", right)
    assert environment().kafka_bootstrap_servers == right


@pytest.mark.parametrize("text", ["many", "0", "1.5"])
def test_a_number_that_is_none_names_the_variable(bare: pytest.MonkeyPatch, text: str) -> None:
    bare.setenv("SERVICE_WORKERS", text)
    with pytest.raises(SettingsError, match="service_workers"):
        environment()


def test_the_example_lists_every_variable_with_its_default() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    given = dict(line.lstrip("# ").split("=", 1) for line in lines if "=" in line)
    defaults = Environment()
    for name in Environment.__struct_fields__:
        assert given[name.upper()].split(" #")[0].strip() == str(getattr(defaults, name)), name
