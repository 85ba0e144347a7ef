"""Run a real ``bentoml serve`` for a test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.brokers import free_ports
from tests.waiting import PATIENCE_SECONDS, until

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
        end(process)
    _wait_gone(process.pid)


@contextmanager
def asking(client: httpx.Client, rows: object, pause_seconds: float) -> Iterator[None]:
    """Keep sending requests, of each kind that the service counts, until the block ends."""
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=client.base_url, timeout=60.0) as own:
            own.get("/nowhere")
            while not stop.wait(pause_seconds):
                own.post("/predict", json=rows)
                own.post("/predict?explain=true", json=rows)
                own.post("/predict", json={"rows": []})

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group of its own; if it does not end, kill the group."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


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
