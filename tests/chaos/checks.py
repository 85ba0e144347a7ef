"""Compare lake and predictions with the log, without using the product's own code."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.bundles import small_bundle
from volatility.features.engine import feature_batches
from volatility.features.table import INDEX
from volatility.lake.lake import Lake
from volatility.records.columns import to_table
from volatility.records.tick import TICK_SCHEMA, decode
from volatility.settings import Features
from volatility.streaming.log.interface import PREDICTIONS, TICKS, EventLog, Message

Key = tuple[str, int]
WARM = INDEX["realised_volatility_900s"]
bundle = cache(small_bundle)


def read_all(log: EventLog, topic: str) -> list[Message]:
    """Read a topic from its first offset to its end of now."""
    ends = {p: end for p, end in log.end_offsets(topic).items() if end}
    if not ends:
        return []
    reader = log.reader(topic, dict.fromkeys(ends, 0))
    found: list[Message] = []
    while any(reader.position(p) < end for p, end in ends.items()):
        found += reader.poll(50_000, 1.0)
    reader.close()
    return [m for m in found if m.offset < ends[m.partition]]


def held(lake: Lake) -> dict[tuple[int, int], dict[str, Any]]:
    """Read the lake's rows by (partition, offset); none may be there twice."""
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    if not any(lake.root.glob("symbol=*/date=*/part-*")):
        return rows
    for symbol in lake.symbols():
        last: dict[int, int] = defaultdict(lambda: -1)
        count = 0
        for batch in lake.scan(symbol):
            table = pa.Table.from_batches([batch])
            for name in ("time", "received"):
                if name in table.schema.names:
                    place = table.schema.get_field_index(name)
                    table = table.set_column(place, name, table.column(name).cast(pa.int64()))
            for row in table.to_pylist():
                partition, offset = row.pop("partition"), row.pop("offset")
                assert offset > last[partition], f"{symbol} is out of order at {offset}"
                last[partition] = offset
                assert (partition, offset) not in rows, f"{partition}/{offset} is there twice"
                rows[partition, offset] = row
                count += 1
        assert count == lake.rows(symbol), f"{symbol} has rows in two parts"
    return rows


def check_lake(log: EventLog, folder: Path) -> int:
    """Assert that the lake equals the log, record for record and value by value; count them."""
    rows = held(Lake(folder))
    messages = read_all(log, TICKS)
    for partition, end in log.end_offsets(TICKS).items():
        offsets = sorted(m.offset for m in messages if m.partition == partition)
        assert offsets == list(range(end)), f"the log itself has holes in {partition}"
    for message in messages:
        row = rows.pop((message.partition, message.offset), None)
        assert row is not None, f"{message.partition}/{message.offset} is not in the lake"
        told = json.loads(message.value)
        assert row == dict.fromkeys(TICK_SCHEMA.names) | told, (row, told)
    assert not rows, f"{len(rows)} rows are not in the log, such as {next(iter(rows))}"
    return len(messages)


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
    log: EventLog, versions: dict[str, int] | None = None, rules: Features | None = None
) -> Counter[str]:
    """Assert one prediction for each warm step and version, bit for bit; repetitions are counted.

    ``versions`` has the seed of each version's bundle.
    """
    told: dict[str, dict[Key, set[float]]] = defaultdict(lambda: defaultdict(set))
    counts: Counter[str] = Counter()
    for message in read_all(log, PREDICTIONS):
        one = json.loads(message.value)
        told[one["model_version"]][one["symbol"], one["time"]].add(one["score"])
        counts["predictions"] += 1
    assert told, "there is no prediction"
    for version, seed in (versions or {"1": 0}).items():
        expected, found = expected_scores(log, seed, rules), told.pop(version)
        missing, surplus = expected.keys() - found.keys(), found.keys() - expected.keys()
        assert not missing, f"{len(missing)} of {len(expected)} missing: {sorted(missing)[:20]}"
        assert not surplus, f"{len(surplus)} scored that are no warm steps: {min(surplus)}"
        wrong = [key for key, scores in found.items() if scores != {expected[key]}]
        assert not wrong, f"{len(wrong)} of {len(found)} scores differ, first at {min(wrong)}"
        assert all(map(math.isfinite, expected.values()))
        counts["steps"] += len(expected)
    assert not told, f"unknown versions {list(told)}"
    counts["repeated"] = counts["predictions"] - counts["steps"]
    return counts
