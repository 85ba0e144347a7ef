"""Read ``params.yaml`` and the environment into typed, frozen settings.

Each stage of the pipeline has one section of ``params.yaml``. An unknown key, a wrong type or
a value out of range is an error that names the key.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
import yaml

Positive = Annotated[float, msgspec.Meta(gt=0)]
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
    Pages of ``allowed_origins`` may call the service from a browser. ``max_connections`` is for one
    worker.
    """

    max_rows: Count = 1000
    timeout_seconds: Count = 30
    max_connections: Count = 2048
    rate_limit: str = ""
    trusted_proxies: str = ""
    allowed_origins: tuple[str, ...] = ()
    max_age_hours: Positive = 168.0

    def __post_init__(self) -> None:
        for origin in self.allowed_origins:
            if origin != "*" and not _is_origin(origin):
                raise ValueError(
                    f"allowed_origins: {origin!r} is not what a browser sends as an origin: "
                    "write it as https://desk.example or http://localhost:5173"
                )


def _is_origin(text: str) -> bool:
    """Check that a text is scheme, host in lower case and, unless it is the default, the port."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    host = parts.netloc.removesuffix(f":{port}")
    whole = text.isascii() and text == f"{parts.scheme}://{parts.netloc}"
    right = re.fullmatch(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]", host) is not None
    return bool(parts.scheme) and whole and right and (port is None or port != usual)


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
        return msgspec.convert(yaml.safe_load(file.read_text()) or {}, Settings)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise SettingsError(f"{file}: {error}") from error


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

    Raises
    ------
    SettingsError
        When ``MODEL_VARIANT`` is unknown, a broker's address cannot be one, or a variable is not a
        number but should be.
    """
    found = {
        name: os.environ[name.upper()]
        for name in Environment.__struct_fields__
        if os.environ.get(name.upper())
    }
    for server in found.get("kafka_bootstrap_servers", "").split(","):
        port = SERVER.fullmatch(server.strip())
        if server and (port is None or not 0 < int(port[1] or 1) < 65_536):
            raise SettingsError(
                f"KAFKA_BOOTSTRAP_SERVERS: {server.strip()!r} is not host:port, such as "
                "localhost:9092"
            )
    try:
        return msgspec.convert(found, Environment, strict=False)  # all values are strings
    except msgspec.ValidationError as error:
        raise SettingsError(f"environment: {error}") from error


def disable_telemetry() -> None:
    """Disable telemetry in all dependencies; call this before they are imported."""
    for name, value in NO_TELEMETRY.items():
        os.environ.setdefault(name, value)
