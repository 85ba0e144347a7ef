"""Open many connections and send a head on each, byte by byte, without end (slowloris)."""

from __future__ import annotations

import random
import socket

from tests.fuzz.scenario import CLOSED, Scenario, Target

CONNECTIONS = 250  # of each attacker
PAUSE_SECONDS = 0.5  # between two bytes on a connection
HEAD = b"POST /predict HTTP/1.1\r\nhost: slow\r\nx-a: " + b"b" * 1_000


def attack(target: Target, draw: random.Random) -> None:
    """Keep connections open whose heads never end; replace those that the service ends."""
    lines: list[tuple[socket.socket, int]] = []
    while not target.stop.wait(PAUSE_SECONDS):
        kept = []
        for line, sent in lines:
            if _ended(line):
                target.answers[CLOSED] += 1
                line.close()
            else:
                kept.append((line, sent + _send(line, HEAD[sent : sent + 1])))
        while len(kept) < CONNECTIONS:
            line = socket.create_connection(("127.0.0.1", target.port))
            line.setblocking(False)
            kept.append((line, _send(line, HEAD[: draw.randrange(30)])))
        lines = kept
        target.begun.set()
    for line, _ in lines:
        line.close()


def _send(line: socket.socket, piece: bytes) -> int:
    try:
        return line.send(piece)
    except OSError:  # noticed in the next turn
        return 0


def _ended(line: socket.socket) -> bool:
    try:
        return line.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


# "A head that takes more than 10 s ends the connection": a window is longer than that.
SCENARIO = Scenario("slow-heads", attack, frozenset({CLOSED}), seconds=13.0)
