"""Hold ten thousand connections open, some silent, some after a request."""

from __future__ import annotations

import random
import resource
import select
import socket

from tests.fuzz.polite import BODY
from tests.fuzz.scenario import CLOSED, Scenario, Target

CONNECTIONS = 10_000  # of all attackers
ATTACKERS = 4
SPARE_FILES = 500
REQUEST = b"POST /predict HTTP/1.1\r\nhost: idle\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
WAIT_SECONDS = 0.1
REPLACED = 5  # connections of each attacker in that time, lest it be a flood of new ones


def raise_limit() -> None:
    """Raise the limit of open files to what the attackers need.

    Raises
    ------
    OSError
        If the system does not let this process open as many.
    """
    needed = CONNECTIONS + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise OSError(
                f"{CONNECTIONS:,} connections need {needed:,} open files, and the hard limit is "
                f"{hard:,}: raise it (`ulimit -Hn {needed}` as root) or choose other scenarios"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def attack(target: Target, draw: random.Random) -> None:
    """Hold a share of the connections; replace those that the service ends."""
    raise_limit()
    poll = select.poll()
    lines: dict[int, socket.socket] = {}
    share = CONNECTIONS // ATTACKERS
    try:
        while not target.begun.is_set() or not target.stop.wait(WAIT_SECONDS):
            wanted = share - len(lines)
            for _ in range(min(wanted, REPLACED) if target.begun.is_set() else wanted):
                line = socket.create_connection(("127.0.0.1", target.port), timeout=120)
                lines[line.fileno()] = line
                poll.register(line, select.POLLIN)
                if draw.random() < 0.5:
                    line.sendall(REQUEST)
            target.begun.set()
            for number, _ in poll.poll(0):
                if _ended(lines[number], target):
                    poll.unregister(number)
                    lines.pop(number).close()
                    target.answers[CLOSED] += 1
    finally:
        for line in lines.values():
            line.close()


def _ended(line: socket.socket, target: Target) -> bool:
    """Read what has come: answers are counted; return whether the connection has ended."""
    try:
        content = line.recv(65_536)
    except OSError:
        return True
    if content:
        target.answers[int(content[9:12])] += 1
    return not content


# Beyond serving.max_connections (2,048) those idle longest are closed, so most of them are.
SCENARIO = Scenario("idle", attack, frozenset({200, CLOSED}), attackers=ATTACKERS)
