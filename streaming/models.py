"""Hold the models that score the stream: the champion, and the challenger in its shadow."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from threading import Thread

from volatility import registry
from volatility.bundle import Bundle
from volatility.registry import RegistryError

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 2.0


@dataclass(frozen=True)
class Model:
    """Hold a bundle, set to its variant, with its registered name and version."""

    name: str
    version: str
    bundle: Bundle


class Models:
    """Watch the registry's aliases and give the models that score now.

    Where no version is champion, the newest version's best baseline scores alone.

    Raises
    ------
    RegistryError
        When there is no version at all, at the start; later the models at hand score on.
    """

    def __init__(self, variant: str = "ml") -> None:
        self._variant = variant
        self._loaded: dict[tuple[str, str], Model] = {}
        self._current = self._load()

    def current(self) -> tuple[Model, ...]:
        """Give the models, the one that serves first."""
        return self._current

    def watch(self) -> None:
        """Follow the aliases from now on, in the background.

        A registry that is away, or a version that is refused, changes nothing.
        """
        Thread(target=self._watch, name="models", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(REFRESH_SECONDS)
            try:
                self._current = self._load()
            except RegistryError as error:
                logger.warning("the models stay as they are: %s", error)

    def _load(self) -> tuple[Model, ...]:
        places = registry.versions_by_alias()
        champion, newest = places.get(registry.CHAMPION), places.get(registry.CHALLENGER)
        if champion is None and newest is None:
            raise RegistryError("no model is registered; run `volatility train` first")
        serving = champion or newest
        assert serving is not None
        first = self._model(serving, "ml" if champion and self._variant == "ml" else "baseline")
        if champion is None or newest is None or newest == champion:
            return (first,)
        return first, self._model(newest, "ml")

    def _model(self, version: str, variant: str) -> Model:
        key = (version, variant)
        if key not in self._loaded:
            found = registry.resolve(version)
            bundle = found.bundle.as_variant("ml" if variant == "ml" else "baseline")
            self._loaded[key] = Model(found.name, version, bundle)
            logger.info("version %s scores as %s", version, variant)
        return self._loaded[key]
