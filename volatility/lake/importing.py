"""Import recordings into the lake: each file whole or not at all, and only once.

A file's rows have the topic ``import.<first 12 hex digits of its content's SHA-256>``, so the lake
itself records which files it contains. Entries that are not valid ticks are counted by reason and
kept unchanged in ``<lake>/rejected/<topic>.jsonl``. Trades without quotes go to ``<lake>/trades``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

from volatility.lake.imported import ImportingError, ImportReport
from volatility.lake.lake import Lake
from volatility.lake.merging import IMPORTED
from volatility.lake.ordering import Gathered, by_time
from volatility.lake.rejects import collecting
from volatility.lake.tally import Tally
from volatility.lake.trades import trades_of
from volatility.lake.venues import Venues
from volatility.sources import (
    STDIN,
    Chunk,
    Entry,
    Mapping,
    RecordingError,
    UnknownContentError,
    content,
    find,
    ignored_only,
    members,
    read_entry,
)

__all__ = ["ImportReport", "ImportingError", "import_files", "open_lake"]

# Files that accompany recordings; whatever else does not look like one is a failure where named.
DOCUMENTS = frozenset(
    (".md", ".rst", ".html", ".htm", ".pdf", ".py", ".ipynb", ".yaml", ".yml", ".toml", ".ini",
     ".cfg", ".sh", ".png", ".jpg", ".svg", ".checksum", ".sha256", ".md5")
)  # fmt: skip


class _Unordered(Exception):  # noqa: N818  not an error: the file is read again
    """A file has to be sorted by time."""


def import_files(
    paths: Sequence[Path],
    lake: Lake,
    progress: bool = True,
    *,
    mapping: Mapping | None = None,
    dry_run: bool = False,
) -> ImportReport:
    """Import files, folders (searched recursively), patterns, archives and ``-`` into the lake.

    Parameters
    ----------
    paths : sequence of Path
    lake : Lake
    progress : bool
        Show a progress bar if this is a terminal.
    mapping : Mapping, optional
        Which column is which field, where that cannot be recognised.
    dry_run : bool
        Read everything and write nothing; the report has a preview of each file.

    Raises
    ------
    ImportingError
        When a file is missing, truncated, corrupt, of unknown kind or without a valid row; raised
        after all others were imported. Such a file leaves no trace in the lake.
    LakeError
        When the lake cannot be written.
    """
    files, missing = find(paths)
    job = _Job(lake, Venues(lake.root), mapping or Mapping(), dry_run)
    report, failures = ImportReport(), [f"{path}: no such file or folder" for path in missing]
    aside: list[tuple[Entry, str]] = []
    size = sum(entry.path.stat().st_size for entry in files if entry.path != STDIN)
    hidden = None if progress else True
    with tqdm(total=size, unit="B", unit_scale=True, desc="import", disable=hidden) as bar:
        for entry in files:
            before = bar.n
            length = entry.path.stat().st_size if entry.path != STDIN else 0
            try:
                with members(entry) as inner:
                    for member in inner:
                        try:
                            report += job.run(member, bar, length)
                        except UnknownContentError as error:
                            aside.append((member, str(error)))
                        except (RecordingError, OSError) as error:
                            failures.append(f"{member.name} {error}")
            except (RecordingError, OSError) as error:
                failures.append(f"{entry.name} {error}")
            bar.update(before + length - bar.n)
    done = report.imported or report.skipped or report.previews
    for entry, why in aside:
        if done and (entry.listed or entry.place.suffix.lower() in DOCUMENTS):
            report += ImportReport(notes=(f"{entry.name}: is not a recording",))
        elif not entry.listed:
            failures.append(f"{entry.name} {why}")
    if not done and not failures:
        failures.append(_nothing(paths, aside))
    if failures:
        raise ImportingError(failures, report)
    return report


def _nothing(paths: Sequence[Path], aside: Sequence[tuple[Entry, str]]) -> str:
    if not paths:
        return "no recordings found: no path was given"
    seen = f" ({aside[0][0].name} {aside[0][1]})" if aside else ""
    return f"no recordings found in {', '.join(map(str, paths))}{seen}"


class _Job:
    """Import one file after the other, with what they share."""

    def __init__(self, lake: Lake, venues: Venues, mapping: Mapping, dry_run: bool) -> None:
        self._lake = lake
        self._venues = venues
        self._mapping = mapping
        self._dry_run = dry_run

    def run(self, entry: Entry, bar: tqdm[Any], size: int) -> ImportReport:
        """Import one file, or skip one that the lake contains."""
        first = next(self._read(entry))
        lake = trades_of(self._lake) if first.kind == "trades" else self._lake
        topics = [f"{IMPORTED}{digest}{_suffix(first)}" for digest in content(entry.path)]
        if not self._dry_run and any(lake.last_offset(topic, 0) >= 0 for topic in topics):
            return ImportReport(skipped=(entry.path,))
        try:
            return self._write(entry, lake, topics[0], bar, size, ordered=False)
        except _Unordered:
            return self._write(entry, lake, topics[0], bar, size, ordered=True)

    def _read(self, entry: Entry) -> Iterator[Chunk]:
        return read_entry(entry, self._venues.resolve, self._mapping)

    def _write(
        self, entry: Entry, lake: Lake, topic: str, bar: tqdm[Any], size: int, *, ordered: bool
    ) -> ImportReport:
        before = bar.n
        tally = Tally(entry.path)
        kept = self._lake.root / "rejected" / f"{topic}.jsonl"
        chunks = by_time(self._read(entry)) if ordered else self._read(entry)
        if self._dry_run:
            for chunk in chunks:
                tally.add(chunk)
            _require(tally)
            return ImportReport(previews=(tally.preview(entry.name),))
        lake.drop(topic)
        with lake.stage(topic, 0) as stage, collecting(kept) as rejects:
            gathered = Gathered(stage)
            for chunk in chunks:
                gathered.append(tally.add(chunk))
                for rejected in chunk.rejected:
                    rejects.write(msgspec.json.encode(rejected) + b"\n")
                bar.update(max(0, before + int(chunk.share * size) - bar.n))
            gathered.flush()
            _require(tally)
            if tally.order.broken and not ordered:
                raise _Unordered
            # Before the parts appear: a crash in between repeats these lines, and the same line
            # counts once.
            for symbol, start_ns, stop_ns, detail in tally.gaps:
                lake.record_gap(symbol, start_ns, stop_ns, "recording", **detail, topic=topic)
        self._venues.save()
        apart = tuple(f"{entry.name}: {line}" for line in self._venues.apart.values())
        self._venues.apart.clear()
        sort = (f"{entry.name}: was not in time order, and is sorted",) if ordered else ()
        report = tally.report(len(stage.paths), entry.name)
        return report + ImportReport(notes=(*sort, *apart))


def _suffix(chunk: Chunk) -> str:
    """Distinguish the same content under another symbol."""
    return f".{hashlib.sha256(chunk.outside.encode()).hexdigest()[:6]}" if chunk.outside else ""


def _require(tally: Tally) -> None:
    """Check that a file has a valid row; documentation of messages need not have one.

    Raises
    ------
    RecordingError
    """
    if tally.rows or tally.documented:
        return
    if not tally.rejected:
        raise RecordingError(ignored_only(tally.ignored) if tally.ignored else "has no row")
    raise RecordingError(tally.why_nothing())


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
