"""Query the registry for the model to serve, and write it to disk for the workers."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import msgspec

from service.current import Current, read_current, write_current
from volatility import registry
from volatility.registry import RefusedVersionError, RegistryError, packaging

PRIOR = "prior-"  # prefix of the shipped prior's version
KEPT = 3  # model folders to keep: a worker may still be reading the previous one


class Watch:
    """Query the registry, and write the model to serve to a folder.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        before = read_current(folder)
        self._current = Current(model=before.model, reason=before.reason)
        registered = bool(before.model) and not before.model.startswith(PRIOR)
        self._follower = registry.Follower(self._lay_out, registered=registered)

    def look(self) -> Current:
        """Query once; write the model if it is new, and update ``current.json``."""
        current = msgspec.structs.replace(self._current, registry="")
        try:
            found = self._follower.look()
            if found is not None:
                model, reason = found
                current = msgspec.structs.replace(current, model=model, reason=reason, refused="")
        except RefusedVersionError as error:
            current = msgspec.structs.replace(
                current, refused=str(error), refusals=current.refusals + 1
            )
        except (RegistryError, OSError) as error:
            current = msgspec.structs.replace(current, registry=str(error))
        self._current = msgspec.structs.replace(current, checked=time.time())
        write_current(self._folder, self._current)
        return self._current

    def _lay_out(self, choice: registry.Choice) -> tuple[str, str]:
        """Write the model to its own folder; return the folder's name and the reason."""
        model = registry.load(choice)
        name = f"{model.version}-{model.alias or 'none'}-{model.bundle.digest[:12]}"
        target = self._folder / name
        if not packaging.is_packaged(target):
            temporary = self._folder / f".{name}.{os.getpid()}"
            packaging.write_packaged(model, temporary)
            temporary.rename(target)
        target.touch()
        folders = sorted(self._folder.glob("*-*-*"), key=lambda path: path.stat().st_mtime)
        for old in folders[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return name, choice.reason or ""
