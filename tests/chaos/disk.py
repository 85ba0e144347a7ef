"""Fill the lake's disk: capture reports it once, waits, and continues when there is room."""

from __future__ import annotations

import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path

from tests.chaos import market
from tests.chaos.checks import check_lake
from tests.chaos.place import clear
from tests.chaos.processes import Child, capture, running, small_files
from tests.waiting import until
from volatility.lake.lake import Lake, LakeError
from volatility.records.tick import encode
from volatility.streaming.log.interface import TICKS
from volatility.streaming.log.kafka_log import KafkaLog

RECORDS, ROWS = 6_000, 1_500
FILE_BYTES = 12_000  # a part has about 30 kB


@contextmanager
def small_disk(folder: Path, megabytes: int = 4) -> Iterator[bool]:
    """Mount a small tmpfs on a folder for a block; False where that is not permitted."""
    mounted = False
    if shutil.which("mount"):
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disk(servers: str, folder: Path) -> dict[str, int | str]:
    """Leave 40 kB on a disk of the lake's own; where none can be mounted, limit its files."""
    disk = folder / "disk"
    disk.mkdir()
    with small_disk(disk) as mounted:
        if not mounted:
            return full_files(servers, folder)
        ballast = disk / "ballast"
        free = shutil.disk_usage(disk).free
        ballast.write_bytes(b"x" * (free - 40_960))
        told = _captured(servers, folder, disk / "lake", [], lambda _: ballast.unlink())
    return told | {"by": "tmpfs"}


def full_files(servers: str, folder: Path) -> dict[str, int | str]:
    """Keep the process from writing a file as large as a part."""

    def room(child: Child) -> None:
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(child.process.pid or 0, resource.RLIMIT_FSIZE, unlimited)

    limit = partial(small_files, FILE_BYTES)
    told = _captured(servers, folder, folder / "lake", [limit], room)
    return told | {"by": "RLIMIT_FSIZE"}


def _captured(
    servers: str,
    folder: Path,
    root: Path,
    before: list[partial[None]],
    make_room: Callable[[Child], None],
) -> dict[str, int | str]:
    clear(servers)
    with closing(KafkaLog(servers)) as log:
        log.create(TICKS, market.PARTITIONS)
        writer = log.writer()
        for record in islice(market.records(1), RECORDS):
            writer.append(TICKS, record.symbol.encode(), encode(record))
        writer.flush(60.0)
        work = partial(capture, servers, str(root), ROWS, 0.3, None)
        output = folder / "capture.txt"
        with running(output, work, *before) as child:
            until(lambda: "capture paused" in child.said(), "the error")
            time.sleep(1.0)  # and tries again meanwhile, several times
            at_most = _rows(root)
            assert at_most < RECORDS, "the disk was not full"
            assert child.process.is_alive()
            make_room(child)
            until(lambda: _rows(root) == RECORDS, "the rest in the lake")
            child.stop()
        errors = [line for line in child.said().splitlines() if line.startswith("ERROR")]
        assert len(errors) == 1, errors
        assert "cannot write to the lake" in errors[0], errors
        assert "free some space" in errors[0], errors
        left = [path.name for path in root.rglob(".*.tmp")]
        assert not left, f"left behind: {left}"
        return {"records": check_lake(log, root), "before the room": at_most}


def _rows(root: Path) -> int:
    lake = Lake(root)
    with suppress(LakeError):
        return sum(lake.rows(symbol) for symbol in lake.symbols())
    return 0
