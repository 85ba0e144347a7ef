"""The check of the compose stack tries every promise, and waits as the machine needs."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.compose import check

SERVICES = ["bootstrap", "flows", "kafka", "score"]


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.strftime, self.gmtime = time.strftime, time.gmtime

    def monotonic(self) -> float:
        return self.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FakeStack:
    """A stack that is ready after some seconds, some of whose parts are broken."""

    services = SERVICES

    def __init__(self, clock: Clock, ready: float = 10.0, broken: tuple[str, ...] = ()) -> None:
        self.clock, self.ready, self.broken = clock, ready, broken
        self.killed: dict[str, float] = {}
        self.tried: list[str] = []

    def slowness(self) -> float:
        self._try("slowness")
        return 2.0

    def run(self, *arguments: str) -> str:
        self._try(arguments[0])
        return ""

    def unready(self) -> list[str]:
        if self.clock.now < self.ready:
            return SERVICES
        return [n for n, at in self.killed.items() if n in self.broken or self.clock.now < at + 5]

    def states(self) -> dict[str, Any]:
        return {n: {"State": {"StartedAt": self.killed.get(n, 0.0)}} for n in SERVICES}

    def inside(self, what: str) -> Any:
        self._try(f"inside {what}")
        wrong = {"wrong": {"holes": 0}, "wrong_predictions": {"steps skipped": 3}}
        return {"predictions": int(self.clock.now)} | (wrong if what == "all" else {})

    def kill(self, name: str) -> None:
        self.killed[name] = self.clock.now

    def _try(self, what: str) -> None:
        self.tried.append(what)
        if what in self.broken:
            raise check.StackError(f"{what} failed")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(check, "time", clock)
    monkeypatch.setattr(check, "ask", lambda *_: {"volatility_score": 0.5})
    monkeypatch.setattr(check, "query", lambda *_: [1])
    monkeypatch.setattr(check, "targets_down", lambda _: [])
    monkeypatch.setattr(check, "registry", lambda: [("champion", "1")])
    monkeypatch.setattr(check, "schedules", lambda: ["capture"])
    monkeypatch.setattr(check, "completed_runs", lambda: int(clock.now))
    return clock


def checked(stack: FakeStack) -> check.Report:
    report = check.Report()
    check.check(stack, report, set())  # type: ignore[arg-type]
    return report


def test_a_stack_that_keeps_its_promises_but_one(clock: Clock) -> None:
    report = checked(FakeStack(clock))
    assert report.failed == ["steps skipped: 3"]
    assert report.held == 18


@pytest.mark.parametrize("broken", ["slowness", "up", "inside ends", "exec", "inside all"])
def test_whatever_fails_the_rest_is_tried(clock: Clock, broken: str) -> None:
    stack = FakeStack(clock, broken=(broken,))
    report = checked(stack)
    assert any(f"{broken} failed" in text for text in report.failed)
    assert {"slowness", "up", "inside ends", "exec", "inside all"} <= set(stack.tried)
    assert stack.killed.keys() == {"flows", "kafka", "score"}


@pytest.mark.parametrize("name", ["registry", "schedules", "completed_runs", "query", "ask"])
def test_a_server_that_is_gone_ends_nothing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def gone(*_: object) -> None:
        raise ConnectionRefusedError(name)

    monkeypatch.setattr(check, name, gone)
    stack = FakeStack(clock)
    report = checked(stack)
    assert any("ConnectionRefusedError" in t or "not yet" in t for t in report.failed), (
        report.failed
    )
    assert stack.tried[-1] == "inside all"


@pytest.mark.parametrize(("ready", "late"), [(359.0, False), (400.0, True)])
def test_the_start_may_take_longer_on_a_slow_machine(
    clock: Clock, ready: float, late: bool
) -> None:
    stack = FakeStack(clock, ready=ready)
    failed = checked(stack).failed
    assert [text for text in failed if "all healthy" in text] == (
        [f"all healthy within 360 s: not yet; unready: {' '.join(SERVICES)}"] if late else []
    )
    assert "inside all" in stack.tried


def test_a_service_that_does_not_come_back_fails_alone(clock: Clock) -> None:
    failed = checked(FakeStack(clock, broken=("flows",))).failed
    assert [text for text in failed if "killed" in text] == ["flows killed: not healthy: flows"]


def test_milestones_are_timed_each_by_itself(clock: Clock) -> None:
    conditions = {"a": lambda: clock.now >= 3, "b": lambda: clock.now >= 7, "c": lambda: 1 / 0}
    with pytest.raises(ZeroDivisionError):
        check.watch(conditions, 10)
    conditions["c"] = lambda: False
    clock.now = 0.0
    assert check.watch(conditions, 10) == {"a": 3.0, "b": 7.0, "c": None}
    assert clock.now == 10.0


@pytest.mark.parametrize(("seconds", "slowness"), [(1.0, 1.0), (25.0, 2.5), (900.0, 5.0)])
def test_slowness_is_that_of_a_start_compared_with_the_reference(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: float, slowness: float
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        asked.append(command)
        clock.now += seconds if "run" in command else 0
        return SimpleNamespace(returncode=0, stdout="bootstrap\nkafka\n", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    stack = check.Stack(["docker", "compose"], tmp_path / "log", {"kafka"})
    assert stack.services == ["bootstrap"]
    assert stack.slowness() == slowness
    assert [command[2] for command in asked] == ["config", "run", "run"]


def test_a_command_that_fails_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = SimpleNamespace(returncode=1, stdout="", stderr="no such service\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(check.StackError, match="compose config --services: no such service"):
        check.Stack(["docker", "compose"], tmp_path / "log", set())
    monkeypatch.setattr("sys.argv", ["check.py", "--log", str(tmp_path / "log"), "--", "docker"])
    assert check.main() == 1
