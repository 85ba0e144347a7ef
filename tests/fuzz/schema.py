"""Generate requests from the service's own OpenAPI document, and hold its answers to it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.serving import Running

CONFIG = Path(__file__).with_name("schemathesis.toml")
POSTS = 2  # operations whose inputs are generated; the others have one request each


@dataclass(frozen=True)
class Generated:
    """Say how many requests were generated, and what schemathesis found wrong."""

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
    report = folder / "schemathesis.json"
    base = str(running.client.base_url).rstrip("/")
    program = Path(sys.executable).with_name("schemathesis")
    command: list[str | Path] = [
        program, "--config-file", CONFIG, "run", f"{base}/docs.json", "--checks", "all",
        "--max-examples", str(requests // POSTS), "--workers", "2", "--seed", str(seed),
        "--suppress-health-check", "all", "--generation-database", "none", "--no-color",
        "--continue-on-failure", "--report-json-path", report,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    try:
        found = json.loads(report.read_text())
    except (OSError, ValueError) as error:
        raise RuntimeError(f"schemathesis did not run: {done.stdout}{done.stderr}") from error
    generated = found["test_cases"]["generated"]
    whole = found["complete"] and not found["failures"] and not found["errors"]
    return Generated(generated, done.stdout, whole and done.returncode == 0)
