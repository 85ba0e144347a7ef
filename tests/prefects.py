"""Run a real Prefect server, and ``pipelines.serve`` with it, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests import waiting
from tests.brokers import free_ports

ROOT = Path(__file__).parents[1]

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_CLI_COLORS": "false",
}


@dataclass
class Process:
    """Represent a process that writes to a log file and can be restarted."""

    command: list[str]
    log: Path
    cwd: Path
    environment: dict[str, str] = field(default_factory=dict)
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.running = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self.running is not None
        return self.running.pid

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def stop(self, seconds: float = 90.0) -> int:
        """Ask it to end; give its exit code."""
        assert self.running is not None
        self.running.send_signal(signal.SIGTERM)
        return self.running.wait(seconds)

    def kill(self) -> None:
        """End it and all its descendants at once."""
        if self.running is not None:
            for left in descendants(self.running.pid):
                _kill(left)
            _kill(self.running.pid)
            self.running.wait()

    def kill_alone(self) -> None:
        """End it at once, and leave its descendants, as the kernel does."""
        _kill(self.pid)
        assert self.running is not None
        self.running.wait()


@contextmanager
def process(
    command: list[str], log: Path, cwd: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run a process until the block ends."""
    made = Process(command, log, cwd, dict(environment or {}))
    made.start()
    try:
        yield made
    finally:
        made.kill()


@dataclass
class Prefect:
    """Represent a Prefect server: its address and its process."""

    url: str
    process: Process

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a client; its own home keeps the user's profiles out."""
        home = str(self.process.cwd / "client")
        return {**QUIET, "PREFECT_API_URL": self.url, "PREFECT_HOME": home}

    def post(self, path: str, **body: object) -> object:
        """Ask a question, again if a busy machine lets it wait too long."""
        answers: list[object] = []

        def ask() -> bool:
            answer = httpx.post(f"{self.url}/{path}", json=body, timeout=60.0)
            if answer.status_code >= 500:  # SQLite is locked for longer than the server waits
                return False
            answers.append(answer.raise_for_status().json())
            return True

        waiting.until(ask, f"the Prefect server answers {path}")
        return answers[0]

    def wait(self) -> None:
        until(self._answers, "the Prefect server answers", self.process)

    def runs(self, flow: str) -> list[dict[str, object]]:
        """List the newest 200 runs of a flow's deployment, oldest first, with their states."""
        found = self.post(
            "flow_runs/filter",
            flows={"name": {"any_": [flow]}},
            sort="START_TIME_DESC",
            limit=200,
        )
        assert isinstance(found, list)
        return found[::-1]

    def ended(self, flow: str, state: str = "COMPLETED") -> list[dict[str, object]]:
        return [run for run in self.runs(flow) if run["state_type"] == state]

    def count(self, flow: str, state: str = "COMPLETED") -> int:
        """Count all runs of a flow that ended in a state."""
        found = self.post(
            "flow_runs/count",
            flows={"name": {"any_": [flow]}},
            flow_runs={"state": {"type": {"any_": [state]}}},
        )
        assert isinstance(found, int)
        return found

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5.0).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def run_prefect(folder: Path, **settings: str) -> Iterator[Prefect]:
    """Start a Prefect server with its data in a folder, as ``make prefect`` does."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    storage = "prefect.server.concurrency.lease_storage.filesystem"
    environment = {
        **QUIET,
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": storage,
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PYTHONPATH": str(ROOT),
        **settings,
    }
    command = [
        *(sys.executable, "-m", "pipelines.server", "--host", "127.0.0.1", "--port", str(port)),
    ]
    with process(command, folder / "prefect.log", folder, environment) as running:
        server = Prefect(f"http://127.0.0.1:{port}/api", running)
        server.wait()
        yield server


def serve_command() -> list[str]:
    return [sys.executable, "-m", "pipelines.serve"]


def until(
    condition: Callable[[], object],
    what: str,
    *watched: Process,
    seconds: float = waiting.PATIENCE_SECONDS,
) -> None:
    """Wait until a condition holds; fail at once if a process it depends on ends before."""

    def ends() -> str:
        return "\n".join(f"--- {p.log.name}\n{p.text()[-3000:]}" for p in watched)

    def holds() -> object:
        dead = [p for p in watched if p.running is not None and p.running.poll() is not None]
        assert not dead, f"ended before {what}\n{ends()}"
        return condition()

    waiting.until(holds, what, seconds, pause_seconds=0.3, details=ends)


def descendants(pid: int) -> list[int]:
    """List the processes that a process began, and theirs, the deepest first."""
    listing = subprocess.run(
        ["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    parents = {int(a): int(b) for a, b in (line.split() for line in listing.stdout.splitlines())}
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        found = level + found
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
