"""Manage champions with aliases and tags of the registered model.

The alias ``champion`` marks the serving version. Tags record previous champions, so that any
number of promotions can be rolled back one by one, the evidence for each recipe, and the demotion
of a champion.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from volatility import settings
from volatility.evaluation import Demotion
from volatility.registry.errors import RegistryError
from volatility.registry.store import CHALLENGER, CHAMPION, find
from volatility.registry.tracking import (
    aliases,
    connect,
    exists,
    look_up,
    registered_tags,
    retry_while_locked,
    translated,
)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EVIDENCE_TAG = "promotion_evidence"
HISTORY_PREFIX = "champion_before."  # followed by the time of the promotion [ns]
DEMOTION_TAG = "demotion"
RECIPE_PREFIX = "evidence."  # followed by the start of the recipe's digest
LIVE_PREFIX = "live_evidence."  # followed by the start of the recipe's digest
LONGEST_TAG = 4_000  # characters; the SQL store accepts 5,000


def promote(version: str, *, evidence: Mapping[str, Any]) -> None:
    """Make a version the champion, and record the previous one.

    The gate decides whether a version qualifies; ``evidence`` is stored as JSON in a tag of the
    version. Promoting the champion again only updates its evidence. A promotion ends a demotion.

    Raises
    ------
    RegistryError
        If there is no such version or the registry is unavailable.
    """
    environment = settings.environment()
    name = environment.model_name
    client = connect(environment)
    with translated(environment):
        found = find(client, name, None, version)
        text = json.dumps(dict(evidence), default=str, sort_keys=True)
        retry_while_locked(client.set_model_version_tag, name, found.version, EVIDENCE_TAG, text)
        before = aliases(client, name).get(CHAMPION)
        if before == str(found.version):
            return
        if before is not None:
            # One tag per promotion, not one list, so that two processes promoting at the same
            # time lose no step. Written first: a crash between the two writes leaves a step that
            # leads to the current champion, and rollback skips it.
            key = f"{HISTORY_PREFIX}{time.time_ns():020d}"
            retry_while_locked(client.set_registered_model_tag, name, key, before)
        retry_while_locked(client.set_registered_model_alias, name, CHAMPION, found.version)
        _end_demotion(client, name)


def demote(version: str, *, reason: str, e_value: float) -> Demotion:
    """Remove the alias ``champion`` from a version refuted by live evidence.

    Raises
    ------
    RegistryError
        If the version is not the champion, or the registry is unavailable.
    """
    environment = settings.environment()
    name = environment.model_name
    client = connect(environment)
    with translated(environment):
        if aliases(client, name).get(CHAMPION) != version:
            raise RegistryError(f"version {version} of {name} is not the champion")
        found = Demotion(version, reason, time.time_ns(), e_value)
        # Written first: the tag has no effect while there is a champion.
        text = msgspec.json.encode(found).decode()
        retry_while_locked(client.set_registered_model_tag, name, DEMOTION_TAG, text)
        retry_while_locked(client.delete_registered_model_alias, name, CHAMPION)
    return found


def demotion() -> Demotion | None:
    """Return the current demotion, or None; any champion ends a demotion.

    Raises
    ------
    RegistryError
        If the registry is unavailable.
    """

    def read(client: MlflowClient, name: str) -> str | None:
        text = registered_tags(client, name).get(DEMOTION_TAG)
        return None if text is None or CHAMPION in aliases(client, name) else text

    text = look_up(read)
    try:
        return None if text is None else msgspec.json.decode(text, type=Demotion)
    except msgspec.MsgspecError as error:
        raise RegistryError(f"the tag {DEMOTION_TAG!r} is damaged: {error}") from error


def read_evidence(recipe: str) -> str | None:
    """Return the evidence for a recipe, given its digest; None if there is none."""
    return _read_tag(RECIPE_PREFIX + recipe[:16])


def write_evidence(recipe: str, text: str) -> None:
    """Write the evidence for a recipe, given its digest.

    Raises
    ------
    RegistryError
        If no model is registered yet, or the registry is unavailable.
    """
    _write_tag(RECIPE_PREFIX + recipe[:16], text)


def read_live_evidence(recipe: str) -> str | None:
    """Return the live evidence on a recipe; None if there is none.

    It belongs to the recipe, not to a version: otherwise a daily refit would reset it every day.
    """
    return _read_tag(LIVE_PREFIX + recipe[:16])


def write_live_evidence(recipe: str, text: str) -> None:
    """Write the live evidence on a recipe; raises the errors of ``write_evidence``."""
    _write_tag(LIVE_PREFIX + recipe[:16], text)


def rollback() -> tuple[str, str | None]:
    """Restore the previous champion.

    Returns
    -------
    (str, str or None)
        The new champion's version, and that of the previous one (None if there was none).

    Raises
    ------
    RegistryError
        If there is no earlier champion.
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
                retry_while_locked(client.set_registered_model_alias, name, CHAMPION, target)
                retry_while_locked(client.delete_registered_model_tag, name, key)
                _end_demotion(client, name)
                return target, left
            retry_while_locked(client.delete_registered_model_tag, name, key)
    raise RegistryError(
        f"{name} has no earlier champion to roll back to; "
        "MODEL_VARIANT=baseline serves the baseline"
    )


def champion() -> str | None:
    """Return the champion's version, or None if none has been promoted."""
    return versions_by_alias().get(CHAMPION)


def latest() -> str | None:
    """Return the version registered last, or None if there is none."""
    return versions_by_alias().get(CHALLENGER)


def versions_by_alias() -> dict[str, str]:
    """Return the version of each alias; empty if there is no registry yet.

    Raises
    ------
    RegistryError
        If the registry is unavailable.
    """
    return look_up(aliases) or {}


def _read_tag(key: str) -> str | None:
    return (look_up(registered_tags) or {}).get(key)


def _write_tag(key: str, text: str) -> None:
    if len(text) >= LONGEST_TAG:
        raise ValueError(f"{len(text)} characters are too many for the tag {key}")
    environment = settings.environment()
    client = connect(environment)
    with translated(environment):
        retry_while_locked(client.set_registered_model_tag, environment.model_name, key, text)


def _end_demotion(client: MlflowClient, name: str) -> None:
    if DEMOTION_TAG in registered_tags(client, name):
        retry_while_locked(client.delete_registered_model_tag, name, DEMOTION_TAG)
