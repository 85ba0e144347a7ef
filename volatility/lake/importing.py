"""Import recordings into the lake: each file whole or not at all, and only once.

A file's rows have the topic ``import.<first 12 hex digits of its SHA-256>``, so the lake itself
records which files it contains. Entries that are not valid ticks are counted by reason and kept
unchanged in ``<lake>/rejected/<topic>.jsonl``.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm import tqdm

from volatility.files import make_folder, sync
from volatility.lake.duplicates import KEYS, duplicated
from volatility.lake.lake import Lake, Stage
from volatility.sources import Chunk, RecordingError, changes, read

RECENT_ROWS = 131_072  # a duplicate further apart is a late tick, and is dropped as such
CANDIDATE = re.compile(r".*\.(parquet|pq|ndjson|jsonl|json|txt|log)(\.(gz|zst))?", re.IGNORECASE)


@dataclass(frozen=True)
class ImportReport:
    """Represent the result of an import.

    Parameters
    ----------
    rows : int
        Rows written to the lake, including heartbeats.
    heartbeats : int
    rejected : dict of str to int
        Entries that are not valid ticks, by reason.
    duplicates : int
        Repeated messages, which were dropped.
    out_of_order : int
        Rows kept in arrival order although their time is before an earlier row's of the same run.
    ignored : dict of str to int
        Messages that carry no tick, by kind.
    gaps : int
        Holes between runs, recorded in the ledger.
    parts : int
    imported, skipped : tuple of Path
        Files; the skipped ones are already in the lake.
    """

    rows: int = 0
    heartbeats: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    out_of_order: int = 0
    ignored: dict[str, int] = field(default_factory=dict)
    gaps: int = 0
    parts: int = 0
    imported: tuple[Path, ...] = ()
    skipped: tuple[Path, ...] = ()

    def __add__(self, other: ImportReport) -> ImportReport:
        return ImportReport(
            self.rows + other.rows,
            self.heartbeats + other.heartbeats,
            dict(Counter(self.rejected) + Counter(other.rejected)),
            self.duplicates + other.duplicates,
            self.out_of_order + other.out_of_order,
            dict(Counter(self.ignored) + Counter(other.ignored)),
            self.gaps + other.gaps,
            self.parts + other.parts,
            self.imported + other.imported,
            self.skipped + other.skipped,
        )


class ImportingError(Exception):
    """Some files could not be imported; ``report`` describes what was done with the others."""

    def __init__(self, failures: Sequence[str], report: ImportReport) -> None:
        done = f"; {len(report.imported)} other file(s) imported" if report.imported else ""
        super().__init__("; ".join(failures) + done)
        self.failures = tuple(failures)
        self.report = report


def import_files(paths: Sequence[Path], lake: Lake, progress: bool = True) -> ImportReport:
    """Import files and folders (searched recursively) into the lake.

    Parameters
    ----------
    paths : sequence of Path
    lake : Lake
    progress : bool
        Show a progress bar if this is a terminal.

    Raises
    ------
    ImportingError
        When a file is missing, truncated, corrupt or of unknown kind; raised after all others
        were imported. Such a file leaves no trace in the lake.
    LakeError
        When the lake cannot be written.
    """
    report, failures = ImportReport(), []
    files, missing = _files(paths)
    failures += [f"{path}: no such file or folder" for path in missing]
    size = sum(file.stat().st_size for file in files)
    hidden = None if progress else True
    with tqdm(total=size, unit="B", unit_scale=True, desc="import", disable=hidden) as bar:
        for file in files:
            before = bar.n
            try:
                report += _import_file(file, lake, bar)
            except (RecordingError, OSError) as error:
                failures.append(f"{file} {error}")
            bar.update(before + file.stat().st_size - bar.n)
    if not files and not missing:
        failures.append(
            f"no recordings found in {', '.join(map(str, paths))}"
            if paths
            else "no recordings found: no path was given"
        )
    if failures:
        raise ImportingError(failures, report)
    return report


def _files(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """List the files to read, each once, and the paths that do not exist."""
    found: dict[Path, None] = {}
    missing = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
            seen = [file for file in inside if not any(p.startswith(".") for p in file.parts)]
            if any(file.parts[0].startswith("symbol=") for file in seen):  # another lake
                seen = [file for file in seen if file.parts[0].startswith("symbol=")]
            found |= dict.fromkeys(path / f for f in sorted(seen) if CANDIDATE.fullmatch(f.name))
        elif path.exists():
            found[path] = None
        else:
            missing.append(path)
    return list(found), missing


def _import_file(path: Path, lake: Lake, bar: tqdm[Any]) -> ImportReport:
    with path.open("rb") as file:
        topic = f"import.{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"
    if lake.last_offset(topic, 0) >= 0:
        return ImportReport(skipped=(path,))
    lake.drop(topic)
    tally = _Tally(path)
    before, size = bar.n, path.stat().st_size
    kept = lake.root / "rejected" / f"{topic}.jsonl"
    with lake.stage(topic, 0) as stage, _rejects(kept) as rejects:
        for chunk in read(path):
            tally.add(chunk, stage)
            for entry in chunk.rejected:
                rejects.write(msgspec.json.encode(entry) + b"\n")
            bar.update(before + int(chunk.share * size) - bar.n)
        # Before the parts appear: a crash in between repeats these lines, and the same line
        # counts once.
        for symbol, start_ns, stop_ns, detail in tally.gaps:
            lake.record_gap(symbol, start_ns, stop_ns, "recording", **detail, topic=topic)
    return tally.report(stage)


class _Rejects:
    """Write lines to a file that is created with the first line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary = path.with_name(f".{path.name}.tmp")
        self.file: BinaryIO | None = None

    def write(self, line: bytes) -> None:
        if self.file is None:
            make_folder(self.path.parent)
            self.file = self.temporary.open("wb")
        self.file.write(line)


@contextmanager
def _rejects(path: Path) -> Iterator[_Rejects]:
    """Publish the lines at the end of the block; an exception in it leaves no file."""
    rejects = _Rejects(path)
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


class _Tally:
    """Track one file from chunk to chunk: runs and clocks of its symbols, recent rows, counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gaps: list[tuple[str, int, int, dict[str, str]]] = []
        self._latest: dict[str, tuple[str, int]] = {}  # symbol: run name, greatest time
        self._recent: pa.Table | None = None
        self._rows = self._heartbeats = self._duplicates = self._out_of_order = 0
        self._rejected: Counter[str] = Counter()
        self._ignored: Counter[str] = Counter()

    def add(self, chunk: Chunk, stage: Stage) -> None:
        table, run = self._without_duplicates(chunk)
        self._rejected.update(entry.reason for entry in chunk.rejected)
        self._ignored = Counter(chunk.ignored)
        self._rows += table.num_rows
        self._heartbeats += table.column("price").null_count
        self._follow(table, run, chunk.names)
        stage.append(table)

    def _without_duplicates(self, chunk: Chunk) -> tuple[pa.Table, npt.NDArray[np.int32]]:
        """Drop duplicates of rows in this chunk or shortly before it."""
        keys = chunk.table.select(KEYS)
        earlier = 0 if self._recent is None else self._recent.num_rows
        both = keys if self._recent is None else pa.concat_tables([self._recent, keys])
        fresh = ~duplicated(both)[earlier:]
        self._recent = both.slice(max(0, both.num_rows - RECENT_ROWS)).combine_chunks()
        self._duplicates += int(np.count_nonzero(~fresh))
        if fresh.all():
            return chunk.table, chunk.run
        return chunk.table.filter(pa.array(fresh)), chunk.run[fresh]

    def _follow(self, table: pa.Table, run: npt.NDArray[np.int32], names: list[str]) -> None:
        """Count times that go backwards within a run; record the hole between two runs."""
        encoded = table.column("symbol").combine_chunks().dictionary_encode()
        codes = encoded.indices.to_numpy()
        times = table.column("time").cast(pa.int64()).to_numpy()
        for code, symbol in enumerate(encoded.dictionary.to_pylist()):
            of_symbol = codes == code
            time, symbol_run = times[of_symbol], run[of_symbol]
            for start, stop in changes(symbol_run):
                name = names[symbol_run[start]]
                known, latest = self._latest.get(symbol, (name, time[start]))
                if known != name:
                    first = int(time[start:stop].min())
                    if first > latest:
                        detail = {"before": known, "after": name, "file": self.path.name}
                        self.gaps.append((symbol, int(latest), first, detail))
                    latest = time[start]
                reached = np.maximum.accumulate(np.append(latest, time[start:stop]))
                self._out_of_order += int(np.count_nonzero(reached[:-1] > time[start:stop]))
                self._latest[symbol] = name, int(reached[-1])

    def report(self, stage: Stage) -> ImportReport:
        return ImportReport(
            self._rows,
            self._heartbeats,
            dict(self._rejected),
            self._duplicates,
            self._out_of_order,
            dict(self._ignored),
            len(self.gaps),
            len(stage.paths),
            imported=(self.path,),
        )


def open_lake(path: Path, scratch: Path) -> Lake:
    """Open a lake, or import recordings into a new one in a scratch folder.

    Raises
    ------
    ImportingError
        If the path is neither a lake nor recordings.
    """
    lake = Lake(path)
    if not lake.exists():
        lake = Lake(scratch)
        import_files([path], lake, progress=False)
    return lake
