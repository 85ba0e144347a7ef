"""Move the alias again and again under load: no request fails, and no label is wrong."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import threading
import time
from collections import Counter, deque
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from service.wire import decode_rows
from tests.bundles import small_bundle
from tests.registries import make_registry, register_small
from tests.serving import Running, serve
from tests.waiting import PATIENCE_SECONDS, until
from volatility import registry
from volatility.models.bundle import ARRAYS_FILE

GOOD = ("1", "2")  # versions, of the seeds 0 and 1
CONNECTIONS = 8  # kept alive: each stays with the worker that took it, so there are several
WORKERS = 2
SWAP_SECONDS = 5.0
ROW = {"volatility_ratio_60s": 2.5, "spread_bps": 0.7, "volatility_ratio_5s": 1.1}
BODY = json.dumps({"rows": [ROW]})


class Load:
    """Ask on several connections at a steady rate, and check every answer."""

    def __init__(self, port: int, per_second: float, expected: dict[str, float]) -> None:
        self._port, self._expected = port, expected
        self._pause_seconds = CONNECTIONS / per_second
        self._stop = threading.Event()
        self.last: dict[int, tuple[float, str]] = {}  # by connection: when, and which version
        self.count: Counter[str] = Counter()
        self.wrong: deque[str] = deque(maxlen=20)
        self._threads = [
            threading.Thread(target=self._ask, args=(number,), daemon=True)
            for number in range(CONNECTIONS)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)

    def all_on(self, version: str, since: float) -> bool:
        """Return whether the newest answer on every connection since then is from a version."""
        return len(self.last) == CONNECTIONS and all(
            when > since and found == version for when, found in self.last.values()
        )

    def _ask(self, number: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)) as line:
            due = time.monotonic()
            while not self._stop.is_set():
                due += self._pause_seconds
                time.sleep(max(due - time.monotonic(), 0.0))
                began = time.monotonic()
                try:
                    version = self._answer(line)
                except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
                    self.count["failed"] += 1
                    self.wrong.append(repr(error))
                    line.close()
                else:
                    self.count[version] += 1
                    self.last[number] = began, version

    def _answer(self, line: http.client.HTTPConnection) -> str:
        """Ask once; give the version that the answer names, if the score is that version's."""
        line.request("POST", "/predict", BODY)
        response = line.getresponse()
        content: dict[str, Any] = json.loads(response.read())
        version: str = content["model_version"]
        if response.status != 200 or self._expected[version] != content["volatility_score"]:
            raise ValueError(f"{response.status} {content}")
        return version


def reload_under_load(
    folder: Path, changes: int, corrupt: int, per_second: float
) -> dict[str, float]:
    """Move the alias between two versions, and now and then to a damaged one."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", make_registry(folder))
        versions = [register_small(folder, seed).version for seed in range(2 + corrupt)]
        for version in versions[2:]:
            _damage(folder, version)
        registry.promote("1", evidence={})
        with serve(folder, {"SERVICE_WORKERS": str(WORKERS)}) as running:
            return _run(running, versions[2:], changes, per_second)


def _run(running: Running, damaged: list[str], changes: int, per_second: float) -> dict[str, float]:
    rows = decode_rows(BODY.encode(), 1)
    expected = {
        version: float(small_bundle(seed).score(rows, np.zeros(1, np.int64))[0])
        for seed, version in enumerate(GOOD)
    }
    assert len(set(expected.values())) == len(GOOD), "the versions cannot be told apart"
    port = int(str(running.client.base_url).rstrip("/").rpartition(":")[2])
    slowest, early, left = 0.0, 0, list(damaged)
    every = max(changes // max(len(damaged), 1), 1)
    with Load(port, per_second, expected) as load:
        until(lambda: load.all_on("1", 0.0), "the first answers")
        for number in range(changes):
            if left and number % every == every - 1:
                registry.promote(left.pop(), evidence={})
                until(lambda: "refused" in _health(running)["warnings"], "the refusal")
            version = GOOD[(number + 1) % 2]
            registry.promote(version, evidence={})
            began = time.monotonic()
            until(lambda: load.all_on(version, began), f"version {version} everywhere")  # noqa: B023
            slowest = max(slowest, time.monotonic() - began)
            if number == changes // 4:
                early = _resident_kib(running)
    grown = _resident_kib(running) - early
    assert not load.count["failed"], f"{load.count['failed']} failed: {list(load.wrong)}"
    assert slowest < SWAP_SECONDS, f"a swap took {slowest:.1f} s"
    assert not left, "not every damaged version was tried"
    assert grown < early * 0.05, f"the workers grew by {grown} of {early} KiB"
    text = running.log.read_text()
    assert "Traceback" not in text, text[-2_000:]
    answers = sum(load.count[version] for version in GOOD)
    told = running.client.get("/metrics").text
    counted = re.findall(r"^volatility_predictions_total\{.*\} ([\d.e+]+)$", told, re.MULTILINE)
    assert sum(map(float, counted)) == answers, "the workers' metrics do not add up"
    return {
        "changes": changes,
        "refused": len(damaged),
        "answers": answers,
        "failed": 0,
        "slowest swap [s]": round(slowest, 1),
        "grown [MiB]": round(grown / 1024, 1),
    }


def _damage(folder: Path, version: str) -> None:
    """Cut the end off a registered version's arrays."""
    source = MlflowClient().get_model_version("crypto-vol-ml", version).source
    place = str(source).rpartition("/")[2]
    # The code that is stored beside the bundle holds the arrays of the shipped prior.
    (file,) = (folder / "mlartifacts").rglob(f"*{place}*/**/bundle/{ARRAYS_FILE}")
    file.write_bytes(file.read_bytes()[:-40])


def _health(running: Running) -> dict[str, Any]:
    content: dict[str, Any] = running.client.get("/health").json()
    return content


def _resident_kib(running: Running) -> int:
    """Sum the resident memory of the workers."""
    listing = subprocess.run(
        ["ps", "-eo", "ppid=,rss=,args="], capture_output=True, text=True, check=True
    ).stdout
    sizes = [
        int(line.split()[1])
        for line in listing.splitlines()
        if "_bentoml_impl.worker.service" in line and int(line.split()[0]) == running.pid
    ]
    assert len(sizes) == WORKERS, f"{len(sizes)} workers are children of process {running.pid}"
    return sum(sizes)
