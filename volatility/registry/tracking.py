"""Access the MLflow store: connect, wait for locks, log runs, and report errors in one line."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import os
import random
import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from volatility import settings
from volatility.features import FEATURE_NAMES
from volatility.models import Bundle
from volatility.settings import Environment

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

EXPERIMENT = "crypto-volatility"
ATTEMPTS = 12
LONGEST_PAUSE_SECONDS = 4.0
SQLITE = "sqlite:///"
ARTIFACTS = "mlartifacts"  # beside the SQLite file
PYFUNC_PACKAGES = ("mlflow", "msgspec", "numba", "numpy", "pandas", "pyarrow", "scikit-learn")
_QUIET = {
    # MLflow only accepts the word "true".
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # The default, seven requests with doubling pauses, takes four minutes if a server is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
_ADDRESSES = (  # that MLflow stores as absolute paths: table and column
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
_OTHER_SCHEMA = re.compile(
    r"found version (\w+), but expected|Can't locate revision identified by '(\w+)'"
)
_CREDENTIALS = re.compile(r"//[^/@\s]+@")  # in URLs: errors are shown in logs and to clients

logger = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class RegistryError(RuntimeError):
    """Report why the registry is unusable and how to fix it."""


class UnknownVersionError(RegistryError):
    """Report an alias or a version that is not in the registry."""


class RefusedVersionError(RegistryError):
    """Report a version whose files are damaged or differ from those registered."""


def connect(environment: Environment, *, create: bool = False) -> MlflowClient:
    """Connect to the tracking store, and silence its output in the terminal.

    Raises
    ------
    UnknownVersionError
        If the store is a SQLite file that does not exist and ``create`` is False: MLflow
        would spend seconds on creating an empty one.
    RegistryError
        If the file is not a registry, or one of another MLflow; it is left as it is.
    """
    uri = environment.mlflow_tracking_uri
    if not create and uri.startswith(SQLITE) and not _database(uri).exists():
        raise UnknownVersionError(f"there is no model registry at {uri}; run `volatility train`")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow
    from mlflow.tracking import MlflowClient

    if uri.startswith(SQLITE):
        _check_file(_database(uri), create=create)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # MLflow warns that an environment created by uv has no pip.
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(uri)
    with translated(environment):
        return retry_while_locked(MlflowClient, uri)


@contextmanager
def translated(environment: Environment) -> Iterator[None]:
    """Convert errors of MLflow and its store to a one-line ``RegistryError``."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        schema = _OTHER_SCHEMA.search(str(error))
        if schema:
            place = _CREDENTIALS.sub("//", environment.mlflow_tracking_uri)
            raise RegistryError(_other_schema(place, schema[1] or schema[2])) from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        text = (
            f"the model registry at {environment.mlflow_tracking_uri} cannot be used: "
            f"{lines[0][:300]}; check MLFLOW_TRACKING_URI"
        )
        raise RegistryError(_CREDENTIALS.sub("//", text)) from error


def look_up(read: Callable[[MlflowClient, str], Result]) -> Result | None:
    """Return what ``read`` returns for the model's name; None if there is no registry yet.

    Raises
    ------
    RegistryError
        If the registry is unavailable.
    """
    environment = settings.environment()
    try:
        client = connect(environment)
    except UnknownVersionError:
        return None
    with translated(environment):
        return read(client, environment.model_name)


def retry_while_locked(
    call: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Call the store; retry with growing pauses while another process holds its lock."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    for attempt in range(ATTEMPTS):
        try:
            return call(*args, **kwargs)
        except (MlflowException, SQLAlchemyError) as error:
            if attempt == ATTEMPTS - 1 or "is locked" not in str(error):
                raise
        pause = min(0.05 * 2**attempt, LONGEST_PAUSE_SECONDS)
        # Random jitter, so that two processes do not collide again each time.
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
    raise AssertionError("the last attempt returns or raises")


def log_run(
    client: MlflowClient,
    bundle: Bundle,
    *,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    artifacts: Sequence[Path],
    tags: Mapping[str, str],
) -> tuple[str, str]:
    """Log a run with its model; return the run's id and the URI of the model."""
    import mlflow

    experiment = _experiment(client)
    run_id: str = retry_while_locked(client.create_run, experiment, tags=dict(tags)).info.run_id
    with retry_while_locked(mlflow.start_run, run_id=run_id):
        for key, value in _flat(parameters).items():
            retry_while_locked(client.log_param, run_id, key, value)
        retry_while_locked(
            client.log_param, run_id, "data_digest", bundle.specification.data_digest
        )
        for key, number in metrics.items():
            if math.isfinite(number):
                retry_while_locked(client.log_metric, run_id, key, float(number))
        for path in artifacts:
            log = client.log_artifacts if path.is_dir() else client.log_artifact
            retry_while_locked(log, run_id, str(path), "reports")
        with tempfile.TemporaryDirectory() as folder:
            stored = Path(folder, "bundle")  # MLflow names an artifact after its folder
            bundle.save(stored)
            source: str = retry_while_locked(_log_model, bundle, stored)
    return run_id, source


def versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Return every version, oldest first."""
    found: list[ModelVersion] = []
    token: str | None = None
    while True:
        page = retry_while_locked(client.search_model_versions, f"name='{name}'", page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version))


def exists(client: MlflowClient, name: str, version: str) -> bool:
    """Return whether the model has a version with this number."""
    return any(str(v.version) == version for v in versions(client, name))


def aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Return the version of each alias; empty if the model is not registered."""
    model = _registered(client, name)
    return {} if model is None else {k: str(v) for k, v in model.aliases.items()}


def registered_tags(client: MlflowClient, name: str) -> dict[str, str]:
    """Return the tags of the model itself, not those of a version."""
    model = _registered(client, name)
    return {} if model is None else dict(model.tags)


def _registered(client: MlflowClient, name: str) -> Any | None:
    from mlflow.exceptions import MlflowException

    try:  # a search would take three times as long
        return retry_while_locked(client.get_registered_model, name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    return None


def _log_model(bundle: Bundle, stored: Path) -> str:
    import mlflow.pyfunc
    import pandas as pd

    rows = [
        [np.nan if value is None else value for value in row]
        for row in bundle.specification.example_rows
    ]
    example = pd.DataFrame(rows, columns=list(FEATURE_NAMES), dtype=np.float64)
    package = Path(__file__).parents[1]
    info = mlflow.pyfunc.log_model(
        name="model",
        python_model=str(Path(__file__).with_name("pyfunc_model.py")),
        code_paths=[str(package)],
        artifacts={"bundle": str(stored)},
        signature=_signature(),
        input_example=example,
        pip_requirements=[f"{p}=={importlib.metadata.version(p)}" for p in PYFUNC_PACKAGES],
    )
    return str(info.model_uri)


def _signature() -> ModelSignature:
    """Describe the input, optional float64 columns, and the output, one score per row."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    return ModelSignature(
        inputs=Schema([ColSpec("double", name, required=False) for name in FEATURE_NAMES]),
        outputs=Schema([TensorSpec(np.dtype(np.float64), (-1,))]),
    )


def _experiment(client: MlflowClient) -> str:
    """Find, restore or create the experiment; with SQLite its artifacts are beside the database."""
    from mlflow.exceptions import MlflowException

    uri = client.tracking_uri
    location = _artifacts(uri).as_uri() if uri.startswith(SQLITE) else None
    found = retry_while_locked(client.get_experiment_by_name, EXPERIMENT)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            retry_while_locked(client.restore_experiment, found.experiment_id)
            logger.warning("the experiment %s had been deleted and was restored", EXPERIMENT)
        if location is not None:
            _keep_beside(uri, found.artifact_location)
        return str(found.experiment_id)
    try:
        return str(retry_while_locked(client.create_experiment, EXPERIMENT, location))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return _experiment(client)  # another process created it in the meantime


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
    stored, here = _path(uri), _artifacts(client.tracking_uri)
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


def _keep_beside(uri: str, location: str) -> None:
    """Let a registry that was copied or moved with its folder write beside itself again.

    MLflow stores absolute addresses: a copy would write into the original. An address that is
    not this package's choice is kept.
    """
    here = _artifacts(uri)
    if urlsplit(location).scheme != "file":
        return
    stored = _path(location)
    if stored.name != ARTIFACTS or stored.resolve() == here.resolve():
        return
    new = here.as_uri()
    with closing(sqlite3.connect(_database(uri), timeout=30)) as store, store:
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


def _artifacts(uri: str) -> Path:
    return _database(uri).absolute().parent / ARTIFACTS


def _path(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path))


def _check_file(path: Path, *, create: bool) -> None:
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
            raise RegistryError(_other_schema(str(path), revision))


def _other_schema(place: str, revision: str) -> str:
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


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested parameters to ``section.name``."""
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _database(uri: str) -> Path:
    return Path(uri.removeprefix(SQLITE).partition("?")[0])
