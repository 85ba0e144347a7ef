"""Log, register, alias and load models in MLflow.

A version of the registered model is one bundle, known by its digest: registering the same
bundle again gives the version that is already there, and logs nothing. Loading reads the
bundle's data files and checks them against that digest; no code from the registry is run.

The alias ``challenger`` is on what was registered last, ``champion`` on what serves. Tags of the
registered model remember which champions came before, so that any number of promotions can be
rolled back one by one.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volatility import bundle as bundles
from volatility import settings
from volatility.bundle import Bundle, BundleError
from volatility.tracking import (
    RefusedVersionError,
    RegistryError,
    UnknownVersionError,
    aliases,
    connect,
    exists,
    log_run,
    patiently,
    registered_tags,
    translated,
    versions,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
DIGEST_TAG = "digest"
EVIDENCE_TAG = "promotion_evidence"
HISTORY_PREFIX = "champion_before."  # followed by the time of the promotion [ns]
_URI = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))")

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "RefusedVersionError",
    "Registered",
    "RegisteredModel",
    "RegistryError",
    "UnknownVersionError",
    "champion",
    "latest",
    "promote",
    "register",
    "resolve",
    "rollback",
    "serving",
    "version_of",
    "versions_by_alias",
    "wanted",
]


@dataclass(frozen=True)
class Registered:
    """Say under which version a bundle is registered, and whether that version is new."""

    name: str
    version: str
    digest: str
    created: bool
    run_id: str


@dataclass(frozen=True)
class RegisteredModel:
    """Hold a loaded bundle and what the registry knows about it.

    ``alias`` is the one that was asked for, or one that the version carries; ``version`` is the
    start of the digest, and ``run_id`` None, for a bundle that was read from a folder.
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
    """Log a run and register its bundle; the same bundle again is the same version.

    A bundle that is registered already logs no second run: its digest covers its training data
    and parameters, so there is nothing new to log. In both cases ``challenger`` moves to it.

    Parameters
    ----------
    bundle_folder : Path
        What ``Bundle.save`` wrote.
    parameters : mapping
        Parameters of the run; nested ones are logged as ``section.name``.
    metrics : mapping
        Metrics of the run; those that are not finite are left out.
    artifacts : sequence of Path
        Files and folders, such as plots and reports, kept with the run.
    tags : mapping, optional
        Further tags of the run and the version.

    Raises
    ------
    RegistryError
        When the registry cannot be reached or the bundle cannot be used.
    """
    environment = settings.environment()
    name = environment.model_name
    loaded = _load(bundle_folder)
    digest = loaded.digest
    client = connect(environment, create=True)
    with translated(environment):
        known = _with_digest(client, name, digest)
        if known:
            patiently(client.set_registered_model_alias, name, CHALLENGER, known[0].version)
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
    """Load a model from the registry, or from a folder.

    Parameters
    ----------
    reference : str, optional
        An alias, a version number, ``models:/name@alias``, ``models:/name/3`` or the path of a
        bundle folder; the alias in ``MODEL_ALIAS`` where it is left out.

    Raises
    ------
    RegistryError
        When the registry cannot be reached; ``RefusedVersionError`` when it holds other files
        than were registered, ``UnknownVersionError`` when it holds no such alias or version.
    """
    environment = settings.environment()
    reference = reference or environment.model_alias
    if (Path(reference) / bundles.MODEL_FILE).is_file():
        loaded = _load(Path(reference))
        return RegisteredModel(loaded, environment.model_name, loaded.digest[:12])
    name, alias, version = _parse(reference, environment.model_name)
    client = connect(environment)
    with translated(environment):
        found = _find(client, name, alias, version)
        loaded = _download(client, found)
        if found.tags.get(DIGEST_TAG) != loaded.digest:
            raise RefusedVersionError(
                f"version {found.version} of {name} is refused: its files are not those that "
                "were registered (their digest differs); train and register it again"
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


def wanted() -> str:
    """Name what is to be served, without loading it: it changes when that does.

    ``version@alias`` where a version carries ``MODEL_ALIAS``, else the newest ``version``.

    Raises
    ------
    RegistryError
        As ``resolve``.
    """
    environment = settings.environment()
    name = environment.model_name
    client = connect(environment)
    with translated(environment):
        try:
            _, alias, version = _parse(environment.model_alias, name)
            found = _find(client, name, alias, version)
            return f"{found.version}@{environment.model_alias}"
        except UnknownVersionError:
            newest = aliases(client, name).get(CHALLENGER)
            if newest is None:
                raise RegistryError(
                    f"no version of {name} is registered; run `volatility train`"
                ) from None
            return newest


def serving() -> RegisteredModel:
    """Load what is to be served: the version with ``MODEL_ALIAS``, or else the newest one.

    Raises
    ------
    RegistryError
        As ``resolve``, and when there is no version at all.
    """
    try:
        return resolve()
    except UnknownVersionError:
        newest = latest()
        if newest is None:
            name = settings.environment().model_name
            raise UnknownVersionError(
                f"no version of {name} is registered; run `volatility train`"
            ) from None
        return resolve(newest)


def promote(version: str, *, evidence: Mapping[str, Any]) -> None:
    """Make a version the champion, and remember the one before it.

    Whether a version deserves it is decided elsewhere; ``evidence`` is kept as JSON in a tag of
    the version. Promoting the champion again only renews its evidence.

    Raises
    ------
    RegistryError
        When there is no such version or the registry cannot be reached.
    """
    environment = settings.environment()
    name = environment.model_name
    client = connect(environment)
    with translated(environment):
        found = _find(client, name, None, version)
        text = json.dumps(dict(evidence), default=str, sort_keys=True)
        patiently(client.set_model_version_tag, name, found.version, EVIDENCE_TAG, text)
        before = aliases(client, name).get(CHAMPION)
        if before == str(found.version):
            return
        if before is not None:
            # One tag for each promotion, not one list: two processes that promote at the same
            # time then lose no step. Written first: a crash between the two leaves a step
            # that leads to where the champion already is, and rollback skips it.
            key = f"{HISTORY_PREFIX}{time.time_ns():020d}"
            patiently(client.set_registered_model_tag, name, key, before)
        patiently(client.set_registered_model_alias, name, CHAMPION, found.version)


def rollback() -> tuple[str, str | None]:
    """Make the champion before this one the champion again.

    Returns
    -------
    (str, str or None)
        The version that is champion now, and the one that was (None where there was none).

    Raises
    ------
    RegistryError
        When there is no champion to go back to.
    """
    environment = settings.environment()
    name = environment.model_name
    client = connect(environment)
    with translated(environment):
        left = aliases(client, name).get(CHAMPION)
        steps = {
            key: value
            for key, value in registered_tags(client, name).items()
            if key.startswith(HISTORY_PREFIX)
        }
        for key in sorted(steps, reverse=True):
            target = steps[key]
            if target != left and exists(client, name, target):
                patiently(client.set_registered_model_alias, name, CHAMPION, target)
                patiently(client.delete_registered_model_tag, name, key)
                return target, left
            patiently(client.delete_registered_model_tag, name, key)
    raise RegistryError(
        f"{name} has no earlier champion to roll back to; "
        "MODEL_VARIANT=baseline serves the baseline"
    )


def champion() -> str | None:
    """Give the version that serves, or None where none has been promoted."""
    return versions_by_alias().get(CHAMPION)


def latest() -> str | None:
    """Give the version that was registered last, or None where there is none."""
    return versions_by_alias().get(CHALLENGER)


def versions_by_alias() -> dict[str, str]:
    """Give the version of each alias; empty where there is no registry yet.

    Raises
    ------
    RegistryError
        When the registry cannot be reached.
    """
    environment = settings.environment()
    try:
        client = connect(environment)
    except UnknownVersionError:
        return {}
    with translated(environment):
        return aliases(client, environment.model_name)


def version_of(digest: str) -> str | None:
    """Give the version that holds the bundle of a digest, or None."""
    environment = settings.environment()
    try:
        client = connect(environment)
    except UnknownVersionError:
        return None
    with translated(environment):
        known = _with_digest(client, environment.model_name, digest)
        return str(known[0].version) if known else None


def _load(folder: Path) -> Bundle:
    try:
        return bundles.load(folder)
    except BundleError as error:
        raise RegistryError(str(error)) from error


def _parse(reference: str, name: str) -> tuple[str, str | None, str | None]:
    """Split a reference into model name, alias and version; one of the latter two is None."""
    if reference.startswith("models:/"):
        match = _URI.fullmatch(reference)
        if match is None:
            raise RegistryError(
                f"{reference!r} is no model: write models:/NAME@ALIAS or models:/NAME/VERSION"
            )
        return match["name"], match["alias"], match["version"]
    if "/" in reference:
        raise RegistryError(f"{reference} is no bundle folder: it holds no {bundles.MODEL_FILE}")
    return (name, None, reference) if reference.isdigit() else (name, reference, None)


def _find(client: MlflowClient, name: str, alias: str | None, version: str | None) -> ModelVersion:
    """Look a version up by its alias or number."""
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
    return patiently(client.get_model_version, name, number)


def _with_digest(client: MlflowClient, name: str, digest: str) -> list[ModelVersion]:
    return [v for v in versions(client, name) if v.tags.get(DIGEST_TAG) == digest]


def _alias_of(client: MlflowClient, name: str, version: str) -> str | None:
    carried = sorted(a for a, number in aliases(client, name).items() if number == version)
    return CHAMPION if CHAMPION in carried else next(iter(carried), None)


def _create_version(
    client: MlflowClient, name: str, source: str, run_id: str, tags: dict[str, str]
) -> tuple[str, bool]:
    """Register a logged model; give its version, and whether it is new."""
    from mlflow.exceptions import MlflowException

    try:
        patiently(client.create_registered_model, name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # A server, unlike the SQLite store, asks for the model that the address names.
    model_id = source.removeprefix("models:/")
    created = patiently(client.create_model_version, name, source, run_id, tags, model_id=model_id)
    first = str(_with_digest(client, name, tags[DIGEST_TAG])[0].version)
    if first == str(created.version):
        return first, True
    # Another process registered the same bundle meanwhile: the lower number stays.
    patiently(client.delete_model_version, name, created.version)
    return first, False


def _move_challenger(client: MlflowClient, name: str, version: str) -> None:
    """Set the alias, and again while another process registers a newer version meanwhile."""
    while True:
        patiently(client.set_registered_model_alias, name, CHALLENGER, version)
        # Only the first version of a bundle lasts: a later one is about to be deleted by the
        # process that made it.
        lasting = {v.tags.get(DIGEST_TAG): v for v in reversed(versions(client, name))}
        newest = max(int(v.version) for v in lasting.values())
        if newest <= int(version):
            return
        version = str(newest)


def _download(client: MlflowClient, version: ModelVersion) -> Bundle:
    """Fetch the bundle's two data files and load them."""
    from mlflow.artifacts import download_artifacts

    uri = patiently(client.get_model_version_download_uri, version.name, version.version)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "bundle")
        target.mkdir()
        for file in (bundles.MODEL_FILE, bundles.TREES_FILE):
            download_artifacts(
                artifact_uri=f"{uri.rstrip('/')}/artifacts/bundle/{file}",
                dst_path=str(target),
                tracking_uri=client.tracking_uri,
            )
        try:
            return bundles.load(target)
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
        return dict(patiently(client.get_run, run_id).data.metrics)
    except MlflowException:  # the run was deleted; its model still serves
        return {}
