"""Write what an import did, or would do, as lines for a terminal."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from volatility.lake import ImportReport

SHOWN_REASONS = 12
_COLUMNS = ("symbol", "time", "price", "bid", "ask", "bid_size", "ask_size", "size", "side")


def import_lines(report: ImportReport, lake: Path) -> list[str]:
    """Return the counts of an import, why rows were rejected, and what was decided."""
    lines = [
        f"{report.rows:,} records in {lake} from {len(report.imported)} files, "
        f"{len(report.skipped)} files already imported, {sum(report.rejected.values())} rejected, "
        f"{report.duplicates} duplicates, {report.out_of_order} out of order, {report.gaps} gaps"
    ]
    lines += [f"  rejected {n}: {why}" for why, n in sorted(report.rejected.items())]
    if report.trades:
        lines.append(
            f"  {report.trades:,} of the records are trades without quotes, in {lake}/trades: "
            "features need quotes and do not use them"
        )
    return lines + [f"  {note}" for note in _gathered(report.notes)]


def preview_lines(report: ImportReport) -> list[str]:
    """Return what a dry run recognised: layout, first rows as ticks, rejected rows."""
    lines = []
    for preview in report.previews:
        total = preview.rows + preview.rejected
        share = preview.rejected / total if total else 0.0
        lines += [f"{preview.name}", *(f"  {line}" for line in preview.said)]
        lines += [f"  {line}" for line in _table(preview.first)]
        lines.append(f"  {preview.rows:,} valid rows, {preview.rejected} rejected ({share:.2%})")
        ranked = sorted(preview.reasons.items(), key=lambda pair: -pair[1])[:SHOWN_REASONS]
        lines += [f"    rejected {count}: {reason}" for reason, count in ranked]
    return [*lines, *report.notes, "nothing was written (--dry-run)"]


def _gathered(notes: tuple[str, ...]) -> list[str]:
    """Say once what is true of several files."""
    files: dict[str, list[str]] = {}
    for note in notes:
        name, colon, text = note.partition(": ")
        files.setdefault(f"{colon}{text}", []).append(name)
    lines = []
    for text, names in files.items():
        others = f" and {len(names) - 1} other file(s)" if len(names) > 1 else ""
        lines.append(f"{names[0]}{others}{text}")
    return lines


def _table(rows: pa.Table) -> list[str]:
    """Align the columns that have a value in any of the rows."""
    names = [name for name in _COLUMNS if rows.column(name).null_count < rows.num_rows]
    columns = []
    for name in names:
        column = rows.column(name)
        if pa.types.is_timestamp(column.type):
            shown = [str(value) for value in column.cast(pa.string()).to_pylist()]
        else:
            shown = ["" if value is None else f"{value}" for value in column.to_pylist()]
        width = max(len(name), *map(len, shown))
        columns.append([name.ljust(width), *(text.ljust(width) for text in shown)])
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
