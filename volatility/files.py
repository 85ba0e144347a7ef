"""Write files atomically: a reader sees the old content or the new, never a mixture."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

Json = dict[str, Any]
FOLDER_NOT_SYNCED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; what is written to it replaces ``path`` at the end.

    Processes that write the same file take turns. The temporary name is always the same, so that
    killed processes leave at most one file behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    handle = _own(temporary)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def _own(path: Path) -> int:
    """Create an empty file and lock it; return the handle that holds the lock."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            # The previous owner may have renamed it while this call waited.
            if os.path.samestat(os.fstat(handle), path.stat()):
                os.truncate(handle, 0)
                return handle
        os.close(handle)


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write text or bytes atomically; return the path."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_once(path: Path, content: bytes) -> bytes:
    """Write a file unless it exists; return what it has. It is on disk when this returns.

    Among several processes, the first one decides.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.writing")
    handle = _own(temporary)
    try:
        if path.exists():
            temporary.unlink()
        else:
            temporary.write_bytes(content)
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    return path.read_bytes()


def write_json(path: Path, content: object) -> Path:
    """Write JSON with sorted keys, atomically; NaN and infinity become null."""
    text = json.dumps(plain(content), indent=1, sort_keys=True, allow_nan=False)
    return write_whole(path, text + "\n")


def plain(value: object) -> Any:
    """Convert numpy values and structs to Python's own, and non-finite numbers to None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


@contextmanager
def locked(path: Path, *, busy: Exception | None = None) -> Iterator[None]:
    """Lock a folder or a file against other processes.

    If another process holds the lock, wait for it, or raise ``busy`` if that is given.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as error:
            raise busy or error from error
        yield
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Create a folder and its parents; all of them are on disk when this returns."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's entries, are on disk.

    Some network file systems refuse to sync a folder; they keep its entries safe themselves.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in FOLDER_NOT_SYNCED or not path.is_dir():
            raise
    finally:
        os.close(handle)
