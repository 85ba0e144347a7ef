"""Compare lake and predictions with the log, without using the product's own code."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bundles import small_bundle
from volatility.features.engine import feature_batches
from volatility.features.table import INDEX
from volatility.lake.lake import Lake
from volatility.records.columns import to_table
from volatility.records.tick import TICK_SCHEMA, decode
from volatility.settings import Features
from volatility.streaming.log.interface import DEAD_LETTER, PREDICTIONS, TICKS, EventLog, Message

Key = tuple[str, int]
Place = tuple[int, int]  # partition, offset
WARM = INDEX["realised_volatility_900s"]
bundle = cache(small_bundle)


def read_all(log: EventLog, topic: str) -> list[Message]:
    """Read a topic from the first offset that it keeps to its end of now."""
    starts = log.start_offsets(topic)
    ends = {p: end for p, end in log.end_offsets(topic).items() if end > starts[p]}
    if not ends:
        return []
    reader = log.reader(topic, {p: starts[p] for p in ends})
    found: list[Message] = []
    while any(reader.position(p) < end for p, end in ends.items()):
        found += reader.poll(50_000, 1.0)
    reader.close()
    return [m for m in found if m.offset < ends[m.partition]]


def held(lake: Lake) -> dict[Place, dict[str, Any]]:
    """Read the lake's rows by (partition, offset); none may be there twice."""
    rows: dict[Place, dict[str, Any]] = {}
    if not any(lake.root.glob("symbol=*/date=*/part-*")):
        return rows
    for symbol in lake.symbols():
        last: dict[int, int] = defaultdict(lambda: -1)
        count = 0
        for batch in lake.scan(symbol):
            for row in _rows(pa.Table.from_batches([batch])):
                partition, offset = row.pop("partition"), row.pop("offset")
                assert offset > last[partition], f"{symbol} is out of order at {offset}"
                last[partition] = offset
                assert (partition, offset) not in rows, f"{partition}/{offset} is there twice"
                rows[partition, offset] = row
                count += 1
        assert count == lake.rows(symbol), f"{symbol} has rows in two parts"
    return rows


def held_of(folder: Path, source: str) -> dict[Place, dict[str, Any]]:
    """Read the lake's rows of one generation of the topic, in files alone."""
    rows: dict[Place, dict[str, Any]] = {}
    for path in folder.glob(f"symbol=*/date=*/part-{source}-*.parquet"):
        for row in _rows(pq.read_table(path, partitioning=None)):
            place = row.pop("partition"), row.pop("offset")
            assert place not in rows, f"{place} is there twice"
            rows[place] = row
    return rows


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    for name in ("time", "received"):
        if name in table.schema.names:
            column = table.schema.get_field_index(name)
            table = table.set_column(column, name, table.column(name).cast(pa.int64()))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def buried(log: EventLog) -> dict[Place, str]:
    """Read the dead letters of this generation of ticks: where each was, and why.

    What ingest rejected was never in the log of ticks, and is not among them.
    """
    if not log.partitions(DEAD_LETTER):
        return {}
    found: dict[Place, str] = {}
    source = f"{TICKS}.{log.generation(TICKS)}"
    for message in read_all(log, DEAD_LETTER):
        headers = dict(message.headers)
        if "source" not in headers:
            continue
        topic, partition, offset = headers["source"].decode().split("/")
        if topic == source:
            found[int(partition), int(offset)] = headers["reason"].decode()
    return found


def check_lake(
    log: EventLog,
    folder: Path,
    *,
    rejected: int = 0,
    holes: bool = False,
    rows: dict[Place, dict[str, Any]] | None = None,
) -> int:
    """Assert that the lake equals the log, record for record and value by value; count them.

    Whatever else was appended must be told: so many rejected records among the dead letters, and
    what the log has deleted in the ledger. ``holes`` are those of transactions. ``rows`` are the
    lake's, if not all of them are of this log.
    """
    rows = held(Lake(folder)) if rows is None else rows
    messages, starts, dead = read_all(log, TICKS), log.start_offsets(TICKS), buried(log)
    assert len(dead) == rejected, f"{len(dead)} dead letters instead of {rejected}"
    for partition, end in log.end_offsets(TICKS).items():
        offsets = sorted(m.offset for m in messages if m.partition == partition)
        whole = list(range(starts[partition], end))
        assert holes or offsets == whole, f"the log itself has holes in {partition}"
    for message in messages:
        place = message.partition, message.offset
        row = rows.pop(place, None)
        assert (row is None) == (place in dead), f"{place} is in the lake: {row is not None}"
        if row is not None:
            told = json.loads(message.value)
            assert row == dict.fromkeys(TICK_SCHEMA.names) | told, (row, told)
    surplus = [place for place in rows if place[1] >= starts[place[0]]]
    assert not surplus, f"{len(surplus)} rows are not in the log, such as {surplus[0]}"
    told_gone = deleted(folder)
    for partition, start in starts.items():
        gone = set(range(start)) - {offset for p, offset in rows if p == partition}
        gone -= {offset for p, offset in told_gone if p == partition}
        assert not gone, f"{len(gone)} deleted of {partition}, not told: {min(gone)}..{max(gone)}"
    return len(messages)


def deleted(folder: Path) -> set[Place]:
    """Read from the ledger which records were deleted before they were captured."""
    return {
        (gap.detail["partition"], offset)
        for gap in Lake(folder).gaps()
        if gap.reason == "deleted before capture"
        for offset in range(gap.detail["offsets"][0], gap.detail["offsets"][1] + 1)
    }


def lake_scores(folder: Path, seed: int = 0, rules: Features | None = None) -> dict[Key, float]:
    """Score every warm step of a lake by the batch path."""
    lake = Lake(folder)
    found: dict[Key, float] = {}
    for symbol in lake.symbols():
        times, rows = batch_rows(lake.scan(symbol), rules)
        place = np.repeat(bundle(seed).places([symbol]), len(rows))
        scores = bundle(seed).score(rows, place).tolist() if len(rows) else []
        found |= {(symbol, time): one for time, one in zip(times, scores, strict=True)}
    return found


def expected_scores(
    log: EventLog, seed: int = 0, rules: Features | None = None
) -> dict[Key, float]:
    """Score every warm step of the log by the batch path."""
    streams: dict[str, list[Any]] = defaultdict(list)
    for message in sorted(read_all(log, TICKS), key=lambda m: (m.partition, m.offset)):
        record = decode(message.value)
        streams[record.symbol].append(record)
    found: dict[Key, float] = {}
    for symbol, records in streams.items():
        batches = to_table(records, 0, range(len(records))).combine_chunks().to_batches()
        times, rows = batch_rows(batches, rules)
        place = np.repeat(bundle(seed).places([symbol]), len(rows))
        scores = bundle(seed).score(rows, place).tolist() if len(rows) else []
        found |= {(symbol, time): one for time, one in zip(times, scores, strict=True)}
    return found


def batch_rows(
    batches: Iterable[pa.RecordBatch], rules: Features | None = None
) -> tuple[list[int], np.ndarray]:
    """Return the warm steps of one symbol and their feature rows, computed by the batch path."""
    found = [
        (time.copy(), rows.copy()) for time, rows in feature_batches(batches, rules or Features())
    ]
    times = np.concatenate([time for time, _ in found]) if found else np.empty(0, np.int64)
    rows = np.concatenate([rows for _, rows in found]) if found else np.empty((0, len(INDEX)))
    warm = ~np.isnan(rows[:, WARM])
    return times[warm].tolist(), rows[warm]


def check_predictions(
    log: EventLog,
    versions: dict[str, int] | None = None,
    rules: Features | None = None,
    *,
    lake: Path | None = None,
    without: Callable[[Key], bool] = lambda _: False,
    held_back: Callable[[Key], bool] = lambda _: False,
) -> Counter[str]:
    """Assert one prediction for each warm step and version, bit for bit; repetitions are counted.

    Parameters
    ----------
    versions
        The seed of each version's bundle.
    lake
        Take the steps from this lake, which was compared with the log, and not from the log.
    without
        Steps on which lake and stream may differ, because the lake lacks what was deleted.
    held_back
        Steps whose prediction may be held back.
    """
    told: dict[str, dict[Key, set[float]]] = defaultdict(lambda: defaultdict(set))
    counts: Counter[str] = Counter()
    times: Counter[tuple[str, str, int]] = Counter()
    for message in read_all(log, PREDICTIONS):
        one = json.loads(message.value)
        told[one["model_version"]][one["symbol"], one["time"]].add(one["score"])
        times[one["model_version"], one["symbol"], one["time"]] += 1
        counts["predictions"] += 1
    assert told, "there is no prediction"
    for version, seed in (versions or {"1": 0}).items():
        expected = lake_scores(lake, seed, rules) if lake else expected_scores(log, seed, rules)
        expected = {key: one for key, one in expected.items() if not without(key)}
        found = {key: ones for key, ones in told.pop(version).items() if not without(key)}
        late = [key for key in expected.keys() - found.keys() if held_back(key)]
        for key in late:
            del expected[key]
            counts["held back"] += 1
        missing, surplus = expected.keys() - found.keys(), found.keys() - expected.keys()
        assert not missing, f"{len(missing)} of {len(expected)} missing: {sorted(missing)[:20]}"
        assert not surplus, f"{len(surplus)} scored that are no warm steps: {min(surplus)}"
        wrong = [key for key, scores in found.items() if scores != {expected[key]}]
        assert not wrong, f"{len(wrong)} of {len(found)} scores differ, first at {min(wrong)}"
        assert all(map(math.isfinite, expected.values()))
        counts["steps"] += len(expected)
        counts["repeated"] += sum(times[version, *key] - 1 for key in found)
    assert not told, f"unknown versions {list(told)}"
    return counts
