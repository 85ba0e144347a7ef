"""Store ticks in Parquet: immutable parts that appear whole and are read in arrival order.

The lake is the system of record. Reading takes bounded memory however large the lake is; the
order depends only on file names and footers, never on file times.

>>> lake = Lake(Path("data/ticks"))
>>> lake.last_offset("ticks", 0)
-1
"""

from __future__ import annotations

import glob
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from volatility.files import locked, make_folder
from volatility.lake import ledger, progress
from volatility.lake.ledger import Gap
from volatility.lake.merging import Cluster, clusters
from volatility.lake.parts import LakeError, Part, Stage, parse_name, read_part, readable
from volatility.lake.scan import Wanted, overlaps, scan
from volatility.records import LAKE_SCHEMA

__all__ = ["Gap", "Lake", "LakeError", "Part", "Stage"]

BATCH_ROWS = 131_072
TRADES = "trades"  # folder of trades without quotes, a lake of its own schema
RELISTINGS = 20  # each needs a compaction that ends between listing a part and opening it


class Lake:
    """Read and write the Parquet lake under one folder.

    Parameters
    ----------
    root : Path
        Created by the first write.
    schema : pyarrow.Schema
        Columns of the parts, including symbol, time, partition and offset.
    """

    def __init__(self, root: Path | str, schema: pa.Schema = LAKE_SCHEMA) -> None:
        self.root = Path(root)
        self.schema = schema
        self._footers: dict[tuple[Path, int, int], Part] = {}

    def write(
        self, table: pa.Table, topic: str, partition: int, through: int | None = None
    ) -> list[Path]:
        """Write rows of one topic partition, one part per symbol and UTC date.

        Parameters
        ----------
        table : Table
            Columns of the schema, offsets ascending. Writing the same rows again has no effect.
        topic, partition
            The source.
        through : int, optional
            Offset through which the source is stored after this; by default the last row's.

        Returns
        -------
        list of Path
            The parts; the one that completes the batch comes last.

        Raises
        ------
        ValueError
            When the table violates a rule above.
        LakeError
            When the lake cannot be written; then nothing was written.
        """
        with self.stage(topic, partition, through) as stage:
            stage.append(table)
        return stage.paths

    def stage(
        self, topic: str, partition: int, through: int | None = None, mark: str = ""
    ) -> Stage:
        """Open a context that collects rows table by table and publishes all of them or none."""
        return Stage(self.root, self.schema, topic, partition, through, mark)

    def exists(self) -> bool:
        """Return whether the lake has any part."""
        return any(parse_name(path) for path in self.root.glob("symbol=*/date=*/part-*"))

    def symbols(self) -> list[str]:
        """List the symbols.

        Raises
        ------
        LakeError
            When the lake is empty or missing.
        """
        return sorted({_value(path.parent.parent) for path in self._paths()})

    def dates(self, symbol: str) -> list[str]:
        """List the UTC dates of a symbol's ticks, such as ``2026-04-04``."""
        return sorted({_value(path.parent) for path in self._paths(symbol)})

    def rows(self, symbol: str) -> int:
        """Count a symbol's rows, heartbeats included."""
        return sum(part.rows for part in self._described(symbol))

    def span(self, symbol: str) -> tuple[int, int]:
        """Return the least and greatest exchange time [ns] of a symbol's rows."""
        parts = self._described(symbol)
        return min(part.first_ns for part in parts), max(part.last_ns for part in parts)

    def parts(
        self, symbol: str, start_ns: int | None = None, stop_ns: int | None = None
    ) -> list[Path]:
        """List the parts that may have rows with ``start_ns <= time < stop_ns``, in scan order."""
        return [p.path for p in self.described(symbol) if overlaps(p, start_ns, stop_ns)]

    def described(self, symbol: str) -> list[Part]:
        """Describe a symbol's parts, in scan order."""
        return [part for cluster in self._clusters(symbol) for part in cluster.parts]

    def scan(
        self,
        symbol: str,
        columns: Sequence[str] | None = None,
        start_ns: int | None = None,
        stop_ns: int | None = None,
        batch_rows: int = BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Read a symbol's rows in arrival order, one batch at a time.

        Parts of a source (topic and partition) are ordered by offset; sources by their first time,
        except that an imported recording is merged by time with what it overlaps.
        Rows in a period that ``void`` declared invalid are left out.

        Parameters
        ----------
        symbol : str
        columns : sequence of str, optional
            Columns of the schema; by default all. A nullable one that a part lacks reads as null.
        start_ns, stop_ns : int, optional
            Only rows with ``start_ns <= time < stop_ns`` [ns].
        batch_rows : int
            Greatest number of rows in a batch.

        Raises
        ------
        LakeError
            When the lake is empty, has no such symbol, or a part is corrupt.
        """
        names = list(self.schema.names if columns is None else columns)
        unknown = set(names) - set(self.schema.names)
        if unknown:
            raise ValueError(f"the lake has no column {', '.join(sorted(unknown))}")
        found = [
            Cluster(
                [
                    [[p for p in group if overlaps(p, start_ns, stop_ns)] for group in stream]
                    for stream in cluster.streams
                ]
            )
            for cluster in self._clusters(symbol)
        ]
        wanted = Wanted(
            self.schema, names, start_ns, stop_ns, tuple(self.voided(symbol)), batch_rows
        )
        return scan(found, wanted)

    def last_offset(self, topic: str, partition: int) -> int:
        """Return the offset through which a topic partition is stored; -1 when nothing is.

        A batch that a crash interrupted between two of its parts does not count: write it again
        from the next offset on, and its parts replace what is there. Nor does what a part held
        that has been deleted by hand since.
        """
        noted = progress.read(self.root, topic, partition)
        if noted is None:
            return self._held(topic, partition)
        if (self.root / noted.part).exists():
            return max(noted.through, self._held(topic, partition, noted.through))
        through = self._held(topic, partition)  # compaction has merged the part, or it was deleted
        return through if through < noted.held else max(through, noted.through)

    def settle(self, topic: str, partition: int) -> int:
        """Bring the note of a source up to its parts; return ``last_offset``.

        Needed before parts are merged: a kill can leave a part that the note does not know yet,
        and a merged part is named by the oldest offset in it.
        """
        if progress.read(self.root, topic, partition) is not None:
            self.advance(topic, partition, self._held(topic, partition))
        return self.last_offset(topic, partition)

    def _held(self, topic: str, partition: int, after: int = -1) -> int:
        """Return the offset through which the parts hold a source that begin after an offset."""
        pattern = f"symbol=*/date=*/part-{glob.escape(topic)}-{partition}-*.parquet"

        def listed() -> list[Path]:
            found = [(path, parse_name(path)) for path in self.root.glob(pattern)]
            source = (topic, partition)
            return [path for path, name in found if name and name[:2] == source and name[2] > after]

        return max((part.through for part in self._parts(listed)), default=-1)

    def mark(self, topic: str, partition: int) -> str:
        """Return the fingerprint of the record at ``last_offset``; empty if none was noted."""
        noted = progress.read(self.root, topic, partition)
        same = noted is not None and noted.through == self.last_offset(topic, partition)
        return noted.mark if noted and same else ""

    def advance(self, topic: str, partition: int, through: int) -> None:
        """Note that nothing more will come of a topic partition up to an offset."""
        make_folder(self.root)
        with locked(self.root):
            progress.advance(self.root, topic, partition, through, None)

    def newest(self, topic: str, partition: int) -> dict[str, int]:
        """Return the time [ns] up to which each symbol of a topic partition is stored."""
        pattern = f"symbol=*/date=*/part-{glob.escape(topic)}-{partition}-*.parquet"
        found: dict[str, int] = {}
        for part in self._parts(lambda: list(self.root.glob(pattern))):
            if (part.topic, part.partition) == (topic, partition):
                symbol = _value(part.path.parent.parent)
                found[symbol] = max(found.get(symbol, 0), part.last_ns)
        return found

    def drop(self, topic: str) -> None:
        """Delete the parts of a topic, such as those left by an interrupted import."""
        for path in self.root.glob(f"symbol=*/date=*/part-{glob.escape(topic)}-*.parquet"):
            if _source(path)[0] == topic:
                path.unlink()

    def digest(self, symbol: str | None = None) -> str:
        """Return the SHA-256 (hex) of names and contents of all parts, or of one symbol's."""
        whole = hashlib.sha256()
        for path in self._paths(symbol):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{path.relative_to(self.root).as_posix()} {content}\n".encode())
        return whole.hexdigest()

    def record_gap(
        self, symbol: str, start_ns: int, stop_ns: int, reason: str, **detail: Any
    ) -> None:
        """Append a gap to the ledger ``gaps.jsonl`` beside the parts; see ``ledger.Gap``."""
        gap = Gap(symbol, int(start_ns), int(stop_ns), reason, detail)
        ledger.append(self.root / "gaps.jsonl", gap)

    def void(self, symbol: str, start_ns: int, stop_ns: int, why: str) -> int:
        """Declare the rows of a symbol with ``start_ns <= time < stop_ns`` [ns] invalid.

        The parts stay as they are. The ledger gets a gap with the reason ``void``, and from then
        on no scan returns these rows.

        Returns
        -------
        int
            Number of rows that scans returned before and do not return any more.

        Raises
        ------
        ValueError
            If the period is empty.
        LakeError
            If the lake has no such symbol or no row of it in the period, or cannot be written.
        """
        if start_ns >= stop_ns:
            raise ValueError("the period to void is empty: its end must be after its start")
        rows = sum(map(len, self.scan(symbol, ["time"], start_ns, stop_ns)))
        if not rows:
            raise LakeError(f"the lake {self.root} has no row of {symbol} in this period")
        self.record_gap(symbol, start_ns, stop_ns, ledger.VOID, why=why)
        return rows

    def voided(self, symbol: str) -> list[tuple[int, int]]:
        """List the periods [ns] of a symbol whose rows scans leave out."""
        gaps = self.gaps(symbol)
        return [(gap.start_ns, gap.stop_ns) for gap in gaps if gap.reason == ledger.VOID]

    def gaps(self, symbol: str | None = None) -> list[Gap]:
        """Read the ledger in the order in which it was written, without repeated entries."""
        return ledger.read(self.root / "gaps.jsonl", symbol)

    def _paths(self, symbol: str | None = None) -> list[Path]:
        found = sorted(p for p in self.root.glob("symbol=*/date=*/part-*") if parse_name(p))
        if not found:
            trades = sorted(_value(p) for p in self.root.glob(f"{TRADES}/symbol=*"))
            if trades:
                raise LakeError(
                    f"the lake {self.root} has only trades of {', '.join(trades[:20])}, and "
                    "features need quotes: the price of trades jumps between bid and ask; import "
                    "best bids and asks of the same market, such as its bookTicker or quotes"
                )
            state = "is empty" if self.root.exists() else "does not exist"
            raise LakeError(
                f"the lake {self.root} {state}; fill it by `volatility simulate` or "
                "`volatility import FILE...`"
            )
        if symbol is None:
            return found
        chosen = [path for path in found if _value(path.parent.parent) == symbol]
        if not chosen:
            held = ", ".join(sorted({_value(path.parent.parent) for path in found})[:20])
            raise LakeError(f"the lake {self.root} has no symbol {symbol}; it has {held}")
        return chosen

    def _part(self, path: Path) -> Part:
        with readable(path):
            state = path.stat()
        key = path, state.st_size, state.st_mtime_ns
        if key not in self._footers:
            self._footers[key] = read_part(path)
        return self._footers[key]

    def _parts(self, listed: Callable[[], list[Path]]) -> list[Part]:
        """Describe the listed parts; list them again if compaction removed one meanwhile."""
        for _ in range(RELISTINGS):
            try:
                return [self._part(path) for path in listed()]
            except LakeError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
        return [self._part(path) for path in listed()]

    def _described(self, symbol: str) -> list[Part]:
        return self._parts(lambda: self._paths(symbol))

    def _clusters(self, symbol: str) -> list[Cluster]:
        return clusters(self._groups(symbol))

    def _groups(self, symbol: str) -> list[list[Part]]:
        """Order a symbol's parts; parts whose offsets overlap, as around midnight, form a group."""
        sources: dict[tuple[str, int], list[Part]] = defaultdict(list)
        for part in self._described(symbol):
            sources[part.topic, part.partition].append(part)
        ranked: list[tuple[int, tuple[str, int], int, list[Part]]] = []
        for source, parts in sources.items():
            parts.sort(key=lambda part: part.first_offset)
            latest = reached = -1
            for part in parts:
                latest = max(latest, part.first_ns)
                if ranked and ranked[-1][1] == source and part.first_offset <= reached:
                    ranked[-1][3].append(part)
                else:
                    ranked.append((latest, source, part.first_offset, [part]))
                reached = max(reached, part.last_offset)
        ranked.sort(key=lambda entry: entry[:3])
        return [group for *_, group in ranked]


def _source(path: Path) -> tuple[str, int]:
    name = parse_name(path)
    return name[:2] if name else ("", -1)


def _value(folder: Path) -> str:
    return folder.name.partition("=")[2]
