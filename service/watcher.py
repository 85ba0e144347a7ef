"""Watch the registry in a separate process: ``python -m service.watcher FOLDER PARENT``.

Each worker starts one; PARENT is the worker's process id. MLflow takes 100 MiB, seconds to import
and tens of milliseconds per query, which would delay requests if it ran in a worker. With several
workers, one watcher is active, and the others wait to take over, with nothing loaded. A worker
reads ``FOLDER/current.json``, which is replaced atomically, and the model folder it refers to.
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
    """Watch for as long as the parent process lives."""
    # The id is an argument because the parent may end before this process could look it up.
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
