"""Represent the result of an import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa


@dataclass(frozen=True)
class Preview:
    """Represent what a dry run found in one file.

    Parameters
    ----------
    name : str
    said : tuple of str
        What was recognised and decided.
    first : Table
        The first rows, with the columns of the lake.
    rows, rejected : int
    reasons : dict of str to int
        Rejected rows by reason.
    """

    name: str
    said: tuple[str, ...]
    first: pa.Table
    rows: int
    rejected: int
    reasons: dict[str, int]


@dataclass(frozen=True)
class ImportReport:
    """Represent the result of an import.

    Parameters
    ----------
    rows : int
        Rows written to the lake, including heartbeats and trades.
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
    trades : int
        Rows that are trades without quotes, in the folder ``trades`` of the lake.
    notes : tuple of str
        What was decided about the files, each line with the name of its file.
    previews : tuple of Preview
        Of a dry run, which writes nothing.
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
    trades: int = 0
    notes: tuple[str, ...] = ()
    previews: tuple[Preview, ...] = ()

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
            self.trades + other.trades,
            self.notes + other.notes,
            self.previews + other.previews,
        )


class ImportingError(Exception):
    """Some files could not be imported; ``report`` describes what was done with the others."""

    def __init__(self, failures: Sequence[str], report: ImportReport) -> None:
        done = f"; {len(report.imported)} other file(s) imported" if report.imported else ""
        super().__init__("; ".join(failures) + done)
        self.failures = tuple(failures)
        self.report = report
