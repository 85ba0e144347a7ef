"""Exchange the model to serve: the watcher writes it, the workers read it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from volatility.files import write_whole
from volatility.settings import Environment

CURRENT = "current.json"


class Current(msgspec.Struct, frozen=True):
    """Represent the model to serve.

    Parameters
    ----------
    checked : float
        When the registry was last queried [s since the epoch].
    model : str
        Folder of the model, next to this file; empty if there is none.
    reason : str
        Why a variant other than ``ml`` serves; empty if ``ml`` does.
    registry : str
        Why the registry is unavailable; empty if it is available.
    refused : str
        Why the version chosen by the registry is not served; empty if it is.
    refusals : int
        Versions refused so far.
    """

    checked: float = 0.0
    model: str = ""
    reason: str = ""
    registry: str = ""
    refused: str = ""
    refusals: int = 0


def folder_of(environment: Environment, base: Path) -> Path:
    """Return the folder for one combination of registry, model name, alias and variant."""
    asked = (
        environment.mlflow_tracking_uri,
        environment.model_name,
        environment.model_alias,
        environment.model_variant,
    )
    return base / hashlib.sha256("\0".join(asked).encode()).hexdigest()[:16]


def read_current(folder: Path) -> Current:
    """Read the model to serve; return an empty ``Current`` if it is missing or damaged."""
    try:
        return msgspec.json.decode((folder / CURRENT).read_bytes(), type=Current)
    except (OSError, msgspec.MsgspecError):
        return Current()


def write_current(folder: Path, current: Current) -> None:
    """Write the model to serve, atomically."""
    write_whole(folder / CURRENT, msgspec.json.encode(current))
