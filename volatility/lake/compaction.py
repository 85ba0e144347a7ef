"""Merge small parts of the lake into larger ones while other processes write and read it.

A merged part takes the name of its first small one by an atomic rename, and only then are the
others deleted. So every row is in the lake at any instant, and a scan drops the offsets that a
crash in between leaves there twice. The next run finishes the work.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm import tqdm

from volatility.files import locked
from volatility.lake.lake import Lake, LakeError
from volatility.lake.parts import ROW_GROUP_ROWS, Part, read_part, readable

OLDER_THAN_SECONDS = 3600.0
TARGET_ROWS = 1_000_000


@dataclass(frozen=True)
class Compaction:
    """Count the parts that a compaction merged, and the parts that they became."""

    merged: int = 0
    became: int = 0


@dataclass(frozen=True)
class _Seen:
    """Represent a part as it was found.

    Parameters
    ----------
    part : Part
    identity : tuple
        Distinguishes its file from another of the same name.
    age_seconds : float
    latest_ns : int
        Greatest first time of this and all earlier parts of its source.
    place_ns : int
        Where the scan reads it: at ``latest_ns``, or earlier with a part whose offsets it overlaps.
    reached : int
        Greatest offset of this and all earlier parts of its source.
    """

    part: Part
    identity: tuple[int, int, int]
    age_seconds: float
    latest_ns: int
    place_ns: int
    reached: int


class _View(Lake):
    """Present some parts of one symbol as if there were no others."""

    def __init__(self, lake: Lake, parts: list[Part]) -> None:
        super().__init__(lake.root, lake.schema)
        self._shown = parts

    def voided(self, symbol: str) -> list[tuple[int, int]]:  # noqa: ARG002
        """Keep what other readers leave out: only the ledger declares rows invalid."""
        return []

    def _described(self, symbol: str) -> list[Part]:  # noqa: ARG002  all have the same symbol
        return self._shown


def compact(
    lake: Lake,
    *,
    older_than_seconds: float = OLDER_THAN_SECONDS,
    target_rows: int = TARGET_ROWS,
    progress: bool = True,
) -> Compaction:
    """Merge neighbouring small parts of one source, symbol and date.

    Neither the result of a scan nor the offset through which each source is stored changes. Where
    sources interleave in time, only parts whose merge moves no row are merged.

    Parameters
    ----------
    lake : Lake
    older_than_seconds : float
        Parts written more recently are not touched.
    target_rows : int
        Maximum number of rows in a merged part.
    progress : bool
        Show a progress bar if this is a terminal.

    Raises
    ------
    LakeError
        When the lake is empty, cannot be read or written, or is already being compacted.
    """
    merged = became = 0
    hidden = None if progress else True
    with tqdm(desc="compact", unit=" parts", disable=hidden) as bar:
        for symbol in lake.symbols():
            folder = lake.root / f"symbol={symbol}"
            busy = LakeError(f"{folder} is already being compacted; wait until that has finished")
            with locked(folder, busy=busy):
                for group in _plan(lake, symbol, older_than_seconds, target_rows):
                    _merge(lake, symbol, group)
                    merged, became = merged + len(group), became + 1
                    bar.update(len(group))
    return Compaction(merged, became)


def _plan(
    lake: Lake, symbol: str, older_than_seconds: float, target_rows: int
) -> list[list[_Seen]]:
    """Choose the parts to merge: groups of neighbours of one source and date, by offset."""
    sources: dict[tuple[str, int], list[_Seen]] = defaultdict(list)
    for path in lake.parts(symbol):
        part = read_part(path)
        before = sources[part.topic, part.partition]
        before.append(_see(part, before[-1] if before else None))
    groups: list[list[_Seen]] = []
    for source, seen in sources.items():
        held = lake.settle(*source)
        foreign = np.sort(
            [one.latest_ns for other in sources if other != source for one in sources[other]]
        )
        last: dict[Path, list[_Seen]] = {}  # around midnight the parts of two dates alternate
        for one in seen:
            date = one.part.path.parent
            # Beyond the stored offset: left from an interrupted batch, and capture will replace it.
            if one.age_seconds < older_than_seconds or one.part.last_offset > held:
                last.pop(date, None)
            elif date in last and _fits([*last[date], one], target_rows, foreign):
                last[date].append(one)
            else:
                last[date] = [one]
                groups.append(last[date])
    return [group for group in groups if len(group) > 1]


def _see(part: Part, before: _Seen | None) -> _Seen:
    with readable(part.path):
        state = part.path.stat()
    latest_ns = place_ns = part.first_ns
    reached = part.last_offset
    if before is not None:
        latest_ns = max(before.latest_ns, part.first_ns)
        place_ns = before.place_ns if part.first_offset <= before.reached else latest_ns
        reached = max(before.reached, part.last_offset)
    age_seconds = time.time() - state.st_mtime
    return _Seen(part, _identity(state), age_seconds, latest_ns, place_ns, reached)


def _identity(state: os.stat_result) -> tuple[int, int, int]:
    return state.st_ino, state.st_size, state.st_mtime_ns


def _fits(group: list[_Seen], target_rows: int, foreign: npt.NDArray[np.int64]) -> bool:
    """Return whether the last part may join those before it.

    Merging can move this source's parts in the scan only between the least and the greatest time
    or place of the group, so no part of another source may lie in between.
    """
    parts = [one.part for one in group]
    low = min(group[0].place_ns, *(part.first_ns for part in parts))
    high = group[-1].latest_ns
    if np.searchsorted(foreign, low, "left") < np.searchsorted(foreign, high, "right"):
        return False
    # An overlapping part was left by a crash during an earlier merge: its rows exist twice.
    overlaps = parts[-1].first_offset <= max(part.last_offset for part in parts[:-1])
    return overlaps or sum(part.rows for part in parts) <= target_rows


def _merge(lake: Lake, symbol: str, group: list[_Seen]) -> None:
    """Write the merged part, then delete the small ones except the one whose name it took."""
    parts = [one.part for one in group]
    through = max(part.through for part in parts)
    batches = _View(lake, parts).scan(symbol)
    with lake.stage(parts[0].topic, parts[0].partition, through) as stage:
        for table in _gathered(batches):
            stage.append(table)
    with locked(lake.root):  # so that none of them is replaced between the check and the deletion
        for one in group:
            path = one.part.path
            if path not in stage.paths and path.exists() and one.identity == _identity(path.stat()):
                path.unlink()


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Combine small batches, so that the merged part has few row groups."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= ROW_GROUP_ROWS:
            yield pa.Table.from_batches(waiting).combine_chunks()
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting).combine_chunks()
