"""Send mutated bodies over several connections, compared with as many connections of valid ones."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.fuzz.bodies import ALLOWED, ROUTES
from tests.fuzz.mutate import mutated, valid_body
from tests.fuzz.scenario import Attack, Scenario, Target

JSON = {"content-type": "application/json"}


def _sending(make: Callable[[random.Random, str], bytes]) -> Attack:
    def attack(target: Target, draw: random.Random) -> None:
        line = target.line()
        while not target.stop.is_set():
            route = draw.choice(ROUTES)
            target.ask(line, "POST", route, make(draw, route), JSON)
            target.begun.set()
        line.close()

    return attack


# Any load slows others down; bad input must not do so more than good input.
SCENARIO = Scenario(
    "flood", _sending(mutated), frozenset(ALLOWED), beside=_sending(valid_body), seconds=10.0
)
