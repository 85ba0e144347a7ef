"""Send tick requests that cost as much as the bounds allow: span, number, size, order."""

from __future__ import annotations

import json
import random
from functools import cache

from service.ticks import MAX_BYTES, MAX_SPAN_SECONDS, MAX_TICKS
from tests.fuzz.scenario import Scenario, Target
from tests.streams import START
from volatility.units import SECOND

PATH = "/predict/ticks?explain=true"
JSON = {"content-type": "application/json"}
SHORT_BYTES = 63 * 1024  # as many as are worth no thread


@cache
def bodies() -> tuple[bytes, ...]:
    """Make the bodies: each is at a bound, or just beyond it."""
    draw = random.Random(1)
    span = MAX_SPAN_SECONDS * SECOND
    whole = [_tick(draw, START + k * span // MAX_TICKS) for k in range(MAX_TICKS)]
    heartbeats = [
        b'{"symbol":"A","time":%d}' % (START + k * span // MAX_TICKS) for k in range(MAX_TICKS)
    ]
    shuffled = draw.sample(whole, len(whole))
    return (
        _body(whole),
        _body(whole[::-1]),  # every tick but the first is late
        _body(shuffled),
        _body(heartbeats),
        _body([whole[0]] * MAX_TICKS),  # duplicates
        _body(whole).replace(b",", b", ").ljust(MAX_BYTES),
        _body([*whole[:-1], b'{"symbol":"A"}']),  # wrong at the very end
        _body([*whole, whole[-1]]),  # one too many
        _body(whole[: SHORT_BYTES // len(whole[0])]),
    )


def attack(target: Target, draw: random.Random) -> None:
    """Send them over one connection, one after the other."""
    made = bodies()
    line = target.line()
    while not target.stop.is_set():
        target.begun.set()
        target.ask(line, "POST", PATH, draw.choice(made), JSON)
    line.close()


def _tick(draw: random.Random, time: int) -> bytes:
    price = draw.uniform(90.0, 110.0)
    tick = {
        "symbol": "A", "time": time, "price": price, "bid": price - 0.01, "ask": price + 0.01,
        "bid_size": draw.random(), "ask_size": draw.random(), "size": draw.random(), "side": "buy",
        "sequence": time // SECOND, "trade_id": time, "received": time,
    }  # fmt: skip
    return json.dumps(tick, separators=(",", ":")).encode()


def _body(ticks: list[bytes]) -> bytes:
    return b'{"ticks":[' + b",".join(ticks) + b"]}"


# Two wait for one process: on a busy machine that takes longer than serving.timeout_seconds.
SCENARIO = Scenario(
    "costly-ticks",
    attack,
    frozenset({200, 413, 422}),
    also=frozenset({504}),
    attackers=2,
    seconds=10.0,
)
