"""Load the models that score the stream: the serving model and, in its shadow, the challenger."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from threading import Thread

from volatility import registry
from volatility.models import Bundle
from volatility.registry import RefusedVersionError, RegistryError

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 2.0


@dataclass(frozen=True)
class Model:
    """Represent a bundle in the variant to use, with its registered name and version.

    ``registered`` has the registry's description of the serving model, and ``reason`` says why a
    variant other than ``ml`` serves, if so.
    """

    name: str
    version: str
    bundle: Bundle
    registered: registry.RegisteredModel | None = None
    reason: str | None = None


class Models:
    """Follow the registry's aliases and return the current models.

    ``registry.choose`` decides which one serves. A challenger that is refused is skipped, and so is
    one trained with other feature rules than the serving model: every row would have to be built
    twice.

    Raises
    ------
    RegistryError
        When no model can be loaded at startup. Later errors leave the current models in place.
    """

    def __init__(self) -> None:
        self._follower = registry.Follower(self._load)
        self._current: tuple[Model, ...] = ()
        self.look()

    def current(self) -> tuple[Model, ...]:
        """Return the models, the serving one first."""
        return self._current

    def watch(self) -> None:
        """Start following the aliases in the background.

        If the registry is unavailable or a version is refused, the current models are kept.
        """
        Thread(target=self._watch, name="models", daemon=True).start()

    def look(self) -> None:
        """Replace the models if the registry's choice has changed."""
        self._current = self._follower.look() or self._current

    def _watch(self) -> None:
        while True:
            time.sleep(REFRESH_SECONDS)
            try:
                self.look()
            except RegistryError as error:
                logger.warning("keeping current models: %s", error)

    @staticmethod
    def _load(choice: registry.Choice) -> tuple[Model, ...]:
        found = registry.load(choice)
        first = replace(_model(found), registered=found, reason=choice.reason)
        logger.info("scoring with version %s as %s", first.version, first.bundle.variant)
        if choice.challenger is None:
            return (first,)
        try:
            second = _model(registry.resolve(choice.challenger))
        except RefusedVersionError as error:
            logger.warning("not scoring challenger version %s: %s", choice.challenger, error)
            return (first,)
        if second.bundle.specification.features != first.bundle.specification.features:
            logger.warning(
                "not scoring challenger version %s: its feature rules differ from those "
                "of version %s",
                second.version,
                first.version,
            )
            return (first,)
        return first, second


def _model(found: registry.RegisteredModel) -> Model:
    return Model(found.name, found.version, found.bundle)
