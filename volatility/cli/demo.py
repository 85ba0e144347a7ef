"""Run the full pipeline once: ticks, features, training, evaluation, promotion, drift."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import click

from volatility import stages
from volatility.lake import Lake
from volatility.settings import Settings

FOLDER = Path("data/demo")  # used only by the demo, and emptied on each run
PORT = 3000
RECORDED_SPEED = "60"
READY_SECONDS = 60


def run(settings: Settings, *, ticks: Path | None, serve: bool) -> None:
    """Run every stage on simulated ticks or on recordings; then forecast live and serve."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    paths = stages.Paths(
        ticks=FOLDER / "ticks", features=FOLDER / "features", model=FOLDER / "model"
    )
    if ticks is None:
        rows = stages.simulate_ticks(settings, paths)
    else:
        rows = stages.import_ticks([ticks], paths).rows
    click.echo(f"ticks      {rows:,} records of {', '.join(Lake(paths.ticks).symbols())}")
    stages.run_chain(settings, paths, click.echo)
    if serve:
        symbols = ",".join(Lake(paths.ticks).symbols())
        # Recordings as fast as they warm up in seconds; the simulated market as it continues.
        source = ["simulate"] if ticks is None else ["replay", "--path", str(paths.ticks)]
        pace = [] if ticks is None else ["--speed", RECORDED_SPEED]
        serve_and_ask(
            [sys.executable, "-m", "volatility.cli", "live", "--source", *source, *pace,
             "--symbols", symbols, "--data", str(FOLDER / "live"), "--port", str(PORT)]
        )  # fmt: skip


def bentoml_serve() -> list[str]:
    """Return the command that serves without a market."""
    return [str(Path(sys.executable).with_name("bentoml")), "serve", "--port", str(PORT)]


def serve_and_ask(command: list[str]) -> None:
    """Start a service, send the README's request, print the response, serve until stopped."""
    click.echo(f"serve      http://localhost:{PORT}  (press Ctrl-C to stop)")
    with subprocess.Popen(command) as server:
        try:
            _wait(server)
            body = json.dumps({"rows": [example_row()]})
            click.echo(
                f"\ncurl -s localhost:{PORT}/predict -H 'content-type: application/json' "
                f"-d '{body}'\n{_post(body)}"
            )
            server.wait()
        except KeyboardInterrupt:
            server.send_signal(signal.SIGINT)
            server.wait()


def example_row() -> dict[str, float]:
    """Return the feature row of the README's request."""
    return {
        "midprice": 68000.5,
        "spread": 0.01,
        "trade_intensity": 9,
        "volatility_30s": 0.00006,
        "realised_volatility_60s": 0.00005,
        "realised_volatility_300s": 0.00004,
        "realised_volatility_900s": 0.00003,
        "mean_trade_intensity_900s": 4.5,
    }


def _wait(server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise OSError(f"the service exited with code {server.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/readyz", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise OSError(f"the service was not ready within {READY_SECONDS} s; is port {PORT} free?")


def _post(body: str) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/predict",
        data=body.encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  (our own port)
        return str(answer.read().decode())
