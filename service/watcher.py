"""Watch the registry in a process of its own: ``python -m service.watcher FOLDER PARENT``.

The workers start it; PARENT is their process id. MLflow takes 100 MiB, seconds to import and tens
of milliseconds an answer: in a worker, requests would wait for it. Of the watchers of several
workers one watches, and the others wait to take its place, with nothing loaded. A worker reads
``FOLDER/current.json``, which is replaced as a whole, and the model's folder that it names.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from service.watch import Watch

LOOK_SECONDS = 1.0


def main() -> None:
    """Watch for as long as the process that started this one lives."""
    # Its id is given: it may have ended before this process can ask for it.
    folder, parent = Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        watch: Watch | None = None
        while os.getppid() == parent:
            if watch is None and _locks(lock):
                from service.watch import Watch

                watch = Watch(folder)
            if watch is not None:
                watch.look()
            time.sleep(LOOK_SECONDS)


def _locks(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    main()
