"""Send mutated bodies to a running service, and hold it to what it promises of bad input."""

from __future__ import annotations

import http.client
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.mutate import big, mutated
from tests.serving import Running

ROUTES = ("/predict", "/predict", "/predict?explain=true", "/predict/ticks")
ALLOWED = {200, 400, 413, 422}
CONNECTIONS = 4
LONGEST_ERROR = 500  # characters
WARM_UP_BIG = 240  # bodies of 10 MB before memory counts
WARM_UP = 60_000  # at most so many others: BentoML keeps a request's timer until it would ring
GROWTH_MIB = 16.0
RECONNECT_EVERY = 100

Make = Callable[[random.Random, str], bytes]


@dataclass(frozen=True)
class Sent:
    """Represent how bodies were answered, and the workers' memory [MiB] before and after."""

    statuses: Counter[int]
    wrong: list[str]
    before_mib: float
    after_mib: float

    @property
    def flat(self) -> bool:
        """Whether memory stayed flat."""
        return self.after_mib <= self.before_mib + GROWTH_MIB


def send(running: Running, count: int, seed: int) -> Sent:
    """Send ``count`` mutated bodies over several connections.

    Some go first and do not count: what memory holds after them is what it may hold.
    """
    wrong: list[str] = []
    _all(running, WARM_UP_BIG, seed, big, wrong)
    _all(running, min(WARM_UP, count), seed + 1, mutated, wrong)
    before = memory_mib(running)
    statuses = _all(running, count, seed, mutated, wrong)
    return Sent(statuses, wrong, before, memory_mib(running))


def _all(running: Running, count: int, seed: int, make: Make, wrong: list[str]) -> Counter[int]:
    """Send so many bodies; count the statuses."""
    port = running.client.base_url.port
    assert port is not None

    def talk(number: int) -> Counter[int]:
        draw = random.Random(seed * CONNECTIONS + number)
        found: Counter[int] = Counter()
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        for turn in range(number, count, CONNECTIONS):
            if draw.randrange(RECONNECT_EVERY) == 0:
                line.close()  # the next request opens it again
            route = ROUTES[turn // CONNECTIONS % len(ROUTES)]
            found[_ask(line, route, make(draw, route), wrong)] += 1
        line.close()
        return found

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return sum(pool.map(talk, range(CONNECTIONS)), Counter())


def _ask(line: http.client.HTTPConnection, route: str, body: bytes, wrong: list[str]) -> int:
    try:
        line.request("POST", route, body, {"content-type": "application/json"})
        response = line.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        wrong.append(f"{error!r} after {body[:80]!r} ({len(body)} bytes)")
        line.close()
        return 0
    fault = _fault(response.status, content)
    if fault:
        wrong.append(f"{fault}: {response.status} {content[:200]!r} after {body[:80]!r}")
    return response.status


def _fault(status: int, content: bytes) -> str | None:
    if status not in ALLOWED:
        return "status"
    if b"Traceback" in content or b"site-packages" in content:
        return "traceback"
    answer = json.loads(content)
    if status == 200:
        whole = all(0.0 <= score <= 1.0 for score in answer["scores"])
        return None if whole and answer["scores"] else "scores"
    if set(answer) != {"error", "row", "field"}:
        return "form of the error"
    text = answer["error"]
    return None if "\n" not in text and 0 < len(text) <= LONGEST_ERROR else "text of the error"


def faults_of_log(log: Path) -> list[str]:
    """Return the lines of the service's log that must not be there."""
    lines = log.read_text(errors="replace").splitlines()
    return [line[:300] for line in lines if "Traceback" in line or '"ERROR"' in line]


def memory_mib(running: Running) -> float:
    """Return the resident memory of the largest worker [MiB]."""
    sizes = []
    for pid in _family(running.pid):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # it has ended
            continue
        resident = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        if "worker.service" in command and resident:
            sizes.append(int(resident[1]) / 1024)
    return max(sizes)


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children]
