"""Run a real ``bentoml serve`` for a test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 300  # a cold machine compiles the kernels first


@dataclass(frozen=True)
class Running:
    """Hold a client of a running service, its log and its process."""

    client: httpx.Client
    log: Path
    pid: int  # of the process whose children are the workers


@contextmanager
def serve(folder: Path, environment: dict[str, str], target: str = ".") -> Iterator[Running]:
    """Serve from the repository, or a Bento by its tag, on a free port until the block ends."""
    port = _free_port()
    log = folder / "serve.log"
    command = [sys.executable, "-m", "bentoml", "serve", target, "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1"],
            cwd=ROOT if target == "." else folder,
            env={**os.environ, "BENTOML_DO_NOT_TRACK": "True", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0) as client:
            _wait(client, process, log)
            yield Running(client, log, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    _wait_gone(process.pid)


def _wait_gone(group: int) -> None:
    """Wait until no process of the service is left: each must end with it."""
    deadline = time.monotonic() + 30.0
    while True:
        listing = subprocess.run(
            ["ps", "-eo", "pgid=,args="], capture_output=True, text=True, check=True
        )
        left = [line for line in listing.stdout.splitlines() if line.split()[0] == str(group)]
        if not left:
            return
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/livez").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"the service did not start:\n{log.read_text(errors='replace')}")
