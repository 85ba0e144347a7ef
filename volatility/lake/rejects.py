"""Keep the entries of a recording that are not valid ticks, unchanged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from volatility.files import make_folder, sync


class Rejects:
    """Write lines to a file that is created with the first line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary = path.with_name(f".{path.name}.tmp")
        self.file: BinaryIO | None = None

    def write(self, line: bytes) -> None:
        """Append a line."""
        if self.file is None:
            make_folder(self.path.parent)
            self.file = self.temporary.open("wb")
        self.file.write(line)


@contextmanager
def collecting(path: Path) -> Iterator[Rejects]:
    """Publish the lines at the end of the block; an exception in it leaves no file."""
    rejects = Rejects(path)
    try:
        yield rejects
        if rejects.file is not None:
            rejects.file.flush()
            os.fsync(rejects.file.fileno())
            rejects.temporary.replace(path)
            sync(path.parent)
    finally:
        if rejects.file is not None:
            rejects.file.close()
            rejects.temporary.unlink(missing_ok=True)
