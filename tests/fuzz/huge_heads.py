"""Send heads above the bound: one long line, many lines, a long path, in pieces of any size."""

from __future__ import annotations

import contextlib
import random
import socket

from tests.fuzz.scenario import CLOSED, Scenario, Target

SIZES = (70_000, 200_000, 1_000_000, 5_000_000)
PIECE_BYTES = 16_384
PAUSE_SECONDS = 0.04  # of each attacker after each head


def head(draw: random.Random) -> bytes:
    """Draw a head that is too large."""
    size = draw.choice(SIZES)
    kind = draw.randrange(4)
    if kind == 0:
        return b"POST /predict HTTP/1.1\r\nx: " + b"y" * size
    if kind == 1:
        return b"POST /predict HTTP/1.1\r\n" + b"a: b\r\n" * (size // 6)
    if kind == 2:
        return b"GET /" + b"p" * size
    return b"POST /predict HTTP/1.1\r\n" + b"n" * size


def attack(target: Target, draw: random.Random) -> None:
    """Send such heads, each over a new connection, and read the answers."""
    while not target.stop.wait(PAUSE_SECONDS):
        target.answers[_ask(target.port, head(draw))] += 1
        target.begun.set()


def _ask(port: int, content: bytes) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=120) as line:
        with contextlib.suppress(OSError):  # the service need not read what it has refused
            for start in range(0, len(content), PIECE_BYTES):
                line.sendall(content[start : start + PIECE_BYTES])
        try:
            answer = line.recv(65_536)
        except OSError:
            return CLOSED
    return int(answer[9:12]) if answer else CLOSED


# A client that is still sending when the service closes may lose the answer: TCP resets it.
SCENARIO = Scenario("huge-heads", attack, frozenset({431}), also=frozenset({CLOSED}))
