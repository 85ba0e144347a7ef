"""Compare lake and predictions with the log: ``python - ends|all``, inside a container.

Prints one JSON object. Everything is read anew and by other means than the product's own state.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from volatility.dev.standing_market import FILE
from volatility.lake.lake import Lake
from volatility.records.prediction import PREDICTION_SCHEMA, Prediction
from volatility.records.tick import TICK_SCHEMA
from volatility.settings import environment
from volatility.streaming.log.interface import PREDICTIONS, TICKS, Message
from volatility.streaming.log.kafka_log import KafkaLog
from volatility.units import SECOND

DATA = Path("data")
Row = dict[str, Any]


def main() -> None:
    log = KafkaLog(environment().kafka_bootstrap_servers)
    found = {topic: sum(log.end_offsets(topic).values()) for topic in (TICKS, PREDICTIONS)}
    if sys.argv[1] == "all":
        found |= ticks(log) | predictions(log)
    log.close()
    print(json.dumps(found))


def ticks(log: KafkaLog) -> Row:
    """Compare every record of the log with its row in the lake."""
    market = msgspec.json.decode((DATA / "ticks" / FILE).read_bytes())
    rows = {}
    twice = 0
    for row in scan(Lake(DATA / "ticks")):
        place = row.pop("partition"), row.pop("offset")
        if row["time"] >= market["stream_ns"]:  # what comes before is the first model's
            twice += place in rows
            rows[place] = row
    captured = Counter(partition for partition, _ in rows)
    missing = different = waiting = holes = 0
    expected: Counter[int] = Counter()
    for message in read(log, TICKS):
        holes += message.offset != expected[message.partition]
        expected[message.partition] = message.offset + 1
        row = rows.pop((message.partition, message.offset), None)
        if row is not None:
            told = dict.fromkeys(TICK_SCHEMA.names) | json.loads(message.value)
            different += row != told
        elif message.offset < captured[message.partition]:
            missing += 1
        else:
            waiting += 1
    return {
        "lake_rows": sum(captured.values()),
        "not_yet_captured": waiting,
        "wrong": {
            "holes in the log": holes,
            "records missing in the lake": missing,
            "rows that differ from the log": different,
            "rows twice in the lake": twice,
            "rows that the log does not hold": len(rows),
        },
    }


def predictions(log: KafkaLog) -> Row:
    """Look for steps without a prediction, and for repetitions that capture kept."""
    told: dict[tuple[str, str], list[int]] = defaultdict(list)
    for message in read(log, PREDICTIONS):
        one = msgspec.json.decode(message.value, type=Prediction)
        told[one.symbol, one.model_version].append(one.time)
    steps = {key: sorted(set(times)) for key, times in told.items()}
    skipped = sum(
        later - earlier != SECOND for times in steps.values() for earlier, later in pairwise(times)
    )
    kept: Counter[tuple[str, str, int]] = Counter()
    if (DATA / "predictions").is_dir():
        for row in scan(Lake(DATA / "predictions", PREDICTION_SCHEMA)):
            kept[row["symbol"], row["model_version"], row["time"]] += 1
    logged = {(*key, time) for key, times in steps.items() for time in times}
    last = {key: max(t for *k, t in kept if tuple(k) == key) for key in {k[:2] for k in kept}}
    lost = {one for one in logged if one[2] <= last.get(one[:2], 0)} - kept.keys()
    return {
        "steps": {
            f"{symbol} by version {version}": len(t) for (symbol, version), t in steps.items()
        },
        "repeated": sum(map(len, told.values())) - len(logged),
        "predictions_captured": len(kept),
        "wrong_predictions": {
            "steps skipped": skipped,
            "predictions twice in the lake": sum(count > 1 for count in kept.values()),
            "predictions missing in the lake": len(lost),
            "predictions that the log does not hold": len(kept.keys() - logged),
        },
    }


def scan(lake: Lake) -> Any:
    """Return the rows of a lake with times in nanoseconds."""
    for symbol in lake.symbols():
        for batch in lake.scan(symbol):
            table = pa.Table.from_batches([batch])
            for name in {"time", "received"}.intersection(table.schema.names):
                place = table.schema.get_field_index(name)
                table = table.set_column(place, name, table.column(name).cast(pa.int64()))
            yield from table.to_pylist()


def read(log: KafkaLog, topic: str) -> list[Message]:
    """Read a topic from its first offset to its end of now."""
    ends = {p: end for p, end in log.end_offsets(topic).items() if end}
    reader = log.reader(topic, dict.fromkeys(ends, 0))
    found: list[Message] = []
    while any(reader.position(p) < end for p, end in ends.items()):
        found += reader.poll(50_000, 1.0)
    reader.close()
    return [m for m in found if m.offset < ends[m.partition]]


main()
