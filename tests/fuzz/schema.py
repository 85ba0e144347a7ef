"""Generate requests from the service's own OpenAPI document, and hold its answers to it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.serving import Running

CONFIG = Path(__file__).with_name("schemathesis.toml")
ROUND = 2_000  # examples of an operation in one run, each run with another seed
LONGEST_OUTPUT = 4_000  # characters
# They answer from a stream of predictions, and this service has no broker.
STREAMED = "^/(forecast|probability)"


@dataclass(frozen=True)
class Generated:
    """Represent how many requests were generated, and the failures that schemathesis found."""

    requests: int
    output: str
    passed: bool


def generate(running: Running, folder: Path, requests: int, seed: int) -> Generated:
    """Run schemathesis with all of its checks, for at least so many requests.

    Raises
    ------
    RuntimeError
        When it could not run.
    """
    total, output, passed = 0, "", True
    while total < requests and passed:
        found, output = _run(running, folder, min(ROUND, requests), seed)
        whole = found["complete"] and not found["failures"] and not found["errors"]
        passed = bool(whole) and found["exit_code"] == 0
        total += found["test_cases"]["generated"]
        seed += 1
    return Generated(total, output[-LONGEST_OUTPUT:], passed)


def _run(running: Running, folder: Path, examples: int, seed: int) -> tuple[Any, str]:
    report = folder / "schemathesis.json"
    report.unlink(missing_ok=True)
    base = str(running.client.base_url).rstrip("/")
    program = Path(sys.executable).with_name("schemathesis")
    # One worker: its threads parse Python at the same time, and Python 3.11 cannot.
    command: list[str | Path] = [
        program, "--config-file", CONFIG, "run", f"{base}/docs.json", "--checks", "all",
        "--max-examples", str(examples), "--workers", "1", "--seed", str(seed),
        "--exclude-path-regex", STREAMED, "--suppress-health-check", "all",
        "--generation-database", "none", "--no-color",
        "--continue-on-failure", "--report-json-path", report,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    try:
        return json.loads(report.read_text()), done.stdout
    except (OSError, ValueError) as error:
        raise RuntimeError(f"schemathesis did not run: {done.stdout}{done.stderr}") from error
