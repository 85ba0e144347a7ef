"""Attack a running service, and compare how another client is served before and meanwhile."""

from __future__ import annotations

import http.client
import os
import random
import statistics
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tests.fuzz.bodies import GROWTH_MIB, faults_of_log, memory_mib
from tests.fuzz.polite import Served, served
from tests.serving import Running
from tests.waiting import until

CLOSED = 0  # the service ended the connection without an answer
ROUNDS = 5
SLOWER = 2.0  # times: the most by which an attack may slow others down
NICE = 10  # attackers have machines of their own; here they must not take the service's
KEY = "polite"  # of the clients that have one, where a scenario asks for a key


@dataclass
class Target:
    """Represent the service under attack, and what it answered to the attackers."""

    port: int
    stop: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    answers: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def ask(
        self, line: http.client.HTTPConnection, method: str, path: str, body: bytes | None,
        headers: dict[str, str],
    ) -> int:  # fmt: skip
        """Send one request and count the answer; return its status."""
        try:
            line.request(method, path, body, headers)
            response = line.getresponse()
            content = response.read()
            status = response.status
            if b"Traceback" in content:
                self.wrong.append(f"traceback: {content[:300]!r}")
        except (OSError, http.client.HTTPException):
            line.close()
            status = CLOSED
        self.answers[status] += 1
        return status

    def line(self) -> http.client.HTTPConnection:
        """Return a connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)


Attack = Callable[[Target, random.Random], None]


@dataclass(frozen=True)
class Scenario:
    """Represent one kind of attack.

    Parameters
    ----------
    name : str
    attack : callable
        Runs in each attacker's thread until ``stop`` is set; sets ``begun`` once in force.
    answers : frozenset of int
        What the API document promises for it. Each must occur, else the attack missed its aim.
    also : frozenset of int
        What may occur besides, such as a connection that ends before its answer is read.
    attackers : int
        Threads.
    seconds : float
        Of one window.
    beside : callable, optional
        What the attackers send before: by default nothing.
    serving : str
        Settings of the service, as in params.yaml.
    key : bool
        Whether the service asks for a key, which only the polite client has.
    """

    name: str
    attack: Attack
    answers: frozenset[int]
    also: frozenset[int] = frozenset()
    attackers: int = 4
    seconds: float = 5.0
    beside: Attack | None = None
    serving: str = "{}"
    key: bool = False


@dataclass(frozen=True)
class Result:
    """Represent what was measured, one line each, and what went wrong."""

    lines: list[str]
    wrong: list[str]


def judge(scenario: Scenario, running: Running, seed: int) -> Result:
    """Attack in several windows, each after one without, and judge the medians."""
    port = running.client.base_url.port
    assert port is not None
    key = KEY if scenario.key else ""
    target = Target(port)
    alone: list[Served] = []
    meanwhile: list[Served] = []
    memory: list[float] = []
    for number in range(ROUNDS + 1):
        with _attacked(scenario, scenario.beside, Target(port), seed + number):
            alone.append(served(port, scenario.seconds, key))
        with _attacked(scenario, scenario.attack, target, seed + number):
            meanwhile.append(served(port, scenario.seconds, key))
        memory.append(memory_mib(running))  # without the bodies that were on their way
    # The first round warms up: memory keeps what one attack takes, and code is loaded.
    before = statistics.median(one.p99_ms for one in alone[1:])
    during = statistics.median(one.p99_ms for one in meanwhile[1:])
    slower = during / before
    wrong = [*target.wrong, *faults_of_log(running.log)]
    wrong += [failure for one in (*alone, *meanwhile) for failure in one.failures]
    for status in sorted(target.answers.keys() - scenario.answers - scenario.also):
        wrong.append(f"{target.answers[status]} answers were {_name(status)}")
    wrong += [f"no answer was {_name(s)}" for s in sorted(scenario.answers - target.answers.keys())]
    if slower > SLOWER:
        wrong.append(f"p99 of others is {slower:.1f} times as long meanwhile")
    if memory[-1] > memory[0] + GROWTH_MIB:
        wrong.append(f"memory grew from {memory[0]:.0f} to {memory[-1]:.0f} MiB")
    if running.client.get("/health").status_code != 200:
        wrong.append("the service does not answer any more")
    counts = ", ".join(f"{n:,} x {_name(status)}" for status, n in sorted(target.answers.items()))
    lines = [
        f"{scenario.name}: {counts}",
        f"others' p99: {before:.2f} ms before, {during:.2f} ms meanwhile ({slower:.2f} times)",
        f"worker: {memory[0]:.0f} MiB after the first attack, {memory[-1]:.0f} MiB after the last",
    ]
    return Result(lines, [f"{scenario.name}: {fault}" for fault in wrong])


def _name(status: int) -> str:
    return "closed" if status == CLOSED else str(status)


@contextmanager
def _attacked(
    scenario: Scenario, attack: Attack | None, target: Target, seed: int
) -> Iterator[None]:
    """Attack until the block ends; it begins once every attacker has begun."""
    if attack is None:
        yield
        return
    target.stop.clear()
    begun = [threading.Event() for _ in range(scenario.attackers)]

    def run(number: int) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        attack(replace(target, begun=begun[number]), random.Random(seed * 1_000 + number))

    with ThreadPoolExecutor(scenario.attackers) as pool:
        running = [pool.submit(run, number) for number in range(scenario.attackers)]
        try:
            until(
                lambda: all(a.is_set() or b.done() for a, b in zip(begun, running, strict=True)),
                f"{scenario.name} is in force",
            )
            yield
        finally:
            target.stop.set()
        for one in running:
            one.result()
