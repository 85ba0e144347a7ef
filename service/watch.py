"""Ask the registry what is to be served, and lay it out for the workers."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import msgspec

from service.current import Current, read_current, write_current
from volatility import packaging, registry
from volatility.registry import RefusedVersionError, RegistryError

KEPT = 3  # model folders: a worker may be reading the one before


class Watch:
    """Ask the registry, and lay out what it wants to be served.

    Parameters
    ----------
    folder : Path
        Made where it is absent.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._settled = ""  # what was wanted when it was last laid out or refused
        self._current = Current(model=read_current(folder).model)

    def look(self) -> Current:
        """Ask once; lay out what is new, and say so."""
        current, wanted = msgspec.structs.replace(self._current, registry=""), ""
        try:
            wanted = registry.wanted()
            if wanted != self._settled:
                current = msgspec.structs.replace(current, model=self._lay_out(), refused="")
                self._settled = wanted
        except RefusedVersionError as error:
            # Once is enough: what is registered never changes. The one before serves on.
            self._settled = wanted
            current = msgspec.structs.replace(
                current, refused=str(error), refusals=current.refusals + 1
            )
        except (RegistryError, OSError) as error:
            current = msgspec.structs.replace(current, registry=str(error))
        self._current = msgspec.structs.replace(current, checked=time.time())
        write_current(self._folder, self._current)
        return self._current

    def _lay_out(self) -> str:
        """Write the model into a folder of its own, and name it."""
        model = registry.serving()
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
        return name
