"""Run each example against a real process that forecasts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import DOCUMENTS, ROOT, blocks, scripts
from tests.integration.test_clients import ADDRESS, alike, said
from tests.one_process import OneProcess
from tests.waiting import PATIENCE_SECONDS, until

LIVE = ("/forecast", "/probability")  # routes that need a stream


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneProcess]:
    """Forecast a simulated market."""
    process = OneProcess(tmp_path_factory.mktemp("live"), ["--source", "simulate"])
    process.start()
    try:
        until(
            lambda: "as_of" in process.get("/forecast?symbol=BTC-USD"),
            "there is a forecast",
            details=process.log.read_text,
        )
        yield process
    finally:
        process.kill()


def example(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "examples" / name), *arguments]


def test_every_example_has_a_test() -> None:
    names = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert names == {"pandas_history.py", "alert_bot.py", "quoting.py"}


def test_the_history_becomes_a_frame(run: OneProcess) -> None:
    until(lambda: run.get("/forecast/history?symbol=BTC-USD")["rows"], "the last hour is there")
    text = said(example("pandas_history.py", "BTC-USD", run.url))
    assert [line.split()[0] for line in text.splitlines()[2:]] == ["60", "300", "900"]


def test_quotes_follow_the_forecast(run: OneProcess) -> None:
    lines = said(example("quoting.py", "BTC-USD", run.url, "3")).splitlines()
    assert len(lines) == 3
    for line in lines:
        bid, ask = (float(one) for one in line.rpartition("USD ")[2].split(" / "))
        assert 0 < bid < ask


def test_the_bot_continues_after_a_restart(run: OneProcess) -> None:
    command = example("alert_bot.py", run.url, "0.0")  # everything is likely: a line a symbol
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as bot:
        assert bot.stdout is not None
        try:
            lines = {bot.stdout.readline().split()[1] for _ in range(2)}
            assert lines == {"BTC-USD:", "ETH-USD:"}
            run.kill()
            run.start()
            until(lambda: "as_of" in run.get("/forecast?symbol=BTC-USD"), "it forecasts again")
            assert bot.poll() is None
        finally:
            bot.kill()


def requests() -> list[tuple[str, str]]:
    """Yield each documented request of the live forecasts, with the documented answer."""
    found = []
    for path in DOCUMENTS:
        shown = blocks(path)
        for place, block in enumerate(shown):
            after = shown[place + 1].text if place + 1 < len(shown) else ""
            asked = [one for one in scripts(block.text) if "curl " in one and ADDRESS in one]
            is_json = bool(after) and shown[place + 1].language == "json"
            found += [
                (one, after if is_json and one == asked[-1] else "")
                for one in asked
                if any(f"{ADDRESS}{route}" in one for route in LIVE)
            ]
    return found


@pytest.mark.parametrize(("script", "shown"), requests())
def test_every_documented_request_is_answered_as_shown(
    run: OneProcess, script: str, shown: str
) -> None:
    import json

    text = script.replace(ADDRESS, run.url.removeprefix("http://"))
    done = subprocess.run(
        ["bash", "-c", text], capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    # curl ends with 28 where --max-time ends a stream.
    assert done.returncode in ({28} if "--max-time" in script else {0}), done.stderr
    assert done.stdout
    if "--max-time" in script:
        assert done.stdout.count("\ndata: {") >= 3
    if shown:
        alike(json.loads(shown), json.loads(done.stdout))


def test_the_client_of_the_document_prints_a_forecast(run: OneProcess, tmp_path: Path) -> None:
    (block,) = [b for b in blocks(ROOT / "docs" / "api.md") if b.language == "python"]
    program = tmp_path / "client.py"
    program.write_text(block.text.replace("http://localhost:3000", run.url))
    first, second = said([sys.executable, str(program)]).splitlines()
    assert first.startswith("Forecast(symbol='BTC-USD'")
    assert float(second.split()[1]) > 0
