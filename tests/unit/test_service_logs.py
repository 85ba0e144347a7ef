"""Refused requests are all counted, and a flood of them fills no disk."""

from __future__ import annotations

import io
import json
import logging
import time

import pytest

from service import logs


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_flood_of_refusals_is_counted_whole_and_logged_in_part(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    counted: list[str] = []
    refused = logs.with_log(counted.append)
    for _ in range(1_000):
        refused("not_json")
    assert len(counted) == 1_000
    assert len(caplog.records) == logs.LINES_PER_SECOND
    clock[0] += 1.0
    refused("empty")
    last = caplog.records[-1]
    assert vars(last)["reason"] == "empty"
    assert vars(last)["not_logged"] == 1_000 - logs.LINES_PER_SECOND


def test_each_line_is_one_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr("sys.stderr", output)
    names = ("", "bentoml", "bentoml.access", "uvicorn", "uvicorn.error", "uvicorn.access")
    loggers = [logging.getLogger(name) for name in names]
    before = [(one.handlers[:], one.propagate, one.level) for one in loggers]
    try:
        logs.configure()
        logging.getLogger("bentoml.volatility").warning("two\nlines", extra={"reason": "empty"})
        logging.getLogger("uvicorn.access").info("no request is worth a line")
    finally:
        for one, (handlers, propagate, level) in zip(loggers, before, strict=True):
            one.handlers, one.propagate = handlers, propagate
            one.setLevel(level)
    (line,) = output.getvalue().splitlines()
    content = json.loads(line)
    assert content.pop("time")
    assert content == {
        "level": "WARNING",
        "logger": "bentoml.volatility",
        "message": "two\nlines",
        "reason": "empty",
    }
