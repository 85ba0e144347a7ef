"""Judge a trained recipe with the evidence that the registry keeps, and promote it if it earned it.

The evidence of all earlier looks is in tags of the registered model, so that no later look counts
a block twice.
"""

from __future__ import annotations

import hashlib

import msgspec

from volatility.evaluation import Champion, Evidence, Predictions, Verdict
from volatility.evaluation import judge as gate
from volatility.models import Bundle
from volatility.registry import champions
from volatility.registry.errors import RegistryError
from volatility.registry.store import resolve, version_of
from volatility.settings import Settings


def judge(product: Bundle, predictions: Predictions, settings: Settings) -> Verdict:
    """Run the promotion gate on walk-forward predictions, with what earlier looks left.

    Raises
    ------
    RegistryError
        If the registry is unavailable.
    """
    version = champions.champion()
    champion, against = None, None
    recipe = product.specification.recipe
    if version is not None:
        champion = Champion(version, resolve(version).bundle)
        against = _evidence(_pair(recipe, champion))
    return gate(product, predictions, settings, _evidence(recipe), champion, against)


def promote_if_earned(
    product: Bundle, predictions: Predictions, settings: Settings
) -> tuple[str, Verdict]:
    """Make a registered bundle champion if the gate passes; return its version and the verdict.

    The caller holds a lock, so that two processes judge one after the other: the second meets the
    champion that the first made.

    Raises
    ------
    RegistryError
        If the bundle is not registered, or the registry is unavailable.
    """
    version = version_of(product.digest)
    if version is None:
        raise RegistryError("the trained model is not registered; run `volatility train`")
    while True:
        champion = champions.champion()
        verdict = judge(product, predictions, settings)
        if champions.champion() == champion:  # a lock does not reach another machine
            break
    _remember(verdict)
    if verdict.earned and champion != version:
        champions.promote(version, evidence=msgspec.to_builtins(verdict))
    return version, verdict


def _remember(verdict: Verdict) -> None:
    champions.write_evidence(verdict.recipe, msgspec.json.encode(verdict.evidence).decode())
    if verdict.champion is not None and verdict.against_champion is not None:
        champion = Champion(verdict.champion, resolve(verdict.champion).bundle)
        champions.write_evidence(
            _pair(verdict.recipe, champion),
            msgspec.json.encode(verdict.against_champion).decode(),
        )


def _evidence(recipe: str) -> Evidence:
    text = champions.read_evidence(recipe)
    return Evidence() if text is None else msgspec.json.decode(text, type=Evidence)


def _pair(recipe: str, champion: Champion) -> str:
    """Name the comparison of a recipe with a champion's."""
    both = f"{recipe} {champion.bundle.specification.recipe}"
    return hashlib.sha256(both.encode()).hexdigest()
