"""Read the environment variables, which README and ``.env.example`` describe."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from volatility.hints import SettingsError

# Variables that disable telemetry in the dependencies.
NO_TELEMETRY = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "true",  # mlflow accepts only "true"
    "DVC_NO_ANALYTICS": "1",
    "EVIDENTLY_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

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
    service_workers: Annotated[int, msgspec.Meta(ge=1)] = 1
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
        case "metrics_address":
            good = is_network(value) or bool(re.fullmatch(r"[A-Za-z][\w.-]*", value))
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


def is_network(text: str) -> bool:
    """Return whether a text is an address, a network or ``*``."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return text == "*"
    return True
