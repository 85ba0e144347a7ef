"""Time the way of a tick through the running system: appended, scored, its prediction readable.

The tick that matters is the one that closes a step: the first of its symbol with a time past the
step's. The sender notes when it hands that tick to ``append``; the reader, another process, notes
when ``poll`` has given it the prediction of that symbol and step. Both read ``time.monotonic_ns``,
one clock for all processes of a machine.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.streaming_work import SYMBOLS
from streaming.kafka_log import KafkaLog
from streaming.log import PREDICTIONS, TICKS
from volatility.prediction import Prediction
from volatility.tick import Tick, encode

SECOND_NS = 1_000_000_000
HISTORY_SECONDS = 400  # a score needs 300 s of the trailing baseline
HISTORY_SPACING_NS = SECOND_NS // 4
LEAD_SECONDS = 4  # in which the history is appended and scored
TICKS_A_SECOND = 500
SEED = 7
FLUSH_SECONDS = 30.0
POLL_SECONDS = 0.5
POLL_RECORDS = 1_000

Step = tuple[str, int]  # symbol, time of the step [ns since the epoch]
Stamps = dict[Step, int]  # monotonic clock [ns]


@dataclass(frozen=True)
class Sent:
    """Hold what the sender did.

    Parameters
    ----------
    closing : dict
        When the tick that closes a step was handed to ``append``.
    start_ns : int
        Time of the first tick sent in real time.
    per_second : float
        Ticks sent, over the time it took.
    late_ns : list of int
        How far behind its schedule each tick was sent.
    """

    closing: Stamps
    start_ns: int
    per_second: float
    late_ns: list[int]


class _Prices:
    """Move the midprice of each symbol at random."""

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
        start_ns = (time.time_ns() // SECOND_NS + LEAD_SECONDS) * SECOND_NS
        begin = start_ns - HISTORY_SECONDS * SECOND_NS
        for time_ns in range(begin, start_ns, HISTORY_SPACING_NS):
            for symbol in SYMBOLS:
                writer.append(TICKS, keys[symbol], prices.tick(symbol, time_ns))
        writer.flush(FLUSH_SECONDS)
        if time.time_ns() >= start_ns:
            raise RuntimeError(f"the history took more than {LEAD_SECONDS} s: the broker is slow")

        stamps: Stamps = {}
        late: list[int] = []
        # The schedule is on the monotonic clock: the other one may be set meanwhile.
        start = time.monotonic_ns() + start_ns - time.time_ns()
        passed_ns = 0
        while passed_ns < seconds * SECOND_NS:
            passed_ns += round(chance.expovariate(TICKS_A_SECOND) * SECOND_NS) + 1
            symbol = chance.choice(SYMBOLS)
            value = prices.tick(symbol, start_ns + passed_ns)
            wait = start + passed_ns - time.monotonic_ns()
            if wait > 0:
                time.sleep(wait / SECOND_NS)
            now = time.monotonic_ns()
            writer.append(TICKS, keys[symbol], value)
            late.append(now - start - passed_ns)
            stamps.setdefault((symbol, last_step(start_ns + passed_ns)), now)
        took = (time.monotonic_ns() - start) / SECOND_NS
        writer.flush(FLUSH_SECONDS)
        writer.close()
    return Sent(stamps, start_ns, len(late) / took, late)


def last_step(time_ns: int) -> int:
    """Give the last step that a record of this time closes: it must lie past it.

    >>> last_step(5 * SECOND_NS) == 4 * SECOND_NS, last_step(5 * SECOND_NS + 1) == 5 * SECOND_NS
    (True, True)
    """
    return (time_ns - 1) // SECOND_NS * SECOND_NS


def receive(servers: str, stop: str) -> Stamps:
    """Read predictions until there is a file ``stop``; tell when each came first."""
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


def latencies_ms(sent: Mapping[Step, int], came: Mapping[Step, int], since_ns: int) -> list[float]:
    """Pair each step from ``since_ns`` on with its prediction; give the times between [ms].

    Raises
    ------
    RuntimeError
        When a step has no prediction: a median of what came would hide what did not.
    """
    wanted = [step for step in sent if step[1] >= since_ns]
    missing = [step for step in wanted if step not in came]
    if missing or not wanted:
        example = f", such as {missing[0]}" if missing else ""
        raise RuntimeError(f"{len(missing)} of {len(wanted)} steps have no prediction{example}")
    return [(came[step] - sent[step]) / 1e6 for step in wanted]
