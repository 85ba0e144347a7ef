"""Read ``params.yaml`` and the environment into typed, frozen settings.

Each stage of the pipeline has one section of ``params.yaml``. An unknown key, a wrong type or
a value out of range is an error that names the key and shows how to write it.

The file is UTF-8, with or without a byte order mark. Numbers, dates and words are read as YAML 1.2
does: ``5e-2`` is a number, ``2026-01-05`` and ``on`` are text. A number may be in quotes.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
import yaml

Positive = Annotated[float, msgspec.Meta(gt=0, le=1e15)]  # finite
Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[int, msgspec.Meta(ge=0)]


# Variables that disable telemetry in the dependencies.
NO_TELEMETRY = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "true",  # mlflow accepts only "true"
    "DVC_NO_ANALYTICS": "1",
    "EVIDENTLY_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9._-]{0,31}")  # that of the records, which know no settings
RATE = re.compile(
    r"\s*\d+\s*(/|per)\s*(\d+\s*)?(second|minute|hour|day|month|year)s?\s*", re.IGNORECASE
)


# What may follow a number by mistake: seconds, or a share.
UNITS = {"%": 0.01, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
UNITS |= {"second": 1, "seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "": 0}


class SettingsError(ValueError):
    """A setting is invalid; the message names the file and the key."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base class of the sections: immutable, and an unknown key is an error."""


class Simulate(Section, frozen=True):
    """Configure the simulated market: symbols, length [hours], start (ISO date), random seed."""

    symbols: tuple[str, ...] = ("BTC-USD",)
    hours: Positive = 120.0
    start: str = "2026-01-05"
    seed: int = 7

    def __post_init__(self) -> None:
        if not self.symbols:
            raise ValueError("symbols is empty; write `symbols: [BTC-USD]`")
        for symbol in self.symbols:
            if not SYMBOL.fullmatch(symbol):
                meant = symbol.strip().upper().replace("/", "-")
                right = meant if SYMBOL.fullmatch(meant) else "BTC-USD"
                raise ValueError(f"symbols has {symbol!r}; write it as {right}")
        try:
            datetime.fromisoformat(self.start)
        except ValueError:
            meant = next((day for day in _dates(self.start)), "2026-01-05")
            raise ValueError(f'start is {self.start!r}; write `start: "{meant}"`') from None


class Ticks(Section, frozen=True):
    """Configure the source of the ``ticks`` stage: ``simulate`` or a path to recordings."""

    source: str = "simulate"


class Features(Section, frozen=True):
    """Configure the gap and coverage rules [seconds; share] of the feature kernel."""

    gap_seconds: Count = 15
    min_coverage: Share = 0.8
    min_baseline_seconds: Count = 300
    memory_seconds: Annotated[int, msgspec.Meta(ge=1800)] = 1800


class Forecast(Section, frozen=True):
    """Configure horizons [seconds, increasing] and spike levels.

    The spike level of a symbol is the ``spike_quantile`` of its forward volatility in the
    training window, unless ``spike_levels_bps`` sets it [basis points over the first horizon].
    """

    horizons: tuple[Count, ...] = (60, 300, 900)
    spike_quantile: Share = 0.9
    spike_levels_bps: dict[str, Positive] = {}

    def __post_init__(self) -> None:
        if not self.horizons or sorted(set(self.horizons)) != list(self.horizons):
            raise ValueError("horizons must be one or more increasing numbers of seconds")


class Train(Section, frozen=True):
    """Configure training: rows, folds, alert budget [per symbol and hour], tree parameters.

    Training reads the newest ``window_days``, one row every ``stride_seconds``.
    """

    window_days: Positive = 30.0
    stride_seconds: Count = 15
    folds: Count = 4
    alerts_per_hour: Positive = 6.0
    learning_rate: Positive = 0.05
    max_leaf_nodes: Annotated[int, msgspec.Meta(ge=2)] = 8
    min_samples_leaf: Count = 200
    l2_regularization: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    seed: int = 7


class Evaluate(Section, frozen=True):
    """Configure the paired block bootstrap: block length [seconds, at least 1,200], resamples."""

    block_seconds: Annotated[int, msgspec.Meta(ge=1200)] = 1200
    resamples: Count = 1000
    placebo_hours: Positive = 24.0


class Drift(Section, frozen=True):
    """Configure drift detection: the current rows, and the thresholds for effect size and share.

    Current rows are the newest ``hours`` after training or, if those are too few, the newest
    ``current_share`` of all rows.
    """

    hours: Positive = 6.0
    current_share: Share = 0.25
    wasserstein: Positive = 0.5
    drift_share: Share = 0.5


class Performance(Section, frozen=True):
    """Configure how far back live predictions are compared with actual outcomes [hours]."""

    hours: Positive = 24.0


class Serving(Section, frozen=True):
    """Configure limits for a request, a client and a model's age.

    ``rate_limit``, such as ``100/second``, applies to the requests of one client address to one
    worker; empty means no limit. ``trusted_proxies`` are the addresses or networks, separated by
    commas, whose ``X-Forwarded-For`` names the client; anyone else could evade the limit by it.
    """

    max_rows: Count = 1000
    timeout_seconds: Count = 30
    rate_limit: str = ""
    trusted_proxies: str = ""
    max_age_hours: Positive = 168.0

    def __post_init__(self) -> None:
        rate = RATE.fullmatch(self.rate_limit)
        if self.rate_limit and rate is None:
            raise ValueError(
                f"rate_limit is {self.rate_limit!r}; write `rate_limit: 100/second` "
                "(second, minute, hour or day)"
            )
        for proxy in self.trusted_proxies.split(",") if self.trusted_proxies else ():
            if not _is_network(proxy.strip()):
                raise ValueError(
                    f"trusted_proxies has {proxy.strip()!r}, which is not an address; "
                    "write `trusted_proxies: 10.0.0.2,10.1.0.0/16`"
                )


class Monitoring(Section, frozen=True):
    """Configure the port of the flows' ``/metrics`` (0: none) and how many drift pages to keep."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 9104
    keep_html: Count = 10


class Schedules(Section, frozen=True):
    """Configure the seconds between two runs of each flow; 0 disables the schedule."""

    capture: Seconds = 60
    features: Seconds = 300
    train: Seconds = 86400
    drift: Seconds = 900
    performance: Seconds = 300
    compact: Seconds = 3600


class Settings(Section, frozen=True):
    """Represent all sections of ``params.yaml``."""

    simulate: Simulate = Simulate()
    ticks: Ticks = Ticks()
    features: Features = Features()
    forecast: Forecast = Forecast()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    drift: Drift = Drift()
    performance: Performance = Performance()
    serving: Serving = Serving()
    monitoring: Monitoring = Monitoring()
    schedules: Schedules = Schedules()


def load(path: Path | str = "params.yaml") -> Settings:
    """Read the settings; if the file is missing, return the defaults.

    Raises
    ------
    SettingsError
        When the file is not YAML, or a key is unknown, of the wrong type or out of range.
    """
    file = Path(path)
    if not file.exists():
        return Settings()
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; it must be a file of text") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8; save it in the encoding UTF-8") from error
    if "\0" in text:
        raise SettingsError(f"{file} is not UTF-8, but UTF-16; save it in the encoding UTF-8")
    found: Any = {}
    try:
        found = yaml.load(text, _Loader) or {}  # noqa: S506 - a SafeLoader
        return msgspec.convert(found, Settings, strict=False)
    except yaml.YAMLError as error:
        raise SettingsError(f"{file}: {' '.join(str(error).split())}") from error
    except msgspec.ValidationError as error:
        raise SettingsError(f"{file}: {_explained(str(error), found)}") from error


class _Loader(yaml.SafeLoader):
    """Read scalars by the rules of YAML 1.2, which people expect: see the module's docstring."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - it belongs to this class


_FLOAT = (
    r"[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first
    )


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    return int(text, 16) if text.startswith("0x") else int(text)  # 010 is ten


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def _explained(message: str, found: Any) -> str:
    """Add to an error of msgspec what is written, and what it should be."""
    at = re.search(r"at `\$\.([\w.]+)", message)
    keys = at[1].split(".") if at else []
    example: Any = msgspec.to_builtins(Settings())
    value = found
    for key in keys:
        example = example[key]
        value = value.get(key) if isinstance(value, dict) else None
    unknown = re.search(r"unknown field `(.*?)`", message)
    if unknown:
        close = difflib.get_close_matches(unknown[1], example, 1)
        return f"{message}; " + (
            f"did you mean `{close[0]}`?" if close else f"it may have {', '.join(example)}"
        )
    if not message.startswith("Expected"):
        return message  # it shows the right spelling already
    if len(keys) < 2:
        section = keys[0] if keys else "train"
        return f"{message}; write the section as in `{section}:` and its keys, indented, below it"
    written = "empty" if value is None else repr(value)
    right = next(_meant(found, keys, value), example) if isinstance(value, str | int) else example
    if right == {}:
        right = {"BTC-USD": 7.5}
    shown = yaml.safe_dump({keys[-1]: right}, default_flow_style=True, width=1000).strip()[1:-1]
    return f"{message}, which is {written}; write `{shown}`"


def _meant(found: Any, keys: list[str], value: str | int) -> Iterator[Any]:
    """Yield spellings of a value that are valid, the likeliest first."""
    text = str(value).strip()
    number = re.match(r"[-+]?[\d_]*[.,]?\d+(?:[eE][-+]?\d+)?", text)
    candidates: list[Any] = []
    if number:
        plain = number[0].replace("_", "").replace(",", ".")
        unit = UNITS.get(text[number.end() :].strip().lower())
        if unit is not None:
            factor = unit / _unit(keys) if unit >= 1 else unit or 1
            parsed = float(plain) * factor
            candidates += [int(parsed) if parsed.is_integer() else parsed]
    parts = [part for part in re.split(r"[,;\s]+", text.strip("[]")) if part]
    candidates += [list(parts), [int(p) for p in parts if p.isdecimal()], *_dates(text), text]
    for candidate in candidates:
        section = {**found[keys[0]], keys[1]: candidate}
        try:
            msgspec.convert({keys[0]: section}, Settings)
        except msgspec.ValidationError:
            continue
        yield candidate


def _unit(keys: list[str]) -> int:
    """Return the seconds of a setting's unit; 1 if it has none."""
    return 3600 if "hours" in keys[1] else 86_400 if "days" in keys[1] else 1


def _dates(text: str) -> Iterator[str]:
    for form in ("%Y-%m-%d", "%Y%m%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y"):
        try:
            yield datetime.strptime(text.strip(), form).date().isoformat()  # noqa: DTZ007 - a day
        except ValueError:
            continue


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return text == "*"
    return True


SERVER = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(\d{1,5}))?")


class Environment(msgspec.Struct, frozen=True):
    """Represent the environment variables, which README and ``.env.example`` describe."""

    kafka_bootstrap_servers: str = "localhost:9092"
    mlflow_tracking_uri: str = "sqlite:///mlflow.db"
    model_name: str = "crypto-vol-ml"
    model_alias: str = "champion"
    model_variant: Literal["ml", "prior", "baseline"] = "ml"
    prefect_api_url: str = ""
    prefect_allowed_hosts: str = "localhost,127.0.0.1,::1,prefect"
    volatility_api_key: str = ""
    service_workers: Count = 1
    metrics_address: str = "127.0.0.1"
    alert_webhook_url: str = ""


def environment() -> Environment:
    """Read the environment.

    White space around a value, such as the carriage return of a ``.env`` file written on Windows,
    and quotes around it are not part of it.

    Raises
    ------
    SettingsError
        When a variable cannot have its value; the message shows how to write it.
    """
    found = {
        name: value
        for name in Environment.__struct_fields__
        if (value := _unquoted(os.environ.get(name.upper(), "")))
    }
    for server in found.get("kafka_bootstrap_servers", "").split(","):
        port = SERVER.fullmatch(server.strip())
        if server and (port is None or not 0 < int(port[1] or 1) < 65_536):
            raise SettingsError(
                f"KAFKA_BOOTSTRAP_SERVERS: {server.strip()!r} is not host:port, such as "
                "localhost:9092"
            )
    for name, value in found.items():
        right = _right(name, value)
        if right is not None:
            raise SettingsError(f"environment: {name.upper()} is {value!r}; write it as {right}")
    return msgspec.convert(found, Environment, strict=False)  # all values are strings


def _unquoted(text: str) -> str:
    text = text.strip().removeprefix("\ufeff")
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1].strip() if quoted else text


def _right(name: str, value: str) -> str | None:
    """Return how to write a variable whose value cannot be right, else None."""
    match name:
        case "model_variant":
            return None if value in {"ml", "prior", "baseline"} else "ml, prior or baseline"
        case "service_workers":
            return None if re.fullmatch(r"0*[1-9]\d{0,3}", value) else "a whole number, such as 1"
        case "model_name":
            return "crypto-vol-ml, without any of / : @" if re.search("[/:@]", value) else None
        case "model_alias":
            ok = "/" in value or re.fullmatch(r"[\w-]+", value)
            return None if ok else "champion, or the number of a version"
        case "mlflow_tracking_uri":
            return _right_store(value)
        case "prefect_api_url":
            good = _is_url(value) and "/api" in urlsplit(value).path
            return None if good else "http://localhost:4200/api"
        case "alert_webhook_url":
            return None if _is_url(value) else "https://example.com/path"
        case "metrics_address":
            good = _is_network(value) or bool(re.fullmatch(r"[A-Za-z][\w.-]*", value))
            return None if good and "/" not in value else "127.0.0.1 or 0.0.0.0, without a port"
        case "prefect_allowed_hosts":
            hosts = [host.strip() for host in value.split(",")]
            good = all(re.fullmatch(r"[\w.*-]+(:\d+)?|\[?[0-9a-fA-F:]+\]?", h) for h in hosts if h)
            return None if good else "host names with commas in between: localhost,127.0.0.1"
    return None


def _right_store(value: str) -> str | None:
    """Return how to write the address of an MLflow store, if it is a usual slip, else None."""
    scheme, _, rest = value.partition(":")
    if scheme.lower() == "sqlite" and not re.match("///[^/]|////[^/]", rest):
        return f"sqlite:///{rest.strip('/') or 'mlflow.db'}"
    if scheme.lower() in {"http", "https"} and not _is_url(value):
        return "http://localhost:5000"
    if re.fullmatch(r"[\w.-]+:\d{1,5}(/.*)?", value):
        return f"http://{value}"
    if "://" not in value and value.endswith((".db", ".sqlite", ".sqlite3")):
        return f"sqlite:///{value}"
    return None


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - it is checked only when it is read
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not re.search(r"\s", text)


def disable_telemetry() -> None:
    """Disable telemetry in all dependencies; call this before they are imported."""
    for name, value in NO_TELEMETRY.items():
        os.environ[name] = _unquoted(os.environ.get(name, "")) or value
