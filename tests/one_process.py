"""Run ``volatility live`` for a test: start it, kill it, and read what it has left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa

from tests.brokers import free_ports
from tests.waiting import until
from volatility.lake import Lake
from volatility.records import PREDICTION_SCHEMA

SYMBOLS = ("BTC-USD", "ETH-USD")
# When it was said is the one thing that another run says differently.
SAID = [name for name in PREDICTION_SCHEMA.names if name not in ("said_at", "partition")]


@dataclass
class OneProcess:
    """Represent a process that forecasts, and its folder.

    Parameters
    ----------
    folder : Path
    source : sequence of str
        Options of the command.
    """

    folder: Path
    source: Sequence[str]
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of the service."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """Output of all its runs."""
        return self.folder / "live.log"

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it is ready."""
        store = f"sqlite:///{self.folder / 'mlflow.db'}"
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "volatility.cli", "live", "--port", str(self.port),
                 "--data", str(self.folder / "data"), *self.source],
                cwd=self.folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "MLFLOW_TRACKING_URI": os.environ.get("LIVE_STORE", store)},
            )  # fmt: skip
        if wait:
            self.ready()

    def ready(self) -> None:
        """Wait until it answers."""

        def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text(errors="replace")
            return httpx.get(f"{self.url}/readyz").status_code == 200

        until(answers, "the process is ready", details=self.log.read_text)

    def get(self, path: str) -> Any:
        """Return the JSON of an answer."""
        response = httpx.get(self.url + path, timeout=60.0)
        assert response.status_code == 200, response.text
        return response.json()

    def kill(self) -> None:
        """Kill it, as the system does that is out of memory."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        self._end(signal.SIGINT)

    def _end(self, number: int) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(number)
            self.process.wait()
            self.process = None

    def ticks(self, symbol: str) -> list[dict[str, Any]]:
        """Return the symbol's ticks in its lake, without their places in the log."""
        return rows(Lake(self.folder / "data" / "ticks"), symbol)

    def said(self, symbol: str) -> list[dict[str, Any]]:
        """Return the symbol's predictions in its lake, without the time when they were said."""
        lake = Lake(self.folder / "data" / "predictions", PREDICTION_SCHEMA)
        return rows(lake, symbol, SAID) if lake.exists() else []


def rows(lake: Lake, symbol: str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return a symbol's rows of a lake, in order."""
    batches = list(lake.scan(symbol, columns))
    table = pa.Table.from_batches(batches)
    if columns is None:
        table = table.drop_columns(["partition", "offset"])
    return table.to_pylist()
