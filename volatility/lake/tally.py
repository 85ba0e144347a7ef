"""Track a recording while it is imported: runs, clocks, duplicates, counts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from volatility.lake.duplicates import KEYS, duplicated
from volatility.lake.imported import ImportReport, Preview
from volatility.lake.ordering import Order
from volatility.records import LAKE_SCHEMA
from volatility.sources import EXAMPLES, Chunk, Kind, changes

RECENT_ROWS = 131_072  # a duplicate further apart is a late tick, and is dropped as such
PREVIEW_ROWS = 5


class Tally:
    """Track one file from chunk to chunk: runs and clocks of its symbols, recent rows, counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gaps: list[tuple[str, int, int, dict[str, str]]] = []
        self._latest: dict[str, tuple[str, int]] = {}  # symbol: run name, greatest time
        self._recent: pa.Table | None = None
        self._heartbeats = self._duplicates = self._out_of_order = 0
        self._example = ""
        self._first = LAKE_SCHEMA.empty_table()
        self.rows = 0
        self.rejected: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()
        self.said: tuple[str, ...] = ()
        self.kind: Kind = "quotes"
        self.order = Order()

    def add(self, chunk: Chunk) -> pa.Table:
        """Count a chunk; return its rows without duplicates."""
        table, run = self._without_duplicates(chunk)
        self.rejected.update(entry.reason for entry in chunk.rejected)
        self.ignored = Counter(chunk.ignored)
        self.rows += table.num_rows
        self.said = chunk.said
        self.kind = chunk.kind
        if chunk.rejected and not self._example:
            self._example = chunk.rejected[0].raw
        self._heartbeats += table.column("price").null_count
        self._follow(table, run, chunk.names)
        missing = PREVIEW_ROWS - self._first.num_rows
        if missing > 0:
            self._first = pa.concat_tables([self._first, table.slice(0, missing)])
        return table

    @property
    def documented(self) -> bool:
        """Whether the file shows messages, rather than recording a market."""
        return self.said[:1] == (EXAMPLES,)

    def why_nothing(self) -> str:
        """Say why no row is valid, and what to do."""
        total = sum(self.rejected.values())
        reasons = ", ".join(f"{reason} ({count})" for reason, count in self.rejected.most_common(2))
        named = [line for line in self.said if line.startswith("symbol ")]
        detail = named[0] if named else f"the first is {self._example[:160]}"
        return (
            f"has no valid row: {reasons} of {total}; {detail}; read as {self.said[0]}; see "
            "--dry-run, and name columns by --map time=COLUMN:ms,bid=COLUMN,ask=COLUMN"
        )

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
                self.order.add(time[start:stop], reached[:-1])
                self._out_of_order += int(np.count_nonzero(reached[:-1] > time[start:stop]))
                self._latest[symbol] = name, int(reached[-1])

    def report(self, parts: int, name: str) -> ImportReport:
        """Return the counts of the file, which became so many parts."""
        trades = self.rows if self.kind == "trades" else 0
        return ImportReport(
            self.rows,
            self._heartbeats,
            dict(self.rejected),
            self._duplicates,
            self._out_of_order,
            dict(self.ignored),
            len(self.gaps),
            parts,
            imported=(self.path,) if self.rows else (),
            trades=trades,
            notes=tuple(f"{name}: {line}" for line in self.said),
        )

    def preview(self, name: str) -> Preview:
        """Return what a dry run shows of the file."""
        said = self.said
        if self.order.broken:
            said = (*said, "not in time order: the rows will be sorted")
        rejected = sum(self.rejected.values())
        return Preview(name, said, self._first, self.rows, rejected, dict(self.rejected))
