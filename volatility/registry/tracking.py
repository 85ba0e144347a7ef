"""Access the MLflow store: connect, wait for locks, and report errors in one line."""

from __future__ import annotations

import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from volatility import settings
from volatility.registry import sqlite_file
from volatility.registry.errors import RegistryError, UnknownVersionError
from volatility.settings import Environment

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

ATTEMPTS = 12
LONGEST_PAUSE_SECONDS = 4.0
_QUIET = {
    # MLflow only accepts the word "true".
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # The default, seven requests with doubling pauses, takes four minutes if a server is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
_OTHER_SCHEMA = re.compile(
    r"found version (\w+), but expected|Can't locate revision identified by '(\w+)'"
)
_CREDENTIALS = re.compile(r"//[^/@\s]+@")  # in URLs: errors are shown in logs and to clients

logger = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


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
    if not create and uri.startswith(sqlite_file.SQLITE) and not sqlite_file.database(uri).exists():
        raise UnknownVersionError(f"there is no model registry at {uri}; run `volatility train`")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow
    from mlflow.tracking import MlflowClient

    if uri.startswith(sqlite_file.SQLITE):
        sqlite_file.check(sqlite_file.database(uri), create=create)
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
            raise RegistryError(sqlite_file.other_schema(place, schema[1] or schema[2])) from error
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
