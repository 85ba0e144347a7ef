"""The registry in a SQLite file: whether MLflow can use it, and where its artifacts are.

MLflow stores absolute addresses, so a project that was copied or moved would write into the
original, or find nothing. Here the artifacts lie beside the database.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from volatility.registry.errors import RegistryError, UnknownVersionError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SQLITE = "sqlite:///"
ARTIFACTS = "mlartifacts"  # beside the SQLite file
_ADDRESSES = (  # that MLflow stores as absolute paths: table and column
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)

logger = logging.getLogger(__name__)


def database(uri: str) -> Path:
    """Return the file of a SQLite URI."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0])


def check(path: Path, *, create: bool) -> None:
    """Refuse what is not a registry that the installed MLflow can use, and change nothing."""
    other = "set MLFLOW_TRACKING_URI to another file, such as sqlite:///mlflow.db"
    if path.is_dir():
        raise RegistryError(f"{path} is a folder, not a model registry; {other}")
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RegistryError(f"{path} cannot be read: {error.strerror}; {other}") from error
    if not start:
        if create:
            return
        raise UnknownVersionError(
            f"the model registry {path} is empty (0 bytes); restore it from a backup, or run "
            "`volatility train` to begin a new one"
        )
    if start != b"SQLite format 3\0":
        raise RegistryError(f"{path} is not a model registry and was left as it is; {other}")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as store:
            tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master")}
            revisions = [
                revision
                for (revision,) in (
                    store.execute("SELECT version_num FROM alembic_version")
                    if "alembic_version" in tables
                    else ()
                )
            ]
    except sqlite3.OperationalError:
        return  # locked by a process that writes: MLflow waits for it
    except sqlite3.DatabaseError as error:
        raise RegistryError(
            f"the model registry {path} is damaged: {error}; restore it from a backup"
        ) from error
    if tables and not tables & {"experiments", "alembic_version"}:
        raise RegistryError(f"{path} is a database of something else, not a registry; {other}")
    for revision in revisions:
        if revision not in _known_revisions():
            raise RegistryError(other_schema(str(path), revision))


def other_schema(place: str, revision: str) -> str:
    """Say that a registry has the schema of another MLflow, and what to do about it."""
    import mlflow

    installed = f"the installed MLflow {mlflow.__version__}"
    if revision in _known_revisions():
        return (
            f"the model registry {place} was made by an older MLflow than {installed}: back it "
            "up, then run `mlflow db upgrade` on it; it is unharmed"
        )
    return (
        f"the model registry {place} was made by another MLflow: {installed} does not know its "
        f"schema {revision}; it needs the version of MLflow that wrote it last, a newer one. "
        "Install that, or set MLFLOW_TRACKING_URI to another file; the registry is unharmed"
    )


@cache
def _known_revisions() -> frozenset[str]:
    """Return the revisions of the schema that the installed MLflow knows."""
    import mlflow

    folder = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    return frozenset(path.name.partition("_")[0] for path in folder.glob("*.py"))


def artifact_uri(client: MlflowClient, uri: str, what: str) -> str:
    """Return where an artifact is, given the absolute address that the registry has for it.

    A project that was copied or moved has its artifacts still beside its registry.

    Raises
    ------
    RegistryError
        If it is in neither place; the message names both.
    """
    if not client.tracking_uri.startswith(SQLITE) or urlsplit(uri).scheme != "file":
        return uri
    stored, here = _path(uri), artifacts(client.tracking_uri)
    if ARTIFACTS in stored.parts:
        place = len(stored.parts) - 1 - stored.parts[::-1].index(ARTIFACTS)
        beside = here.joinpath(*stored.parts[place + 1 :])
        if beside.exists():
            return beside.as_uri()
    if not stored.exists():
        raise RegistryError(
            f"{what} has lost its files: they are neither in {stored} nor in {here}; "
            f"put the folder {ARTIFACTS} there again, or run `volatility train`"
        )
    return uri


def keep_beside(uri: str, location: str) -> None:
    """Let a registry that was copied or moved with its folder write beside itself again.

    MLflow stores absolute addresses: a copy would write into the original. An address that is
    not this package's choice is kept.
    """
    here = artifacts(uri)
    if urlsplit(location).scheme != "file":
        return
    stored = _path(location)
    if stored.name != ARTIFACTS or stored.resolve() == here.resolve():
        return
    new = here.as_uri()
    with closing(sqlite3.connect(database(uri), timeout=30)) as store, store:
        if here.is_dir():
            for table, column in _ADDRESSES:
                store.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608
                    f"WHERE substr({column}, 1, ?) = ?",
                    (new, len(location) + 1, len(location) + 1, f"{location}/"),
                )
        store.execute(
            "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?",
            (new, location),
        )
    logger.warning("artifacts are stored in %s from now on, no longer in %s", here, stored)


def artifacts(uri: str) -> Path:
    """Return the folder of the artifacts, beside the database."""
    return database(uri).absolute().parent / ARTIFACTS


def _path(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path))
