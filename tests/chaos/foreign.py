"""Let other producers in: every codec, and transactions that end well, badly, or never."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from kafka import KafkaProducer

from tests.chaos import kills, market
from tests.chaos.checks import held
from tests.chaos.place import clear
from tests.chaos.processes import running
from tests.waiting import until
from volatility.lake.lake import Lake
from volatility.records.tick import Record, encode
from volatility.streaming.log.interface import PREDICTIONS, TICKS
from volatility.streaming.log.kafka_log import KafkaLog
from volatility.units import SECOND

CODECS = ("gzip", "snappy", "lz4", "zstd", None)
ROUNDS, BATCH = 6, 200
ABANDONED_MS = 3_000  # after which the broker aborts a transaction whose producer has died


def foreign(servers: str, folder: Path) -> dict[str, int]:
    """Mix the batches of other producers with those of ingest."""
    clear(servers)
    with closing(KafkaLog(servers)) as log:
        log.create(TICKS, market.PARTITIONS)
        with (
            running(folder / "load.txt", kills.loading(servers, folder, 300)) as ticks,
            running(folder / "capture.txt", kills.capturing(servers, folder)) as captured,
            running(folder / "score.txt", kills.scoring(servers)) as scored,
        ):
            until(lambda: kills.total(log) > 500, "the load")
            sent = compressed(servers)
            committed, aborted = transactions(servers)
            before = kills.total(log, PREDICTIONS)
            until(lambda: kills.total(log, PREDICTIONS) > before + 200, "predictions after them")
            for child in (ticks, captured, scored):
                child.stop()
        records = kills.finish_lake(log, folder, holes=True)
        found = [json.dumps(row, sort_keys=True) for row in held(Lake(folder / "lake")).values()]
        names = Lake(folder / "lake").schema.names
        wanted = {_row(value, names) for value in (*sent, *committed)}
        assert wanted <= set(found), f"{len(wanted - set(found))} committed ones are missing"
        assert not {_row(value, names) for value in aborted} & set(found), "aborted ones are there"
        assert len(found) == records
        return {
            "other codecs": len(sent),
            "committed": len(committed),
            "aborted": len(aborted),
            "records": records,
            **kills.finish_predictions(log, lake=folder / "lake"),
        }


def compressed(servers: str) -> list[bytes]:
    """Append with each codec, a symbol for each; return the values."""
    sent: list[bytes] = []
    for codec in CODECS:
        name = f"{codec or 'none'}".upper()
        producer = KafkaProducer(bootstrap_servers=servers, compression_type=codec, linger_ms=20)
        sent += [_send(producer, record) for record in _records(name, ROUNDS * BATCH)]
        producer.flush()
        producer.close()
    return sent


def transactions(servers: str) -> tuple[list[bytes], list[bytes]]:
    """Commit and abort in turn, with each codec, and die amid the last; return the values."""
    committed: list[bytes] = []
    aborted: list[bytes] = []
    for codec in CODECS:
        producer = KafkaProducer(
            bootstrap_servers=servers,
            transactional_id=f"elsewhere-{codec}",
            transaction_timeout_ms=ABANDONED_MS,
            compression_type=codec,
        )
        producer.init_transactions()
        records = _records(f"T-{codec or 'none'}".upper(), 2 * ROUNDS * BATCH)
        for number in range(2 * ROUNDS):
            producer.begin_transaction()
            values = [_send(producer, record) for record in islice(records, BATCH)]
            producer.flush()
            if number == 2 * ROUNDS - 1 and codec is None:
                aborted += values  # never ended: the broker aborts it after a while
            elif number % 2:
                producer.abort_transaction()
                aborted += values
            else:
                producer.commit_transaction()
                committed += values
        producer.close(timeout=0 if codec is None else None)
    return committed, aborted


def _records(symbol: str, count: int) -> Iterator[Record]:
    return islice(market.records(len(symbol), (symbol,), step_ns=SECOND // 2), count)


def _send(producer: KafkaProducer, record: Record) -> bytes:
    value = encode(record)
    producer.send(TICKS, value, key=record.symbol.encode())
    return value


def _row(value: bytes, names: list[str]) -> str:
    """Return a record as its row of the lake, without its place."""
    columns = [name for name in names if name not in ("partition", "offset")]
    return json.dumps(dict.fromkeys(columns) | json.loads(value), sort_keys=True)
