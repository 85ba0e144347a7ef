"""Run a real ``bentoml serve`` for a test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.brokers import free_ports
from tests.waiting import until

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Running:
    """Represent a running service: a client of it, its log and its process."""

    client: httpx.Client
    log: Path
    pid: int  # of the process whose children are the workers


@contextmanager
def serve(folder: Path, environment: dict[str, str], target: str = ".") -> Iterator[Running]:
    """Serve from the repository, or a Bento by its tag, on a free port until the block ends."""
    (port,) = free_ports(1)
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
            await_answer("/livez", client, process, log)
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

    def left() -> list[str]:
        listing = subprocess.run(
            ["ps", "-eo", "pgid=,args="], capture_output=True, text=True, check=True
        )
        return [line for line in listing.stdout.splitlines() if line.split()[0] == str(group)]

    until(lambda: not left(), "every process of the service ends", details=lambda: str(left()))


def await_answer(
    path: str, client: httpx.Client, process: subprocess.Popen[bytes], log: Path
) -> None:
    """Wait until a service that is starting answers a path with 200."""

    def answers() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")
        return client.get(path).status_code == 200

    until(answers, f"the service answers {path}", details=log.read_text)
