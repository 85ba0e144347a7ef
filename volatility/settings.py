"""Read ``params.yaml`` and the environment into typed, frozen settings.

One stage of the pipeline is one section of ``params.yaml``. An unknown key, a wrong type or
a value out of range is an error that names the key.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml

Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[int, msgspec.Meta(ge=0)]


class SettingsError(ValueError):
    """A setting that cannot be used; the text names the file and the key."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the sections: immutable, and an unknown key is an error."""


class Simulate(Section, frozen=True):
    """Market to simulate: symbols, length [hours], start (ISO date), random seed."""

    symbols: tuple[str, ...] = ("BTC-USD",)
    hours: Positive = 120.0
    start: str = "2026-01-05"
    seed: int = 7


class Ticks(Section, frozen=True):
    """Where the ``ticks`` stage takes its ticks from: ``simulate`` or a path to recordings."""

    source: str = "simulate"


class Features(Section, frozen=True):
    """Gap and coverage rules [seconds; share] of the feature kernel."""

    gap_seconds: Count = 15
    min_coverage: Share = 0.8
    min_baseline_seconds: Count = 300
    memory_seconds: Annotated[int, msgspec.Meta(ge=1800)] = 1800


class Label(Section, frozen=True):
    """Spike label: kind, forward window [seconds], quantile (relative) or level (absolute)."""

    kind: Literal["relative", "absolute"] = "relative"
    horizon_seconds: Count = 60
    quantile: Share = 0.9
    absolute_threshold: Positive = 0.0002


class Train(Section, frozen=True):
    """Folds, calibration share, alert budget [per symbol and hour] and tree parameters."""

    folds: Count = 4
    calibration_share: Share = 0.25
    alerts_per_hour: Positive = 6.0
    learning_rate: Positive = 0.05
    iterations: Count = 150
    max_leaf_nodes: Annotated[int, msgspec.Meta(ge=2)] = 8
    min_samples_leaf: Count = 200
    l2_regularization: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    seed: int = 7


class Evaluate(Section, frozen=True):
    """Paired block bootstrap: block length [seconds, at least 600], number of resamples."""

    block_seconds: Annotated[int, msgspec.Meta(ge=600)] = 600
    resamples: Count = 1000
    placebo_hours: Positive = 12.0


class Drift(Section, frozen=True):
    """Which rows are current; effect sizes and share that raise drift.

    The newest ``hours`` after training; while too few lie there, the newest ``current_share``.
    """

    hours: Positive = 6.0
    current_share: Share = 0.25
    wasserstein: Positive = 0.5
    drift_share: Share = 0.5


class Performance(Section, frozen=True):
    """How far back live predictions are held against what then happened [hours]."""

    hours: Positive = 24.0


class Serving(Section, frozen=True):
    """Limits of one request, of a client and of a model's age.

    ``rate_limit`` such as ``100/second`` counts the requests of one client address to one
    worker; empty: no limit.
    """

    max_rows: Count = 1000
    timeout_seconds: Count = 30
    rate_limit: str = ""
    max_age_hours: Positive = 168.0


class Monitoring(Section, frozen=True):
    """Port of the flows' ``/metrics`` (0: none) and the number of drift pages that are kept."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 9104
    keep_html: Count = 10


class Schedules(Section, frozen=True):
    """Seconds between two runs of each flow; 0: never by itself."""

    capture: Seconds = 60
    features: Seconds = 300
    train: Seconds = 86400
    drift: Seconds = 900
    performance: Seconds = 300
    compact: Seconds = 3600


class Settings(Section, frozen=True):
    """Hold every section of ``params.yaml``."""

    simulate: Simulate = Simulate()
    ticks: Ticks = Ticks()
    features: Features = Features()
    label: Label = Label()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    drift: Drift = Drift()
    performance: Performance = Performance()
    serving: Serving = Serving()
    monitoring: Monitoring = Monitoring()
    schedules: Schedules = Schedules()


def load(path: Path | str = "params.yaml") -> Settings:
    """Read the settings; a missing file means the defaults.

    Raises
    ------
    SettingsError
        When the file is not YAML or a key is unknown, of the wrong type or out of range.
    """
    file = Path(path)
    if not file.exists():
        return Settings()
    try:
        return msgspec.convert(yaml.safe_load(file.read_text()) or {}, Settings)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise SettingsError(f"{file}: {error}") from error


class Environment(msgspec.Struct, frozen=True):
    """Hold what the environment sets; README and ``.env.example`` list the variables."""

    kafka_bootstrap_servers: str = "localhost:9092"
    mlflow_tracking_uri: str = "sqlite:///mlflow.db"
    model_name: str = "crypto-vol-ml"
    model_alias: str = "champion"
    model_variant: Literal["ml", "baseline"] = "ml"
    prefect_api_url: str = ""
    volatility_api_key: str = ""
    service_workers: Count = 1
    metrics_address: str = "127.0.0.1"
    alert_webhook_url: str = ""


def environment() -> Environment:
    """Read the environment.

    Raises
    ------
    SettingsError
        When ``MODEL_VARIANT`` is neither ``ml`` nor ``baseline``, or a number is none.
    """
    found = {
        name: os.environ[name.upper()]
        for name in Environment.__struct_fields__
        if os.environ.get(name.upper())
    }
    try:
        return msgspec.convert(found, Environment, strict=False)  # all are text
    except msgspec.ValidationError as error:
        raise SettingsError(f"environment: {error}") from error
