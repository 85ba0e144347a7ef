"""Remove repeated predictions: a scorer that was killed may send some of them again."""

from __future__ import annotations

from collections import defaultdict

import pyarrow as pa
import pyarrow.parquet as pq

from volatility.lake import Lake, parse_name, readable

BEFORE_ALL = -(2**63)


class Distinct:
    """Drop the predictions that the lake already has, by (symbol, time, model_version).

    The lake is queried only for rows that are not later than everything it has, so never for
    an uninterrupted stream.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._reached: dict[str, dict[str, int]] = {}  # by symbol and version: latest time [ns]

    def forget(self) -> None:
        """Forget what is known about the lake: another process may have written to it since."""
        self._reached.clear()

    def keep(self, table: pa.Table, source: str, partition: int, first: int) -> pa.Table:
        """Return the rows that are new, the first of each.

        Parameters
        ----------
        table : Table
            With the columns of ``PREDICTION_SCHEMA``.
        source, partition
            Topic partition that the rows come from.
        first : int
            Its first offset that the lake does not have. Parts from there on are left over from
            a batch that a crash interrupted, and are about to be replaced.

        Raises
        ------
        LakeError
            When a part cannot be read.
        """
        names = ("symbol", "time", "model_version")
        times = table.column("time").cast(pa.int64())
        columns = [times if name == "time" else table.column(name) for name in names]
        keys = list(zip(*(column.to_pylist() for column in columns), strict=True))
        by_symbol: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for symbol, time, version in keys:
            by_symbol[symbol].append((time, version))
        seen: set[tuple[str, int, str]] = set()
        for symbol, rows in by_symbol.items():
            reached = self._known(symbol)
            latest = reached[""]
            if any(time <= reached.get(version, latest) for time, version in rows):
                low, high = min(rows)[0], max(rows)[0]
                seen |= self._held(symbol, low, high, (source, partition, first))
            for time, version in rows:
                reached[version] = max(time, reached.get(version, latest))
        kept = []
        for key in keys:
            kept.append(key not in seen)
            seen.add(key)
        return table if all(kept) else table.filter(pa.array(kept))

    def _known(self, symbol: str) -> dict[str, int]:
        """Return the latest time of each version; under "" the lake's at the first query."""
        if symbol not in self._reached:
            latest = self._lake.span(symbol)[1] if self._has(symbol) else BEFORE_ALL
            self._reached[symbol] = {"": latest}
        return self._reached[symbol]

    def _held(
        self, symbol: str, low: int, high: int, begin: tuple[str, int, int]
    ) -> set[tuple[str, int, str]]:
        found: set[tuple[str, int, str]] = set()
        for path in self._lake.parts(symbol, low, high + 1) if self._has(symbol) else ():
            name = parse_name(path)
            if name is not None and name[:2] == begin[:2] and name[2] >= begin[2]:
                continue
            with readable(path):
                part = pq.read_table(path, columns=["time", "model_version"], partitioning=None)
            times = part.column("time").cast(pa.int64()).to_pylist()
            versions = part.column("model_version").to_pylist()
            found |= {(symbol, time, v) for time, v in zip(times, versions, strict=True)}
        return found

    def _has(self, symbol: str) -> bool:
        return any((self._lake.root / f"symbol={symbol}").glob("date=*/part-*"))
