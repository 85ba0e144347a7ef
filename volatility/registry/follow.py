"""Follow which model serves, in a process that runs for long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from volatility.registry.errors import RefusedVersionError, RegistryError
from volatility.registry.serving import Choice, choose

Taken = TypeVar("Taken")


class Follower(Generic[Taken]):
    """Look which model serves, and take it when the choice has changed.

    Parameters
    ----------
    take : callable
        Makes of a choice what this process needs: it loads the model, or stores it.
    registered : bool
        Whether a registered model already serves here.
    """

    def __init__(self, take: Callable[[Choice], Taken], *, registered: bool = False) -> None:
        self._take, self._registered = take, registered
        self._settled: Choice | None = None  # last choice taken or refused

    def look(self) -> Taken | None:
        """Return what ``take`` made of a new choice; None if nothing has changed.

        Raises
        ------
        RefusedVersionError
            Once for each choice, as a registered version never changes.
        RegistryError
            If the registry is unavailable, or is empty although it was not before.
        """
        choice = choose()
        if choice.version is None and self._registered:
            raise RegistryError("the registry has lost its models; check MLFLOW_TRACKING_URI")
        if choice == self._settled:
            return None
        try:
            taken = self._take(choice)
        except RefusedVersionError:
            self._settled = choice
            raise
        self._settled, self._registered = choice, choice.version is not None
        return taken
