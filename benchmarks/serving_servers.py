"""Start the servers of the serving benchmark, with one worker each, and measure their memory."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from benchmarks.serving_names import (
    BARE,
    BENTO,
    HELLO,
    OURS,
    PICKLE_FILE,
    PICKLE_VARIABLE,
    USUAL,
    USUAL_ASYNC,
)
from service.current import folder_of
from service.reload import BASE
from volatility.settings import environment

ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
START_SECONDS = 120.0  # maximum; with a cold cache, the kernels are compiled first
STOP_SECONDS = 30.0
LOOK_SECONDS = 0.01
PROBE_SECONDS = 10.0
# The access log is off for all, as it is in ours.
UVICORN = ("-m", "uvicorn", "--workers", "1", "--no-access-log", "--log-level", "warning")
COMMANDS: dict[str, tuple[str, ...]] = {
    OURS: ("-m", "bentoml", "serve", "."),
    USUAL: (*UVICORN, "--factory", "benchmarks.serving_peers:usual"),
    USUAL_ASYNC: (*UVICORN, "--factory", "benchmarks.serving_peers:usual_async"),
    HELLO: (*UVICORN, "--factory", "benchmarks.serving_peers:hello"),
    BENTO: ("-m", "bentoml", "serve", "benchmarks.serving_bento:Hello"),
    BARE: (*UVICORN, "benchmarks.serving_peers:bare"),
}
READY: dict[str, tuple[str, str]] = {
    OURS: ("GET", "/readyz"),
    BENTO: ("GET", "/readyz"),
    BARE: ("POST", "/predict"),
}


@dataclass(frozen=True)
class Server:
    """Represent a running server.

    Parameters
    ----------
    name : str
    port, pid : int
        Port that it listens on; id of its process.
    ready_seconds : float
        From its start to the first 200 of its readiness route.
    """

    name: str
    port: int
    pid: int
    ready_seconds: float

    @property
    def url(self) -> str:
        """URL of its prediction route."""
        return f"http://{HOST}:{self.port}/predict"


@dataclass(frozen=True)
class Memory:
    """Represent the resident memory [MiB] of our service's processes."""

    supervisor: float
    worker: float
    watcher: float


@contextmanager
def serving(name: str, folder: Path) -> Iterator[Server]:
    """Run a server during the block; ours uses the registry of the environment.

    Parameters
    ----------
    name : str
        One of ``COMMANDS``.
    folder : Path
        Folder with the pickle; the log is written to it.

    Raises
    ------
    RuntimeError
        If the server does not become ready.
    """
    port = free_port()
    variables = {
        **os.environ,
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(folder / "bentoml"),
        "MODEL_VARIANT": "ml",
        "SERVICE_WORKERS": "1",
        "VOLATILITY_API_KEY": "",
        PICKLE_VARIABLE: str(folder / PICKLE_FILE),
    }
    log = folder / f"{name}.log"
    command = [sys.executable, *COMMANDS[name], "--host", HOST, "--port", str(port)]
    with log.open("ab") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(process, port, READY.get(name, ("GET", "/docs")), log)
        yield Server(name, port, process.pid, time.monotonic() - began)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):  # its children must not outlive the benchmark
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def laid_out() -> Iterator[None]:
    """Remove the models that our service wrote to the repository after the block."""
    try:
        yield
    finally:
        folder = folder_of(environment(), ROOT / BASE)
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def memory(server: Server) -> Memory:
    """Measure our service's processes: the supervisor, its worker, and the worker's watcher.

    Raises
    ------
    RuntimeError
        If there is not exactly one watcher.
    """
    family = descendants(server.pid, _parents())
    watchers = [pid for pid in family if "service.watcher" in _proc(pid, "cmdline")]
    if len(watchers) != 1:
        raise RuntimeError(f"our service has {len(watchers)} watchers, not one")
    (watcher,) = watchers
    return Memory(*(_resident_mib(p) for p in (server.pid, _parents()[watcher], watcher)))


def descendants(pid: int, parents: dict[int, int]) -> list[int]:
    """Return the ids of all descendants of a process.

    >>> descendants(1, {2: 1, 3: 2, 4: 9})
    [2, 3]
    """
    found = [child for child, parent in parents.items() if parent == pid]
    return found + [more for child in found for more in descendants(child, parents)]


def _parents() -> dict[int, int]:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    found = {pid: re.search(r"^PPid:\s+(\d+)", _proc(pid, "status"), re.MULTILINE) for pid in pids}
    return {pid: int(match[1]) for pid, match in found.items() if match}


def _resident_mib(pid: int) -> float:
    match = re.search(r"^VmRSS:\s+(\d+) kB", _proc(pid, "status"), re.MULTILINE)
    if match is None:
        raise RuntimeError(f"process {pid} has ended")
    return int(match[1]) / 1024


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:  # it has ended in the meantime
        return ""


def _wait(process: subprocess.Popen[bytes], port: int, route: tuple[str, str], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = HTTPConnection(HOST, port, timeout=PROBE_SECONDS)
        try:
            method, path = route
            connection.request(method, path)
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(LOOK_SECONDS)
    text = log.read_text(errors="replace")[-500:]
    raise RuntimeError(f"{log.stem} did not start: {text}")
