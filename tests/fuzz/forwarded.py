"""Claim another address in every request, to evade the rate limit or to use up others' share."""

from __future__ import annotations

import random
import time

from tests.fuzz.polite import BODY, PER_SECOND
from tests.fuzz.scenario import Scenario, Target

LIMIT = PER_SECOND * 3 // 2  # per second: the polite client stays below it
NAMES = (
    "X-Forwarded-For", "x-forwarded-for", "X-FORWARDED-FOR", "Forwarded", "X-Real-IP",
    "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Originating-IP", "Via",
)  # fmt: skip
PAUSE_SECONDS = 0.001


def headers(draw: random.Random) -> dict[str, str]:
    """Draw headers that claim an address, in one of the ways that proxies write it."""
    address = ".".join(str(draw.randrange(1, 255)) for _ in range(4))
    value = draw.choice(
        [address, f"{address}, 127.0.0.1", f"127.0.0.1, {address}", f'for="{address}";by=127.0.0.1',
         f"[2001:db8::{draw.randrange(9999)}]:80", "127.0.0.1", "unknown", "," * 50, "é", ""]
    )  # fmt: skip
    wrong = {"authorization": f"Bearer {draw.random()}"} if draw.random() < 0.5 else {}
    return {draw.choice(NAMES): value, draw.choice(NAMES): address, **wrong}


def attack(target: Target, draw: random.Random) -> None:
    """Ask without the key; what the limit does not stop is refused for the key."""
    line = target.line()
    began, seen = time.monotonic(), 0
    while not target.stop.wait(PAUSE_SECONDS):
        status = target.ask(line, "POST", "/predict", BODY, headers(draw))
        seen += status == 401
        target.begun.set()
    line.close()
    # The limit counts by the second of the clock, so one more than has passed may be touched.
    most = LIMIT * (int(time.monotonic() - began) + 2)
    if seen > most:
        target.wrong.append(f"{seen} requests passed a limit of {most}")


SCENARIO = Scenario(
    "forwarded", attack, frozenset({401, 429}), attackers=1,
    serving=f"{{rate_limit: {LIMIT}/second}}", key=True,
)  # fmt: skip
