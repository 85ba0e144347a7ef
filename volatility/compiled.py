"""Compile numeric loops, with a cache that never misses a change in any of them.

numba checks only the file of the called function: after a change in another file that it calls,
the old machine code would still be used. Here the cache folder is named after the content of
every compiled file.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import config as _numba_config

HERE = Path(__file__).parent
PREFIX = "compiled-"
config: Any = _numba_config  # numba fills it from the environment, unseen by type checkers


def cache_folder() -> Path | None:
    """Return the folder for the machine code of the current sources; remove older ones.

    None if no folder is writable: then every process compiles again.
    """
    content = hashlib.sha256(numba.__version__.encode())
    for path in sorted(HERE.rglob("*.py")):
        text = path.read_bytes()
        if b"njit" in text or path.name == "table.py":
            content.update(str(path.relative_to(HERE)).encode() + text)
    name = PREFIX + content.hexdigest()[:16]
    for base in (HERE / "__pycache__", Path("~/.cache/volatility").expanduser()):
        folder = base / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError:
            continue
        for old in base.glob(PREFIX + "*"):
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)
        return folder
    return None


def njit(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function at its first call, or load it from the cache.

    Division by zero gives NaN or infinity, as in numpy, without a check.
    """
    compile_with: Any = numba.njit
    decorator: Callable[[Callable[..., Any]], Callable[..., Any]] = compile_with(
        cache=bool(config.CACHE_DIR), error_model="numpy", **options
    )
    return decorator


if not config.CACHE_DIR:
    config.CACHE_DIR = str(cache_folder() or "")
