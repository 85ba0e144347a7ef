"""Measure the latency from appending a tick to a readable prediction in the running system.

The relevant tick is the one that closes a step: the first of its symbol with a time after the
step. The sender records when it passes that tick to ``append``; the reader, in another process,
records when ``poll`` returns the prediction for that symbol and step. Both read
``time.monotonic_ns``, which all processes of a machine share.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from benchmarks.streaming_work import SYMBOLS
from volatility.records import Prediction, Tick, encode
from volatility.streaming.log import PREDICTIONS, TICKS, KafkaLog
from volatility.units import SECOND

HISTORY_SECONDS = 400  # a score needs 300 s for the trailing baseline
HISTORY_SPACING_NS = SECOND // 4
LEAD_SECONDS = 4  # time to append and score the history
TICKS_A_SECOND = 500
SEED = 7
FLUSH_SECONDS = 30.0
POLL_SECONDS = 0.5
POLL_RECORDS = 1_000

Step = tuple[str, int]  # symbol, time of the step [ns since the epoch]
Stamps = dict[Step, int]  # monotonic clock [ns]


@dataclass(frozen=True)
class Sent:
    """Represent the sender's measurements.

    Parameters
    ----------
    closing : dict
        When the tick that closes each step was passed to ``append``.
    start_ns : int
        Time of the first tick sent in real time.
    per_second : float
        Rate of ticks sent.
    late_ns : list of int
        Delay of each tick relative to its schedule.
    """

    closing: Stamps
    start_ns: int
    per_second: float
    late_ns: list[int]


class _Prices:
    """Simulate the midprice of each symbol as a random walk."""

    def __init__(self) -> None:
        self._random = random.Random(SEED)
        self._middles = dict.fromkeys(SYMBOLS, 100.0)

    def tick(self, symbol: str, time_ns: int) -> bytes:
        self._middles[symbol] *= 1.0 + self._random.gauss(0.0, 2e-5)
        middle = self._middles[symbol]
        bid, ask = middle - 0.01, middle + 0.01
        return encode(Tick(symbol, time_ns, bid, bid, ask, bid_size=1.0, ask_size=2.0))


def send(servers: str, seconds: float) -> Sent:
    """Append a history at once, then ticks in real time: Poisson arrivals of random symbols."""
    chance, prices = random.Random(SEED), _Prices()
    keys = {symbol: symbol.encode() for symbol in SYMBOLS}
    with closing(KafkaLog(servers)) as log:
        writer = log.writer()
        start_ns = (time.time_ns() // SECOND + LEAD_SECONDS) * SECOND
        begin = start_ns - HISTORY_SECONDS * SECOND
        for time_ns in range(begin, start_ns, HISTORY_SPACING_NS):
            for symbol in SYMBOLS:
                writer.append(TICKS, keys[symbol], prices.tick(symbol, time_ns))
        writer.flush(FLUSH_SECONDS)
        if time.time_ns() >= start_ns:
            raise RuntimeError(f"the history took more than {LEAD_SECONDS} s: the broker is slow")

        stamps: Stamps = {}
        late: list[int] = []
        # The schedule uses the monotonic clock, because the wall clock may be adjusted.
        start = time.monotonic_ns() + start_ns - time.time_ns()
        passed_ns = 0
        while passed_ns < seconds * SECOND:
            passed_ns += round(chance.expovariate(TICKS_A_SECOND) * SECOND) + 1
            symbol = chance.choice(SYMBOLS)
            value = prices.tick(symbol, start_ns + passed_ns)
            wait = start + passed_ns - time.monotonic_ns()
            if wait > 0:
                time.sleep(wait / SECOND)
            now = time.monotonic_ns()
            writer.append(TICKS, keys[symbol], value)
            late.append(now - start - passed_ns)
            stamps.setdefault((symbol, last_step(start_ns + passed_ns)), now)
        took = (time.monotonic_ns() - start) / SECOND
        writer.flush(FLUSH_SECONDS)
        writer.close()
    return Sent(stamps, start_ns, len(late) / took, late)


def last_step(time_ns: int) -> int:
    """Return the last step that a record with this time closes; it must be later than the step.

    >>> last_step(5 * SECOND) == 4 * SECOND, last_step(5 * SECOND + 1) == 5 * SECOND
    (True, True)
    """
    return (time_ns - 1) // SECOND * SECOND


def receive(servers: str, stop: str) -> Stamps:
    """Read predictions until the file ``stop`` exists; return when each first arrived."""
    came: list[tuple[int, bytes]] = []
    with closing(KafkaLog(servers)) as log:
        reader = log.reader(PREDICTIONS, log.start_offsets(PREDICTIONS))
        while not Path(stop).exists():
            found = reader.poll(POLL_RECORDS, POLL_SECONDS)
            now = time.monotonic_ns()
            came += [(now, message.value) for message in found]
        reader.close()
    decoder = msgspec.json.Decoder(Prediction)
    stamps: Stamps = {}
    for now, value in came:
        prediction = decoder.decode(value)
        stamps.setdefault((prediction.symbol, prediction.time), now)
    return stamps


def through_broker(servers: str, times: int) -> list[float]:
    """Append one record after another and read each again with kafka-python [ms]."""
    topic = "benchmark.round-trip"
    with closing(KafkaLog(servers)) as log:
        log.create(topic, 1)
    producer = KafkaProducer(bootstrap_servers=servers)
    consumer = KafkaConsumer(bootstrap_servers=servers)
    taken = []
    try:
        at = producer.send(topic, b"").get(FLUSH_SECONDS)
        place = TopicPartition(topic, at.partition)
        consumer.assign([place])
        consumer.seek(place, at.offset + 1)
        consumer.poll(0)
        for _ in range(times):
            began = time.monotonic_ns()
            producer.send(topic, b"x" * 100, partition=at.partition)
            while not consumer.poll(timeout_ms=1000):
                pass
            taken.append((time.monotonic_ns() - began) / 1e6)
    finally:
        consumer.close()
        producer.close()
    return taken


def latencies_ms(sent: Mapping[Step, int], came: Mapping[Step, int], since_ns: int) -> list[float]:
    """Match each step from ``since_ns`` on with its prediction; return the latencies [ms].

    Raises
    ------
    RuntimeError
        If a step has no prediction, because the median of the others would hide that.
    """
    wanted = [step for step in sent if step[1] >= since_ns]
    missing = [step for step in wanted if step not in came]
    if missing or not wanted:
        example = f", such as {missing[0]}" if missing else ""
        raise RuntimeError(f"{len(missing)} of {len(wanted)} steps have no prediction{example}")
    return [(came[step] - sent[step]) / 1e6 for step in wanted]
