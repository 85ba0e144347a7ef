"""Pass on what is to be served: the watcher writes it, the workers read it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from volatility.settings import Environment

CURRENT = "current.json"


class Current(msgspec.Struct, frozen=True):
    """Say what is to be served.

    Parameters
    ----------
    checked : float
        When the registry was last asked [s since the epoch].
    model : str
        Folder of the model beside this file; empty: none.
    registry : str
        Why the registry cannot be used; empty: it can.
    refused : str
        Why the version that the registry wants is not served; empty: it is.
    refusals : int
        Versions refused so far.
    """

    checked: float = 0.0
    model: str = ""
    registry: str = ""
    refused: str = ""
    refusals: int = 0


def folder_of(environment: Environment, base: Path) -> Path:
    """Give the folder of what serves one alias of one model of one registry."""
    asked = (environment.mlflow_tracking_uri, environment.model_name, environment.model_alias)
    return base / hashlib.sha256("\0".join(asked).encode()).hexdigest()[:16]


def read_current(folder: Path) -> Current:
    """Read what is to be served; nothing where nobody has said so yet."""
    try:
        return msgspec.json.decode((folder / CURRENT).read_bytes(), type=Current)
    except (OSError, msgspec.MsgspecError):
        return Current()


def write_current(folder: Path, current: Current) -> None:
    """Say what is to be served, at once and as a whole."""
    temporary = folder / f".{CURRENT}.{os.getpid()}"
    temporary.write_bytes(msgspec.json.encode(current))
    temporary.replace(folder / CURRENT)
