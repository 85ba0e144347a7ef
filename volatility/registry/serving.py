"""Choose the model that serves: the one rule, shared by all processes, for version and variant."""

from __future__ import annotations

from dataclasses import dataclass, replace

from volatility import settings
from volatility.evaluation import Live
from volatility.models import Variant, shipped
from volatility.registry.champions import demotion, versions_by_alias
from volatility.registry.store import CHALLENGER, CHAMPION, RegisteredModel, parse, resolve
from volatility.settings import Environment

UNREGISTERED = "no model is registered; `volatility train` makes one"


@dataclass(frozen=True)
class Choice:
    """Represent the serving version and variant, and the challenger in its shadow.

    ``version`` is None if nothing is registered, and the shipped prior serves. ``alias`` is the
    one by which the version was found. ``reason`` says why a variant other than ``ml`` serves;
    None if ``ml`` serves. The challenger, if there is one, is compared as ``ml``.
    """

    version: str | None
    variant: Variant
    alias: str | None = None
    challenger: str | None = None
    reason: str | None = None


def choose() -> Choice:
    """Choose the version with ``MODEL_ALIAS``, or else the newest version's best baseline.

    Without a champion, no version has qualified to serve as ``ml``: the newest version's baseline
    serves, or the shipped prior if no version is registered. ``MODEL_VARIANT=baseline`` keeps the
    version but serves its baseline.

    Raises
    ------
    RegistryError
        If the registry is unavailable.
    """
    environment = settings.environment()
    places = versions_by_alias()
    newest = places.get(CHALLENGER)
    _, alias, number = parse(environment.model_alias, environment.model_name)
    version = places.get(alias) if alias is not None else number
    if version is None and newest is None:
        return Choice(None, "prior", reason=UNREGISTERED)
    demoted = demotion() if version is None else None
    variant, reason = variant_of(
        environment, found=version is not None, demotion=demoted.reason if demoted else None
    )
    if version is None:
        return Choice(newest, variant, CHALLENGER, reason=reason)
    challenger = newest if newest != version else None
    return Choice(version, variant, alias, challenger, reason)


def variant_of(
    environment: Environment, *, found: bool, demotion: str | None = None
) -> tuple[Variant, str | None]:
    """Return the variant that a registered version serves, and why it is not ``ml`` (else None).

    Parameters
    ----------
    found : bool
        Whether the version has the alias ``MODEL_ALIAS``.
    demotion : str, optional
        Why the last champion was demoted, if it was.
    """
    variant: Variant = environment.model_variant
    if variant != "ml":
        return variant, f"MODEL_VARIANT is {variant}"
    if found:
        return "ml", None
    if environment.model_alias != CHAMPION:
        return "baseline", f"no version has the alias {environment.model_alias}"
    return "baseline", demotion or "no ml version has earned promotion to champion"


def missing_alias(environment: Environment, model: RegisteredModel) -> str | None:
    """Return the alias that was asked for by hand and that no version has, so ``model`` serves."""
    _, alias, _ = parse(environment.model_alias, environment.model_name)
    return None if alias in (None, CHAMPION, model.alias) else alias


def load(choice: Choice) -> RegisteredModel:
    """Load the chosen model, with its bundle set to the chosen variant.

    Raises
    ------
    RegistryError
        If the registry is unavailable, or the version is refused.
    """
    if choice.version is None:
        return shipped_model()
    model = resolve(choice.version)
    return replace(model, alias=choice.alias, bundle=model.bundle.as_variant(choice.variant))


def shipped_model() -> RegisteredModel:
    """Return the shipped prior, which serves if nothing is registered."""
    prior = shipped()
    name = settings.environment().model_name
    return RegisteredModel(prior.bundle, name, f"prior-{prior.digest[:12]}")


def live_models() -> tuple[Live, ...]:
    """Return the serving model, then the challenger in its shadow, if any.

    Raises
    ------
    RegistryError
        If the registry is unavailable.
    """
    choice = choose()
    found = load(choice)
    name = "champion" if choice.variant == "ml" else choice.variant
    serving = Live(name, found.version, found.bundle)
    if choice.challenger is None:
        return (serving,)
    return serving, Live("challenger", choice.challenger, resolve(choice.challenger).bundle)
