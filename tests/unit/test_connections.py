"""A worker's connections fit into its open files, and running out of files does not end it."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys

import httpx
import pytest

from service import connections
from tests.brokers import free_ports
from tests.waiting import until
from volatility.settings import Settings

SERVER = """
import resource, sys
import uvicorn
from service import connections
from service.front import Front
from service.http import application
from service.protocol import protocol
from service.state import State
from volatility.settings import Settings
port, files, bounded = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
state = State(Settings())
if bounded:
    state.max_connections = connections.affordable(2048)
uvicorn.run(Front(application(state), state), port=port, http=protocol(state), log_config=None)
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "found", "raised"),
    [
        (20_000, 20_000, 2048, 2048, None),
        (1024, 1_048_576, 2048, 2048, 2 * 2048 + 256),
        (1024, -1, 2048, 2048, 2 * 2048 + 256),
        (1024, 4096, 2048, 2048, 4096),
        (1024, 1024, 2048, 512, 1024),
        (64, 64, 2048, 32, 64),
        (-1, -1, 100_000, 100_000, None),
        (1024, 2048, 10, 10, None),
    ],
)
def test_the_connections_fit_into_the_files_that_may_be_open(
    monkeypatch, soft, hard, wanted, found, raised
):
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: given.append(limits))
    assert connections.affordable(wanted) == found
    assert given == ([] if raised is None else [(raised, hard)])


@pytest.mark.slow
@pytest.mark.parametrize("bounded", [0, 1])
def test_more_connections_than_files_do_not_end_the_worker(bounded):
    files = 400
    (port,) = free_ports(1)
    command = [sys.executable, "-c", SERVER, str(port), str(files), str(bounded)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    opened: list[socket.socket] = []
    address = f"http://127.0.0.1:{port}/docs.json"

    def answers() -> bool:
        assert process.poll() is None
        return httpx.get(address, timeout=60.0).status_code == 200

    try:
        until(answers, "the worker answers")
        for _ in range(2 * files):
            one = socket.create_connection(("127.0.0.1", port), timeout=60.0)
            opened.append(one)
        if not bounded:  # no file is left for a new one
            for one in opened:
                one.close()
        until(answers, "the worker still answers")
    finally:
        for one in opened:
            one.close()
        process.terminate()
        process.wait(60)
    assert Settings().serving.max_connections == 2048
