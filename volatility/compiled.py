"""Compile numeric loops, cached so that a change in any of them is never missed.

numba looks only at the file of the function that is called; what it calls in other files could
change and the old machine code would run on. Here the cache's folder is named by the content
of every file that is compiled.
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
config: Any = _numba_config  # numba fills it from the environment: no type checker sees it


def cache_folder() -> Path | None:
    """Give the folder of the machine code of these very sources; older ones are removed.

    None where nothing can be written: then each process compiles anew.
    """
    content = hashlib.sha256(numba.__version__.encode())
    for path in sorted(HERE.glob("*.py")):
        text = path.read_bytes()
        if b"njit" in text or path.name == "feature_table.py":
            content.update(path.name.encode() + text)
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
    """Compile a function at its first call, or take it from the cache.

    Division by zero gives NaN or infinity, as in numpy, and costs no check.
    """
    compile_with: Any = numba.njit
    decorator: Callable[[Callable[..., Any]], Callable[..., Any]] = compile_with(
        cache=bool(config.CACHE_DIR), error_model="numpy", **options
    )
    return decorator


if not config.CACHE_DIR:
    config.CACHE_DIR = str(cache_folder() or "")
