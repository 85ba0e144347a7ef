"""Serve a small model for each kind of fuzz, and report what was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fuzz import costly_ticks, flood, forwarded, huge_heads, idle, slow_heads
from tests.fuzz.bodies import GROWTH_MIB, faults_of_log, send
from tests.fuzz.scenario import KEY, judge
from tests.fuzz.schema import generate
from tests.registries import make_registry, register_small
from tests.serving import ROOT, Running, serve
from volatility import registry

SCENARIOS = {
    module.SCENARIO.name: module.SCENARIO
    for module in (slow_heads, huge_heads, idle, costly_ticks, forwarded, flood)
}
KINDS = ("requests", "bodies", *SCENARIOS)


@dataclass(frozen=True)
class Found:
    """Represent what was done, one line each, and what went wrong."""

    lines: list[str]
    wrong: list[str]


@dataclass(frozen=True)
class Fuzz:
    """Fuzz services of one worker each; ``folder`` takes their registry and logs."""

    folder: Path
    environment: pytest.MonkeyPatch
    requests: int
    bodies: int
    seed: int

    def run(self, kind: str) -> Found:
        """Run one of ``KINDS``."""
        if kind == "requests":
            return self._generated()
        if kind == "bodies":
            return self._mutated()
        scenario = SCENARIOS[kind]
        with self._served(scenario.serving, KEY if scenario.key else "") as running:
            result = judge(scenario, running, self.seed)
        return Found(result.lines, result.wrong)

    def _generated(self) -> Found:
        with self._served() as running:
            generated = generate(running, self.folder, self.requests, self.seed)
            wrong = faults_of_log(running.log)
        if not generated.passed:
            wrong.append(generated.output)
        if generated.requests < self.requests:
            wrong.append(f"only {generated.requests} of {self.requests} requests were generated")
        return Found([f"schemathesis: {generated.requests:,} requests generated"], wrong)

    def _mutated(self) -> Found:
        with self._served() as running:
            sent = send(running, self.bodies, self.seed)
            wrong = [*sent.wrong, *faults_of_log(running.log)]
            if running.client.get("/health").status_code != 200:
                wrong.append("the service does not answer any more")
        if not sent.flat:
            wrong.append(f"memory grew by more than {GROWTH_MIB} MiB")
        statuses = ", ".join(
            f"{count:,} x {status}" for status, count in sorted(sent.statuses.items())
        )
        lines = [
            f"mutated bodies: {sum(sent.statuses.values()):,} ({statuses})",
            f"worker: {sent.before_mib:.0f} MiB before, {sent.after_mib:.0f} MiB after",
        ]
        return Found(lines, wrong)

    @contextmanager
    def _served(self, serving: str = "{}", key: str = "") -> Iterator[Running]:
        """Serve the champion of a new registry with some settings."""
        (self.folder / "params.yaml").write_text(f"serving: {serving}\n")
        for name in ("bentofile.yaml", "README.md", "service", "volatility"):
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(ROOT / name)
        uri = make_registry(self.folder)
        self.environment.setenv("MLFLOW_TRACKING_URI", uri)
        registry.promote(register_small(self.folder).version, evidence={"reason": "fuzz"})
        given = {
            "MLFLOW_TRACKING_URI": uri,
            "BENTOML_HOME": str(self.folder),
            "VOLATILITY_API_KEY": key,
        }
        with serve(self.folder, given, str(self.folder)) as running:
            yield running
