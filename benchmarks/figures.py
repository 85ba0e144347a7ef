"""Write the measured figures into README and docs, so that none is ever copied by hand.

Run ``python -m benchmarks.figures`` after a benchmark. In each document it renews what stands
between ``<!-- figures: NAME -->`` and ``<!-- end -->``; a test holds that nothing is out of date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.results import Row, missed, read

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
DOCUMENTS = ("README.md", "docs/concepts.md")
BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
USUAL, HELLO = "usual design", "FastAPI hello-world"


def shown(value: float) -> str:
    """Show three digits of a figure.

    >>> shown(5794.0), shown(0.1545), shown(24.91), shown(300.7)
    ('5,790', '0.154', '24.9', '301')
    """
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:.3g}"


def find(rows: Sequence[Row], start: str, end: str = "", peer: str | None = None) -> Row:
    """Give the one measure that begins and ends so, held against that peer if one is named.

    Raises
    ------
    ValueError
        When there is none.
    """
    for row in rows:
        named = row.measure.startswith(start) and row.measure.endswith(end)
        if named and (peer is None or row.peer_name == peer):
            return row
    raise ValueError(f"no measure {start} ... {end} beside {peer}; measure anew")


def serving() -> str:
    """Lay out the latency table."""
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
    """Lay out what the streaming processes take."""
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
    """Lay out what evaluations find in noise."""
    rows = read(RESULTS / "noise.json")
    *ways, distance = rows
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
        f"The placebos of this project's path lie at most {distance.ours:.1f} standard errors from "
        "their base rates; three are allowed."
    )
    return "\n".join([*lines, "", told])


WRITERS: dict[str, Callable[[], str]] = {
    "serving": serving,
    "streaming": streaming,
    "noise": noise,
}


def renewed(text: str) -> str:
    """Give a document with its figures as they were last measured."""
    return BLOCK.sub(lambda found: f"{found[1]}{WRITERS[found[2]]()}\n{found[3]}", text)


def main() -> None:
    """Renew every document."""
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text()
        if renewed(text) != text:
            path.write_text(renewed(text))
            print(f"renewed {name}")


def _kept(rows: Sequence[Row]) -> str:
    """Say how many targets are met, and which ones are not."""
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
