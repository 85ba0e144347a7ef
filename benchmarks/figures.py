"""Write the measured figures into README and docs, so that none is copied by hand.

Run ``python -m benchmarks.figures`` after a benchmark. It updates the text between
``<!-- figures: NAME -->`` and ``<!-- end -->`` in each document; a test checks that it is up to
date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.prediction.rows import StudyRow, read_rows
from benchmarks.results import Row, missed, read

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
DOCUMENTS = ("README.md", "docs/concepts.md", "docs/selection.md")
BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
USUAL, HELLO = "usual design", "FastAPI hello-world"


def shown(value: float) -> str:
    """Format a figure with three significant digits.

    >>> shown(5794.0), shown(0.1545), shown(24.91), shown(300.7)
    ('5,790', '0.154', '24.9', '301')
    """
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:.3g}"


def find(rows: Sequence[Row], start: str, end: str = "", peer: str | None = None) -> Row:
    """Return the measure with this start and end, and with this peer if one is given.

    Raises
    ------
    ValueError
        If there is none.
    """
    for row in rows:
        named = row.measure.startswith(start) and row.measure.endswith(end)
        if named and (peer is None or row.peer_name == peer):
            return row
    raise ValueError(f"no measure {start} ... {end} with peer {peer}; run the benchmark again")


def serving() -> str:
    """Return the latency table."""
    rows = read(RESULTS / "serving.json")
    stream = read(RESULTS / "streaming.json")
    lines = [
        f"| one worker | this service | {USUAL} | {HELLO} |",
        "|---|---|---|---|",
    ]
    for connections in ("1 connection", "8 connections"):
        start = f"closed loop, {connections}, median"
        peers = [find(rows, start, peer=peer) for peer in (USUAL, HELLO)]
        tail = [find(rows, f"closed loop, {connections}, p99", peer=p) for p in (USUAL, HELLO)]
        middle = find(rows, f"closed loop, {connections}, p50")
        lines += [
            _line(f"{connections}, as fast as it can", "requests/s", peers),
            f"| the same, p50 / p99 | {shown(middle.ours)} / {shown(tail[0].ours)} ms | "
            + " | ".join(f"p99 {shown(row.peer or 0.0)} ms" for row in tail)
            + " |",
        ]
    lines.append(
        _line("highest rate with p99 <= 50 ms", "requests/s",
              [find(rows, "open loop, highest rate", peer=peer) for peer in (USUAL, HELLO)])
    )  # fmt: skip
    steady = [find(rows, "open loop, 500 requests/s", end) for end in ("p50", "p99")]
    lines.append(f"| 500 requests/s for a minute, p50 / p99 | {shown(steady[0].ours)} / "
                 f"{shown(steady[1].ours)} ms | | |")  # fmt: skip
    lines.append(
        _line("100 new connections at once, p95", "ms",
              [find(rows, "burst of 100", peer=peer) for peer in (USUAL, HELLO)])
    )  # fmt: skip
    batch = find(rows, "1,000 rows of the 4 features", peer=USUAL)
    lines.append(f"| 1,000 rows in one request, median | {shown(batch.ours)} ms | "
                 f"{shown(batch.peer or 0.0)} ms | |")  # fmt: skip
    tick = [find(stream, "tick appended to prediction", end) for end in ("median", "p99")]
    lines.append(f"| tick in Kafka to prediction in Kafka, median / p99 | {shown(tick[0].ours)} / "
                 f"{shown(tick[1].ours)} ms | | |")  # fmt: skip
    return "\n".join([*lines, "", _kept(rows)])


def streaming() -> str:
    """Return the table of the streaming processes."""
    rows = read(RESULTS / "streaming.json")
    capture, ingest, score = (find(rows, name) for name in ("capture, ", "ingest to", "score, one"))
    middle, p99 = (find(rows, "tick appended", end) for end in ("median", "p99"))
    sent = find(rows, "meanwhile sent")
    lines = [
        ("", "measured", ""),
        ("---", "---", "---"),
        (
            "capture into Parquet",
            f"{shown(capture.ours)} records/s",
            f"{capture.ratio:.2f} of a bare kafka-python consumer that does nothing",
        ),
        ("ingest to lake, end to end", f"{shown(ingest.ours)} ticks/s", ""),
        ("score, one process", f"{shown(score.ours)} ticks/s", ""),
        (
            "tick appended to prediction readable",
            f"{shown(middle.ours)} ms median, {shown(p99.ours)} ms p99",
            f"at {shown(sent.ours)} ticks/s over 10 symbols",
        ),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def noise() -> str:
    """Return the table of evaluations on noise."""
    rows = read(RESULTS / "noise.json")
    *ways, skill = rows
    number = re.search(r"mean of (\d+) markets", ways[0].measure)
    assert number is not None
    lines = [
        f"| way of evaluating, mean of {number[1]} markets of noise | PR-AUC | base rate |",
        "|---|---|---|",
    ]
    for row in ways:
        name = row.measure.partition(", mean of")[0]
        lines.append(f"| {name} | {row.ours:.3f} | {row.peer:.3f} |")
    told = (
        f"On the placebo markets this project's model beats the truth by at most {skill.ours:.1f} "
        "standard errors; three are allowed."
    )
    return "\n".join([*lines, "", told])


def leaderboard() -> str:
    """Return the table of the study's results by venue."""
    rows = read_rows(RESULTS / "prediction.json")
    head = (
        "venue, test windows of 60 s",
        "best simple forecast",
        "QLIKE, ml less best simple (95 %)",
        "PR-AUC at the 0.9 level, ml / best simple",
    )
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|"]
    venues = [row for row in rows if row.measure.endswith("QLIKE of ml less best simple")]
    for row in venues:
        about = row.measure.removesuffix(", QLIKE of ml less best simple")
        venue = about.partition(":")[0]
        ranked = _study(rows, f"{venue}, PR-AUC at the 0.9 level")
        lines.append(
            f"| {about} | {row.peer_name} | {_difference(row)} | {ranked.ours:.3f} / "
            f"{ranked.peer:.3f}, {_difference(ranked)} |"
        )
    whole = _study(rows, "equal-weight pool of all venues, qlike")
    ranked = _study(rows, "equal-weight pool of all venues, pr_auc")
    pooled = f"{_difference(whole)} | {_difference(ranked)}"
    lines.append(f"| **all venues, equal weight** | | {pooled} |")
    promised = [row for row in rows if row.met is not None]
    short = [row for row in promised if not row.met]
    told = f"{len(promised) - len(short)} of the study's {len(promised)} targets are met."
    if short:
        told += " Not met: " + "; ".join(f"{r.finding()} ({r.target})" for r in short) + "."
    return "\n".join([*lines, "", told])


def _study(rows: Sequence[StudyRow], start: str) -> StudyRow:
    """Return the row of the study whose measure has this start."""
    return next(row for row in rows if row.measure.startswith(start))


def _difference(row: StudyRow) -> str:
    """Format a difference with its interval."""
    if row.difference is None or row.interval is None:
        return "not measured"
    low, high = row.interval
    return f"{row.difference:+.3f} ({low:+.3f} to {high:+.3f})"


WRITERS: dict[str, Callable[[], str]] = {
    "leaderboard": leaderboard,
    "serving": serving,
    "streaming": streaming,
    "noise": noise,
}


def renewed(text: str) -> str:
    """Return a document with its figures updated to the last measurements."""
    return BLOCK.sub(lambda found: f"{found[1]}{WRITERS[found[2]]()}\n{found[3]}", text)


def main() -> None:
    """Update every document."""
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text()
        if renewed(text) != text:
            path.write_text(renewed(text))
            print(f"renewed {name}")


def _kept(rows: Sequence[Row]) -> str:
    """Report how many targets are met, and which are not."""
    short = missed(rows)
    promised = sum(row.met is not None for row in rows)
    told = f"{promised - len(short)} of {promised} targets are met."
    for row in short:
        beside = f" beside the {row.peer_name}" if row.peer_name else ""
        times = f", {row.ratio:.1f} times" if row.ratio else ""
        told += (
            f"\nMissed: {row.measure}{beside}: {shown(row.ours)} {row.unit}{times} ({row.target})."
        )
    return told


def _line(name: str, unit: str, rows: Sequence[Row]) -> str:
    peers = " | ".join(f"{shown(row.peer or 0.0)} {unit}" for row in rows)
    return f"| {name} | {shown(rows[0].ours)} {unit} | {peers} |"


if __name__ == "__main__":
    main()
