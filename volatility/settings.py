"""Read ``params.yaml`` and the environment into typed, frozen settings.

Each stage of the pipeline has one section of ``params.yaml``. An unknown key, a wrong type or
a value out of range is an error that names the key and shows how to write it.

The file is UTF-8, with or without a byte order mark. Numbers, dates and words are read as YAML 1.2
does: ``5e-2`` is a number, ``2026-01-05`` and ``on`` are text. A number may be in quotes.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
import yaml

from volatility.environment import Environment, disable_telemetry, environment, is_network
from volatility.hints import SettingsError, dates, explain
from volatility.yaml12 import read_yaml

__all__ = ["Environment", "SettingsError", "disable_telemetry", "environment", "load"]

Positive = Annotated[float, msgspec.Meta(gt=0, le=1e15)]  # finite
Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[int, msgspec.Meta(ge=0)]


SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9._@-]{0,31}")  # that of the records, which know no settings
RATE = re.compile(
    r"\s*\d+\s*(/|per)\s*(\d+\s*)?(second|minute|hour|day|month|year)s?\s*", re.IGNORECASE
)


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
            meant = next((day for day in dates(self.start)), "2026-01-05")
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
        rate = RATE.fullmatch(self.rate_limit)
        if self.rate_limit and rate is None:
            raise ValueError(
                f"rate_limit is {self.rate_limit!r}; write `rate_limit: 100/second` "
                "(second, minute, hour or day)"
            )
        for proxy in self.trusted_proxies.split(",") if self.trusted_proxies else ():
            if not is_network(proxy.strip()):
                raise ValueError(
                    f"trusted_proxies has {proxy.strip()!r}, which is not an address; "
                    "write `trusted_proxies: 10.0.0.2,10.1.0.0/16`"
                )
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
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; it must be a file of text") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8; save it in the encoding UTF-8") from error
    if "\0" in text:
        raise SettingsError(f"{file} is not UTF-8, but UTF-16; save it in the encoding UTF-8")
    try:
        found = read_yaml(text) or {}
    except yaml.YAMLError as error:
        raise SettingsError(f"{file}: {' '.join(str(error).split())}") from error
    try:
        return msgspec.convert(found, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{file}: {explain(str(error), found, Settings)}") from error
