"""Update a folder of features incrementally: build only what is new in its lake.

A row is final once a later record has closed its step, so ticks that come after those already
read change no row. A manifest beside the rows records what was read, as runs of the lake in scan
order. Rows stay valid as long as the recorded runs are still a prefix of the scan; building
resumes after them, and replays the memory of a feature row to warm up. Everything else is
rebuilt, for example when ticks were inserted earlier, parts were deleted or a period was voided.
Merging parts does not change the runs.

A crash at any instant leaves whole files; the next run compares the lake with the runs of the
last completed update, and repairs everything after them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from volatility.features.engine import TICK_COLUMNS, build_features, feature_batches
from volatility.features.files import (
    FILE,
    DayWriter,
    FeaturesError,
    date_folder,
    read_rows,
)
from volatility.features.table import table_digest
from volatility.files import locked, write_whole
from volatility.lake import IMPORTED, Lake
from volatility.settings import Features
from volatility.units import SECOND

MANIFEST = "built.json"
KERNEL = ("engine", "kernel", "kernel_rows", "kernel_state", "kernel_sums")


class Run(msgspec.Struct, frozen=True):
    """Represent adjacent parts of one source and date as one: their offsets, rows and times."""

    source: str
    date: str
    first_offset: int
    last_offset: int
    rows: int
    first_ns: int
    last_ns: int


class Built(msgspec.Struct, frozen=True):
    """Represent the runs that one symbol's rows were built from, and the row count by date.

    ``voided`` are the periods [ns] whose ticks were left out.
    """

    runs: tuple[Run, ...]
    days: dict[str, int]
    voided: tuple[tuple[int, int], ...] = ()


class Manifest(msgspec.Struct, frozen=True):
    """Represent the digest of all rules, and what was built with them, by symbol."""

    rules: str
    symbols: dict[str, Built]


def update_features(
    lake: Lake, folder: Path, settings: Features, *, progress: bool = True
) -> dict[str, int]:
    """Update a folder to what ``build_features`` would write, building only what is new.

    Everything is rebuilt when nothing can be kept: there are no features yet, or the feature
    table, the settings or the kernel has changed.

    Returns
    -------
    dict
        Number of ``rows`` in the folder, of ``new`` ones among them, and of ``late`` and
        ``duplicates`` among the ticks that were read.

    Raises
    ------
    LakeError, FeaturesError
        As ``build_features``.
    """
    symbols = lake.symbols()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent):
        rules = _rules(settings)
        known = _known(folder, rules)
        # Describe the lake before reading it: ticks added in between are read again next time.
        scans = {symbol: _scan(lake, symbol) for symbol in symbols}
        runs = {symbol: tuple(map(_joined, scan)) for symbol, scan in scans.items()}
        voided = {symbol: tuple(lake.voided(symbol)) for symbol in symbols}
        ends = {
            symbol: None
            if symbol not in known or known[symbol].voided != voided[symbol]
            else _settled(folder, symbol, known[symbol], scan)
            for symbol, scan in scans.items()
        }
        if all(end is None for end in ends.values()):
            total = build_features(lake, folder, settings, progress=progress)
            total["new"] = total["rows"]
        else:
            total = {"new": 0, "late": 0, "duplicates": 0}
            with tqdm(unit=" rows", desc="features", disable=None if progress else True) as bar:
                for symbol, end in ends.items():
                    if end is None or known[symbol] != Built(
                        runs[symbol], _days(folder, symbol), voided[symbol]
                    ):
                        found = _extend(lake, symbol, folder, end, settings, bar.update)
                        total = {key: total[key] + found[key] for key in total}
            for path in folder.glob("symbol=*"):
                if path.name.removeprefix("symbol=") not in symbols:
                    shutil.rmtree(path)
        built = {s: Built(runs[s], _days(folder, s), voided[s]) for s in symbols}
        _remember(folder, Manifest(rules, built))
    return total | {"rows": sum(sum(one.days.values()) for one in built.values())}


def _extend(
    lake: Lake,
    symbol: str,
    folder: Path,
    end: int | None,
    settings: Features,
    tell: Callable[[int], object],
) -> dict[str, int]:
    """Build one symbol's rows after the second ``end``, or all of them if it is None."""
    target = folder / f"symbol={symbol}"
    building = folder.with_name(folder.name + ".building")
    shutil.rmtree(building, ignore_errors=True)
    counts = {"new": 0}
    end_ns = -1 if end is None else end * SECOND
    start_ns = None if end is None else end_ns - settings.memory_seconds * SECOND
    try:
        with DayWriter(building) as writer:
            if end is not None and (target / date_folder(end_ns) / FILE).exists():
                time, rows = read_rows(target / date_folder(end_ns) / FILE)
                kept = int(np.searchsorted(time, end_ns, side="right"))
                writer.write(time[:kept], rows[:kept])
            scan = lake.scan(symbol, TICK_COLUMNS, start_ns)
            for time, rows in feature_batches(scan, settings, counts):
                fresh = int(np.searchsorted(time, end_ns, side="right"))
                writer.write(time[fresh:], rows[fresh:])
                counts["new"] += len(time) - fresh
                tell(len(time) - fresh)
        dates = {path.name for path in building.glob("date=*")}
        for date in sorted(dates):
            (target / date).mkdir(parents=True, exist_ok=True)
            os.replace(building / date / FILE, target / date / FILE)
        for path in target.glob("date=*"):
            if path.name not in dates and (end is None or path.name >= date_folder(end_ns)):
                shutil.rmtree(path)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return counts


def _settled(folder: Path, symbol: str, built: Built, scan: Sequence[Sequence[Run]]) -> int | None:
    """Return the last second whose row is still valid: the latest one closed by the known runs.

    None when no known run is a prefix of the scan any more, or a file of those rows is missing or
    damaged.
    """
    latest_ns, settled = -1, 0
    grown: Sequence[Run] = ()
    for place, (run, parts) in enumerate(zip(built.runs, scan, strict=False)):
        # The last run may have grown since: the part of it that was read must be unchanged.
        known = parts
        if place == len(built.runs) - 1:
            known = [part for part in parts if part.first_offset <= run.last_offset]
        if not known or _joined(known) != run:
            break
        settled, grown = place + 1, parts[len(known) :]
        latest_ns = max(latest_ns, run.last_ns)
    if latest_ns < 0:
        return None
    # The second that contains the latest record is still open. A recording that was imported
    # since is merged by time, so it may change rows from its first record on.
    merged = any(run.source.startswith(IMPORTED) for parts in scan for run in parts)
    added = [run.first_ns for parts in (grown, *scan[settled:]) for run in parts if merged]
    end = (min([latest_ns, *added]) - 1) // SECOND
    if end < 0:
        return None
    try:
        held = _days(folder, symbol)
    except FeaturesError:
        return None
    newest = date_folder(end * SECOND)
    whole = all(held.get(date, -1) >= rows for date, rows in built.days.items() if date <= newest)
    return end if whole else None


def _scan(lake: Lake, symbol: str) -> list[list[Run]]:
    """Describe a symbol's scan: groups of adjacent parts of one source and date, a run per part."""
    parts = [
        Run(
            f"{part.topic}/{part.partition}",
            part.path.parent.name,
            part.first_offset,
            part.last_offset,
            part.rows,
            part.first_ns,
            part.last_ns,
        )
        for part in lake.described(symbol)
    ]
    return [list(group) for _, group in groupby(parts, lambda run: (run.source, run.date))]


def _joined(parts: Sequence[Run]) -> Run:
    return msgspec.structs.replace(
        parts[0],
        first_offset=min(part.first_offset for part in parts),
        last_offset=max(part.last_offset for part in parts),
        rows=sum(part.rows for part in parts),
        first_ns=min(part.first_ns for part in parts),
        last_ns=max(part.last_ns for part in parts),
    )


def _days(folder: Path, symbol: str) -> dict[str, int]:
    """Count the rows of each file, by the name of its date folder."""
    counts = {}
    for path in sorted((folder / f"symbol={symbol}").glob(f"date=*/{FILE}")):
        try:
            counts[path.parent.name] = int(pq.read_metadata(path).num_rows)
        except (pa.ArrowInvalid, OSError) as error:
            raise FeaturesError(f"{path}: {error}") from error
    return counts


def _remember(folder: Path, manifest: Manifest) -> None:
    write_whole(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def _known(folder: Path, rules: str) -> dict[str, Built]:
    """Read what was built with the same rules; empty if unknown."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError):
        return {}
    return manifest.symbols if manifest.rules == rules else {}


def _rules(settings: Features) -> str:
    """Return a digest of what rows depend on besides the ticks: settings, feature table, kernel."""
    content = hashlib.sha256(table_digest().encode() + msgspec.json.encode(settings))
    for name in KERNEL:
        content.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return content.hexdigest()
