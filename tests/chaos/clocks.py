"""Let the clock of one symbol jump: the others do not notice, and it recovers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from tests.chaos import kills, market
from tests.chaos.checks import buried, read_all
from tests.chaos.place import clear
from tests.chaos.processes import running
from tests.waiting import until
from volatility.records.tick import Record, encode
from volatility.streaming.log.interface import PREDICTIONS, TICKS, Writer
from volatility.streaming.log.kafka_log import KafkaLog
from volatility.units import SECOND

VICTIM = market.SYMBOLS[1]
HOUR, DAY, YEARS = 3_600 * SECOND, 86_400 * SECOND, 60 * 365 * 86_400 * SECOND
JUMPS = (HOUR, -HOUR, DAY, -DAY, YEARS)
HISTORY_NS = 700 * SECOND  # enough to be warm
RECORDS = 12  # of the symbol, with the wrong time


def jumps(servers: str, folder: Path) -> dict[str, int]:
    """Jump there and back, with and without a time of arrival in the record."""
    clear(servers)
    with closing(KafkaLog(servers)) as log:
        log.create(TICKS, market.PARTITIONS)
        feed = Feed(log.writer())
        with (
            running(folder / "capture.txt", kills.capturing(servers, folder)) as captured,
            running(folder / "score.txt", kills.scoring(servers)) as scored,
        ):
            feed.until(lambda: kills.total(log, PREDICTIONS) > 0)
            ahead = 0
            for known in (False, True):
                for jump in JUMPS:
                    feed.jump(jump, known, RECORDS)
                    ahead += RECORDS if jump > 0 else 0
                    back = time.time_ns()
                    for symbol in market.SYMBOLS:
                        feed.until(lambda: newest(log, symbol) > back)  # noqa: B023
            captured.stop()
            scored.stop()
        records = kills.finish_lake(log, folder, rejected=ahead)
        reasons = set(buried(log).values())
        assert all("60 s after the message arrived" in reason for reason in reasons), reasons
        predictions = kills.finish_predictions(log, lake=folder / "lake")
        return {"jumps": 2 * len(JUMPS), "ahead": ahead, "records": records, **predictions}


class Feed:
    """Append a market that keeps the time of this computer."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._records: Iterator[Record] = market.records(1, start_ns=time.time_ns() - HISTORY_NS)

    def until(self, condition: Callable[[], object]) -> None:
        """Go on until a condition holds; it is asked four times a second."""

        def met() -> bool:
            due = time.time_ns() + SECOND // 4
            while (record := next(self._records)).time < due:
                self._send(record, 0, known=False)
            self._writer.flush(60.0)
            time.sleep(max(record.time - time.time_ns(), 0) / SECOND)
            self._send(record, 0, known=False)
            return bool(condition())

        until(met, "predictions of all symbols")

    def jump(self, by: int, known: bool, count: int) -> None:
        """Append so many records of the victim with another time, and all of the others."""
        while count:
            record = next(self._records)
            time.sleep(max(record.time - time.time_ns(), 0) / SECOND)
            victim = record.symbol == VICTIM
            self._send(record, by if victim else 0, known)
            count -= victim
        self._writer.flush(60.0)

    def _send(self, record: Record, by: int, known: bool) -> None:
        received = record.time if known else None
        told = msgspec.structs.replace(record, time=record.time + by, received=received)
        self._writer.append(TICKS, record.symbol.encode(), encode(told))


def newest(log: KafkaLog, symbol: str) -> int:
    """Return the newest step with a prediction of a symbol [ns]."""
    found = (json.loads(message.value) for message in read_all(log, PREDICTIONS))
    return max((one["time"] for one in found if one["symbol"] == symbol), default=0)
