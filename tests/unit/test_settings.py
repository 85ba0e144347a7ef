from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
import pytest

from volatility import settings
from volatility.environment import NO_TELEMETRY
from volatility.records import SYMBOL
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


@pytest.mark.parametrize(
    ("text", "section", "key", "value"),
    [
        ("train: {learning_rate: 5e-2}", "train", "learning_rate", 0.05),
        ("train: {l2_regularization: 1E1}", "train", "l2_regularization", 10.0),
        ("evaluate: {placebo_hours: .5e1}", "evaluate", "placebo_hours", 5.0),
        ('train: {folds: "3"}', "train", "folds", 3),
        ('drift: {wasserstein: "0.25"}', "drift", "wasserstein", 0.25),
        ("simulate: {start: 2026-01-05}", "simulate", "start", "2026-01-05"),
        ("simulate: {start: 2025-12-31}", "simulate", "start", "2025-12-31"),
        ("simulate: {symbols: [ON, NO]}", "simulate", "symbols", ("ON", "NO")),
        ("ticks: {source: off}", "ticks", "source", "off"),
        ("monitoring: {port: 0910}", "monitoring", "port", 910),
    ],
)
def test_the_usual_spellings_are_read(
    tmp_path: Path, text: str, section: str, key: str, value: object
) -> None:
    assert getattr(getattr(load(write(tmp_path, text)), section), key) == value


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("train: {learning_rate: '0,05'}", "`learning_rate: 0.05`"),
        ("train: {window_days: 30d}", "`window_days: 30`"),
        ("train: {stride_seconds: 15s}", "`stride_seconds: 15`"),
        ("train: {folds: }", "empty; write `folds: 4`"),
        ("train: {seed: 1.5}", "`seed: 7`"),
        ("drift: {drift_share: 50%}", "`drift_share: 0.5`"),
        ("drift: {current_share: 1}", "`current_share: 0.25`"),
        ("features: {min_coverage: 80 %}", "`min_coverage: 0.8`"),
        ("evaluate: {resamples: true}", "`resamples: 1000`"),
        ("evaluate: {placebo_hours: .inf}", "`placebo_hours: 24.0`"),
        ("forecast: {horizons: 60}", "`horizons: [60]`"),
        ("forecast: {horizons: '60, 300'}", "`horizons: [60, 300]`"),
        ("forecast: {horizons: [a]}", "`horizons: [60, 300, 900]`"),
        ("forecast: {spike_levels_bps: 7.5}", "`spike_levels_bps: {BTC-USD: 7.5}`"),
        ("simulate: {symbols: BTC-USD}", "`symbols: [BTC-USD]`"),
        ("simulate: {symbols: 'BTC-USD, ETH-USD'}", "`symbols: [BTC-USD, ETH-USD]`"),
        ("simulate: {symbols: [btc/usd]}", "BTC-USD"),
        ("simulate: {start: 05.01.2026}", '`start: "2026-01-05"`'),
        ("simulate: {start: 2026-1-5}", '`start: "2026-01-05"`'),
        ("simulate: {start: yesterday}", '`start: "2026-01-05"`'),
        ("simulate: {start: 20260105}", "`start: '2026-01-05'`"),
        ("serving: {rate_limit: 100/sec}", "`rate_limit: 100/second`"),
        ("serving: {rate_limit: 100}", "`rate_limit: "),
        ("serving: {trusted_proxies: proxy}", "`trusted_proxies: 10.0.0.2"),
        ("monitoring: {port: 99999}", "`port: 9104`"),
        ("schedules: {capture: 1m}", "`capture: 60`"),
        ("simulate: {hours: 2d}", "`hours: 48`"),
        ("performance: {hours: one}", "`hours: 24.0`"),
        ("train: {fold: 2}", "did you mean `folds`?"),
        ("trian: {}", "did you mean `train`?"),
        ("train: 5", "`train:`"),
    ],
)
def test_a_wrong_spelling_is_answered_by_the_right_one(
    tmp_path: Path, text: str, right: str
) -> None:
    with pytest.raises(SettingsError) as error:
        load(write(tmp_path, text))
    assert right in str(error.value)
    assert text.split(": ", maxsplit=1)[0] in str(error.value)
    assert "\n" not in str(error.value)


def test_every_setting_says_how_to_write_it(tmp_path: Path) -> None:
    for section, keys in msgspec.to_builtins(Settings()).items():
        for key in keys:
            with pytest.raises(SettingsError) as error:
                load(write(tmp_path, f"{section}: {{{key}: [{{}}]}}"))
            assert f"$.{section}.{key}" in str(error.value)
            assert f"write `{key}: " in str(error.value)


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes("# größer\r\ntrain:\r\n  folds: 2\r\n".encode("utf-8-sig"))
    assert load(path).train.folds == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_another_encoding_names_the_file(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_bytes("# größer\ntrain:\n  folds: 2\n".encode(encoding))
    with pytest.raises(SettingsError, match=r"other\.yaml is not UTF-8.*save it") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="must be a file"):
        load(tmp_path)


def test_symbols_are_spelled_as_in_records() -> None:
    assert settings.SYMBOL.pattern == SYMBOL.pattern


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
    text = {
        "SERVICE_WORKERS": "3",
        "PREFECT_API_URL": "http://prefect:4200/api",
        "ALERT_WEBHOOK_URL": "https://example.com/hook",
    }.get(name, "baseline")
    bare.setenv(name, text)
    assert str(getattr(environment(), name.lower())) == text


@pytest.mark.parametrize("variant", ["ml", "prior", "baseline"])
def test_each_variant_is_known(bare: pytest.MonkeyPatch, variant: str) -> None:
    bare.setenv("MODEL_VARIANT", variant)
    assert environment().model_variant == variant


def test_a_wrong_variant_names_the_variable(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("MODEL_VARIANT", "best")
    with pytest.raises(SettingsError, match=r"MODEL_VARIANT.*ml, prior or baseline"):
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
    with pytest.raises(SettingsError, match="SERVICE_WORKERS"):
        environment()


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("MODEL_VARIANT", "ML", "ml, prior or baseline"),
        ("SERVICE_WORKERS", "two", "such as 1"),
        ("MODEL_NAME", "team/model", "without any of"),
        ("MODEL_ALIAS", "@champion", "champion"),
        ("MODEL_ALIAS", "the champion", "champion"),
        ("MLFLOW_TRACKING_URI", "mlflow.db", "sqlite:///mlflow.db"),
        ("MLFLOW_TRACKING_URI", "sqlite://mlflow.db", "sqlite:///mlflow.db"),
        ("MLFLOW_TRACKING_URI", "sqlite:mlflow.db", "sqlite:///mlflow.db"),
        ("MLFLOW_TRACKING_URI", "localhost:5000", "http://localhost:5000"),
        ("MLFLOW_TRACKING_URI", "http:/localhost:5000", "http://localhost:5000"),
        ("PREFECT_API_URL", "localhost:4200", "http://localhost:4200/api"),
        ("PREFECT_API_URL", "http://localhost:4200", "http://localhost:4200/api"),
        ("PREFECT_ALLOWED_HOSTS", "http://localhost", "localhost,127.0.0.1"),
        ("METRICS_ADDRESS", "0.0.0.0:9102", "without a port"),
        ("METRICS_ADDRESS", "http://localhost", "without a port"),
    ],
)
def test_a_wrong_variable_is_answered_by_the_right_spelling(
    bare: pytest.MonkeyPatch, name: str, wrong: str, right: str
) -> None:
    bare.setenv(name, wrong)
    with pytest.raises(SettingsError) as error:
        environment()
    assert str(error.value).startswith(f"environment: {name} is {wrong!r}; write it as ")
    assert right in str(error.value)


@pytest.mark.parametrize("end", ["\r", "\r\n", " "])
def test_the_ends_of_lines_of_another_system_are_not_part_of_a_value(
    bare: pytest.MonkeyPatch, end: str
) -> None:
    for line in (ROOT / ".env.example").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            bare.setenv(name, value + end)
    assert environment() == Environment()
    settings.disable_telemetry()
    assert {name: os.environ[name] for name in NO_TELEMETRY} == NO_TELEMETRY


@pytest.mark.parametrize("text", ['"baseline"', "'baseline'\r"])
def test_quotes_around_a_value_are_not_part_of_it(bare: pytest.MonkeyPatch, text: str) -> None:
    bare.setenv("MODEL_VARIANT", text)
    assert environment().model_variant == "baseline"


def test_the_example_lists_every_variable_with_its_default() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    given = dict(line.lstrip("# ").split("=", 1) for line in lines if "=" in line)
    defaults = Environment()
    for name in Environment.__struct_fields__:
        assert given[name.upper()].split(" #")[0].strip() == str(getattr(defaults, name)), name
