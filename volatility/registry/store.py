"""Register models in MLflow, and load them.

A version of the registered model is one bundle, identified by its digest: registering the same
bundle again returns the existing version and logs nothing. Loading reads the bundle's data files
and checks them against that digest; no code from the registry is run.

The alias ``challenger`` marks the version registered last.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volatility import settings
from volatility.models import Bundle, BundleError, UnreadableError
from volatility.models import bundle as bundles
from volatility.registry.errors import RefusedVersionError, RegistryError, UnknownVersionError
from volatility.registry.runs import log_run
from volatility.registry.sqlite_file import artifact_uri
from volatility.registry.tracking import (
    aliases,
    connect,
    exists,
    look_up,
    retry_while_locked,
    translated,
    versions,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
DIGEST_TAG = "digest"
_URI = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))")


@dataclass(frozen=True)
class Registered:
    """Represent the version of a registered bundle, and whether it is new."""

    name: str
    version: str
    digest: str
    created: bool
    run_id: str


@dataclass(frozen=True)
class RegisteredModel:
    """Represent a loaded bundle and its registry metadata.

    ``alias`` is the requested one, or one that the version has. For a bundle read from a folder,
    ``version`` is the start of the digest and ``run_id`` is None.
    """

    bundle: Bundle
    name: str
    version: str
    alias: str | None = None
    run_id: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def register(
    bundle_folder: Path,
    *,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    artifacts: Sequence[Path] = (),
    tags: Mapping[str, str] | None = None,
) -> Registered:
    """Log a run and register its bundle; the same bundle always has the same version.

    A bundle that is already registered is not logged again: its digest covers its training data
    and parameters, so there is nothing new to log. In both cases ``challenger`` moves to it.

    Parameters
    ----------
    bundle_folder : Path
        Folder written by ``Bundle.save``.
    parameters : mapping
        Parameters of the run; nested ones are logged as ``section.name``.
    metrics : mapping
        Metrics of the run; those that are not finite are omitted.
    artifacts : sequence of Path
        Files and folders, such as plots and reports, stored with the run.
    tags : mapping, optional
        Additional tags of the run and the version.

    Raises
    ------
    RegistryError
        If the registry is unavailable or the bundle is unusable.
    """
    environment = settings.environment()
    name = environment.model_name
    loaded = _load(bundle_folder)
    digest = loaded.digest
    client = connect(environment, create=True)
    with translated(environment):
        known = _with_digest(client, name, digest)
        if known:
            retry_while_locked(
                client.set_registered_model_alias, name, CHALLENGER, known[0].version
            )
            return Registered(name, str(known[0].version), digest, False, known[0].run_id or "")
        labels = {
            **(tags or {}),
            DIGEST_TAG: digest,
            "data_digest": loaded.specification.data_digest,
            "git_commit": loaded.specification.provenance.git_commit,
        }
        run_id, source = log_run(
            client, loaded, parameters=parameters, metrics=metrics, artifacts=artifacts, tags=labels
        )
        version, created = _create_version(client, name, source, run_id, labels)
        _move_challenger(client, name, version)
        return Registered(name, version, digest, created, run_id)


def resolve(reference: str | None = None) -> RegisteredModel:
    """Load a model from the registry or from a folder.

    Parameters
    ----------
    reference : str, optional
        An alias, a version number, ``models:/name@alias``, ``models:/name/3`` or the path of a
        bundle folder; defaults to the alias in ``MODEL_ALIAS``.

    Raises
    ------
    RegistryError
        If the registry is unavailable; ``RefusedVersionError`` if the files differ from those
        registered, ``UnknownVersionError`` if there is no such alias or version.
    """
    environment = settings.environment()
    reference = reference or environment.model_alias
    if (Path(reference) / bundles.MODEL_FILE).is_file():
        loaded = _load(Path(reference))
        return RegisteredModel(loaded, environment.model_name, loaded.digest[:12])
    name, alias, version = parse(reference, environment.model_name)
    client = connect(environment)
    with translated(environment):
        found = find(client, name, alias, version)
        loaded = _download(client, found)
        if found.tags.get(DIGEST_TAG) != loaded.digest:
            raise RefusedVersionError(
                f"version {found.version} of {name} is refused: its files differ from those "
                "registered (the digest differs); train and register it again"
            )
        return RegisteredModel(
            bundle=loaded,
            name=name,
            version=str(found.version),
            alias=alias or _alias_of(client, name, str(found.version)),
            run_id=found.run_id,
            tags=dict(found.tags),
            metrics=_metrics(client, found.run_id),
        )


def version_of(digest: str) -> str | None:
    """Return the version of the bundle with a digest, or None."""
    known = look_up(lambda client, name: _with_digest(client, name, digest))
    return str(known[0].version) if known else None


def _load(folder: Path) -> Bundle:
    try:
        return bundles.load(folder)
    except BundleError as error:
        raise RegistryError(str(error)) from error


def parse(reference: str, name: str) -> tuple[str, str | None, str | None]:
    """Split a reference into model name, alias and version; one of the latter two is None."""
    if reference.startswith("models:/"):
        match = _URI.fullmatch(reference)
        if match is None:
            raise RegistryError(
                f"{reference!r} is not a model: use models:/NAME@ALIAS or models:/NAME/VERSION"
            )
        return match["name"], match["alias"], match["version"]
    if "/" in reference:
        raise RegistryError(f"{reference} is not a bundle folder: no {bundles.MODEL_FILE} in it")
    return (name, None, reference) if reference.isdigit() else (name, reference, None)


def find(client: MlflowClient, name: str, alias: str | None, version: str | None) -> ModelVersion:
    """Look up a version by its alias or number."""
    places = aliases(client, name)
    if alias is not None and alias not in places:
        known = ", ".join(sorted(places)) or "none"
        raise UnknownVersionError(
            f"no version of {name} has the alias {alias!r} (aliases: {known}); "
            "run `volatility train`, then `volatility promote`"
        )
    number = places[alias] if alias is not None else str(version)
    if not number.isdigit() or not exists(client, name, number):
        raise UnknownVersionError(f"{name} has no version {number!r}; run `volatility train`")
    return retry_while_locked(client.get_model_version, name, number)


def _with_digest(client: MlflowClient, name: str, digest: str) -> list[ModelVersion]:
    return [v for v in versions(client, name) if v.tags.get(DIGEST_TAG) == digest]


def _alias_of(client: MlflowClient, name: str, version: str) -> str | None:
    carried = sorted(a for a, number in aliases(client, name).items() if number == version)
    return CHAMPION if CHAMPION in carried else next(iter(carried), None)


def _create_version(
    client: MlflowClient, name: str, source: str, run_id: str, tags: dict[str, str]
) -> tuple[str, bool]:
    """Register a logged model; return its version and whether it is new."""
    from mlflow.exceptions import MlflowException

    try:
        retry_while_locked(client.create_registered_model, name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # Unlike the SQLite store, a server requires the model id from the address.
    model_id = source.removeprefix("models:/")
    created = retry_while_locked(
        client.create_model_version, name, source, run_id, tags, model_id=model_id
    )
    first = str(_with_digest(client, name, tags[DIGEST_TAG])[0].version)
    if first == str(created.version):
        return first, True
    # Another process registered the same bundle at the same time: keep the lower number.
    retry_while_locked(client.delete_model_version, name, created.version)
    return first, False


def _move_challenger(client: MlflowClient, name: str, version: str) -> None:
    """Set the alias; repeat while other processes register newer versions."""
    while True:
        retry_while_locked(client.set_registered_model_alias, name, CHALLENGER, version)
        # Only the first version of a bundle remains: a later one is about to be deleted by the
        # process that created it.
        lasting = {v.tags.get(DIGEST_TAG): v for v in reversed(versions(client, name))}
        newest = max(int(v.version) for v in lasting.values())
        if newest <= int(version):
            return
        version = str(newest)


def _download(client: MlflowClient, version: ModelVersion) -> Bundle:
    """Download the bundle's two data files and load them."""
    from mlflow.artifacts import download_artifacts

    uri = artifact_uri(
        client,
        retry_while_locked(client.get_model_version_download_uri, version.name, version.version),
        f"version {version.version} of {version.name}",
    )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "bundle")
        target.mkdir()
        for file in (bundles.MODEL_FILE, bundles.ARRAYS_FILE):
            download_artifacts(
                artifact_uri=f"{uri.rstrip('/')}/artifacts/bundle/{file}",
                dst_path=str(target),
                tracking_uri=client.tracking_uri,
            )
        try:
            return bundles.load(target)
        except UnreadableError as error:  # it may pass: the version is not refused
            raise RegistryError(str(error).replace(str(target), "the model's artifact")) from error
        except BundleError as error:
            reason = str(error).replace(str(target), "its artifact")
            raise RefusedVersionError(
                f"version {version.version} of {version.name} cannot be used: {reason}"
            ) from error


def _metrics(client: MlflowClient, run_id: str | None) -> dict[str, float]:
    from mlflow.exceptions import MlflowException

    if not run_id:
        return {}
    try:
        return dict(retry_while_locked(client.get_run, run_id).data.metrics)
    except MlflowException:  # the run was deleted, but its model can still serve
        return {}
