"""Run every request and every client of README and docs against a really served service."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.documents import DOCUMENTS, ROOT, blocks, scripts
from tests.registries import make_registry, register_small
from tests.serving import serve
from tests.waiting import PATIENCE_SECONDS
from volatility import registry

ADDRESS = "localhost:3000"
OPEN = {
    "metrics",
    "spike_levels_bps",
    "trained_with",
    "serving_with",
    "warnings",
}  # their keys depend on the model


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a small champion; give host and port."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", make_registry(folder))
        patch.setenv("BENTOML_HOME", str(folder / "bentoml"))
        register_small(folder)
        registry.promote("1", evidence={})
        with serve(folder, {}) as running:
            yield f"{running.client.base_url.host}:{running.client.base_url.port}"


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        # .ci/run installs it: there, nothing may be left out.
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"the documents' clients need {name}")
    return str(path)


def said(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def requests() -> list[tuple[str, str]]:
    """Yield each documented request to the service, with the documented answer if there is one."""
    found = []
    for path in DOCUMENTS:
        shown = blocks(path)
        for place, block in enumerate(shown):
            if block.language != "sh" or ADDRESS not in block.text:
                continue
            after = shown[place + 1] if place + 1 < len(shown) else None
            answer = after.text if after is not None and after.language == "json" else ""
            asked = [one for one in scripts(block.text) if "curl " in one and ADDRESS in one]
            # Those of the live forecasts need a stream: tests/integration/test_examples.py
            asked = [one for one in asked if not re.search(rf"{ADDRESS}/(forecast|prob)", one)]
            found += [(one, answer if one == asked[-1] else "") for one in asked]
    return found


def alike(shown: Any, real: Any, place: str = "answer") -> None:
    """Check that two answers have the same fields and types of values."""
    if isinstance(shown, dict):
        assert isinstance(real, dict), place
        if place.rpartition(".")[2] not in OPEN:
            assert list(shown) == list(real), place
        for key in shown.keys() & real.keys():
            alike(shown[key], real[key], f"{place}.{key}")
    elif isinstance(shown, list):
        assert isinstance(real, list), place
        assert real, place
        alike(shown[0], real[0], f"{place}[0]")
    elif shown is not None and real is not None:
        numbers = (int, float)
        same = isinstance(real, type(shown))
        assert same or (isinstance(shown, numbers) and isinstance(real, numbers)), place


@pytest.mark.parametrize(("script", "shown"), requests())
def test_every_request_is_answered_as_shown(address: str, script: str, shown: str) -> None:
    program("curl")
    answer = said(["bash", "-ec", script.replace(ADDRESS, address)])
    if not shown:
        assert answer
        return
    expected, real = json.loads(shown), json.loads(answer)
    if "error" in expected:
        assert real == expected
    else:
        alike(expected, real)


def test_the_requests_of_every_route_are_there() -> None:
    paths = {re.search(rf"{ADDRESS}(/[\w./]+)", script)[1] for script, _ in requests()}  # type: ignore[index]
    assert paths >= {
        "/predict", "/predict/ticks", "/health", "/version", "/metrics", "/livez", "/readyz",
        "/docs", "/docs.json",
    }  # fmt: skip


@pytest.mark.parametrize("language", ["python", "js"])
def test_each_client_of_the_readme_ends_in_a_forecast(
    address: str, language: str, tmp_path: Path
) -> None:
    (block,) = [b for b in blocks(ROOT / "README.md") if b.language == language]
    assert len(block.text.splitlines()) <= 13
    text = block.text.replace(ADDRESS, address)
    assert text != block.text
    name, suffix = ("node", ".mjs") if language == "js" else (sys.executable, ".py")
    client = tmp_path / f"client{suffix}"
    client.write_text(text)
    volatility, verdict = said([program(name), str(client)]).split()
    assert 0.0 < float(volatility) < 1e4
    assert verdict in {"spike", "calm"}


def test_a_client_in_node_says_what_was_refused(address: str, tmp_path: Path) -> None:
    (block,) = [b for b in blocks(ROOT / "README.md") if b.language == "js"]
    text = block.text.replace(ADDRESS, address).replace("spread_bps", "spread_bsp")
    client = tmp_path / "client.mjs"
    client.write_text(text)
    command = [program("node"), str(client)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 1
    assert "unknown feature 'spread_bsp'" in done.stderr
