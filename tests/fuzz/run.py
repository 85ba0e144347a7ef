"""Serve a small model, and send it both kinds of fuzz."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fuzz.bodies import GROWTH_MIB, faults_of_log, send
from tests.fuzz.schema import generate
from tests.registries import make_registry, register_small
from tests.serving import serve
from volatility import registry


@dataclass(frozen=True)
class Found:
    """Represent what was done, one line each, and what went wrong."""

    lines: list[str]
    wrong: list[str]


def fuzz(
    folder: Path, environment: pytest.MonkeyPatch, requests: int, bodies: int, seed: int
) -> Found:
    """Fuzz a service of one worker; ``folder`` takes its registry and log."""
    uri = make_registry(folder)
    environment.setenv("MLFLOW_TRACKING_URI", uri)
    registry.promote(register_small(folder).version, evidence={"reason": "fuzz"})
    with serve(folder, {"MLFLOW_TRACKING_URI": uri, "BENTOML_HOME": str(folder)}) as running:
        generated = generate(running, folder, requests, seed)
        sent = send(running, bodies, seed)
        wrong = [*sent.wrong, *faults_of_log(running.log)]
        if running.client.get("/health").status_code != 200:
            wrong.append("the service does not answer any more")
    if not generated.passed:
        wrong.append(generated.output)
    if generated.requests < requests:
        wrong.append(f"only {generated.requests} of {requests} requests were generated")
    if not sent.flat:
        wrong.append(f"memory grew by more than {GROWTH_MIB} MiB")
    statuses = ", ".join(f"{count:,} x {status}" for status, count in sorted(sent.statuses.items()))
    lines = [
        f"schemathesis: {generated.requests:,} requests generated",
        f"mutated bodies: {sum(sent.statuses.values()):,} ({statuses})",
        f"worker: {sent.before_mib:.0f} MiB before, {sent.after_mib:.0f} MiB after",
    ]
    return Found(lines, wrong)
