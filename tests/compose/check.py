"""Start the compose stack, check everything that it promises, and print a report.

``python3 check.py --log FILE [--without SERVICE ...] -- docker compose ...``; needs nothing but
Python, and the right to kill the containers' processes. Each promise is tried whatever became of
the others. The exit code is 1 if any does not hold. Waits are in proportion to the time that the
machine takes to start one process of the image.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# How long a promise may take on a machine that makes the reference start in REFERENCE_SECONDS.
START_SECONDS = 180.0
PANELS_SECONDS = 180.0
RECOVER_SECONDS = 120.0
TARGETS_SECONDS = 60.0
SCHEDULE_SECONDS = 120.0
# Importing what the processes import, which is most of a start: about 10 s of one core.
REFERENCE_SECONDS = 10.0
MOST_SLOWNESS = 5.0
REFERENCE = "import mlflow, prefect, bentoml"
PREDICT = "http://127.0.0.1:8000/predict"
ONE_SHOT = {"bootstrap", "first-runs"}
ROW = {"midprice": 68000.5, "spread": 1.2, "trade_intensity": 14, "volatility_30s": 0.00002}
# What Grafana would put in their place.
VARIABLES = {"$__rate_interval": "1m", "$__interval": "15s", "$__range": "15m"}
Json = Any


class StackError(Exception):
    """A command of Compose failed."""


class Stack:
    """Speak to the stack by Compose, and to its services by their ports on this machine."""

    def __init__(self, compose: list[str], log: Path, without: set[str]) -> None:
        self._compose, self._log = compose, log
        names = self.run("config", "--services").split()
        self.services = sorted(set(names) - without)

    def run(self, *arguments: str, given: str | None = None) -> str:
        result = subprocess.run(
            [*self._compose, *arguments], input=given, capture_output=True, text=True, check=False
        )
        with self._log.open("a") as log:
            log.write(f"$ compose {' '.join(arguments)}\n{result.stdout}{result.stderr}\n")
        if result.returncode:
            raise StackError(f"compose {' '.join(arguments)}: {result.stderr.strip()[-2000:]}")
        return result.stdout

    def states(self) -> dict[str, Json]:
        """Return each service's container as the engine describes it."""
        ids = self.run("ps", "--all", "--quiet").split()
        found = json.loads(subprocess.check_output(["docker", "inspect", *ids])) if ids else []
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}

    def unready(self) -> list[str]:
        """Name the services that are not healthy, or not done."""
        states = self.states()
        return [name for name in self.services if not _good(name, states.get(name))]

    def inside(self, what: str) -> Json:
        """Compare log and lake, in the container of the flows."""
        script = (HERE / "inside.py").read_text()
        return json.loads(self.run("exec", "-T", "flows", "python", "-", what, given=script))

    def slowness(self) -> float:
        """Return how many times longer than the reference a process takes to start: 1 to 5."""
        start = ("run", "--rm", "--no-deps", "-T", "bootstrap", "python", "-c", REFERENCE)
        self.run(*start)  # reads the image from the disk
        began = time.monotonic()
        self.run(*start)
        return min(max((time.monotonic() - began) / REFERENCE_SECONDS, 1.0), MOST_SLOWNESS)

    def kill(self, name: str) -> None:
        """Kill a container's first process. `docker kill` would count as a wish to stop it."""
        os.kill(self.states()[name]["State"]["Pid"], signal.SIGKILL)


def _good(name: str, state: Json | None) -> bool:
    if state is None:
        return False
    if name in ONE_SHOT:
        return state["State"]["Status"] == "exited" and state["State"]["ExitCode"] == 0
    return state["State"]["Running"] and state["State"].get("Health", {}).get("Status") == "healthy"


def ask(url: str, body: Json = None) -> Json:
    """Get JSON, or post it."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def query(expression: str, at: float | None = None) -> list[Json]:
    """Ask Prometheus."""
    asked = {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"})
    url = f"http://127.0.0.1:9090/api/v1/query?{urllib.parse.urlencode(asked)}"
    return ask(url)["data"]["result"]


def wait(condition: Callable[[], Any], seconds: float) -> float | None:
    """Wait until a condition holds; return the seconds it took, None if it never did."""
    return watch({"": condition}, seconds)[""]


def watch(conditions: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, float | None]:
    """Wait until each condition has held once; return after how many seconds it did, or None."""
    began = time.monotonic()
    found: dict[str, float | None] = dict.fromkeys(conditions)
    while True:
        for name, condition in conditions.items():
            if found[name] is None and holds(condition):
                found[name] = time.monotonic() - began
        if None not in found.values() or time.monotonic() - began >= seconds:
            return found
        time.sleep(1.0)


def holds(condition: Callable[[], Any]) -> bool:
    """Return whether a condition holds; a server that does not answer counts as not yet."""
    try:
        return bool(condition())
    except (OSError, ValueError, KeyError, StackError):
        return False


def targets_down(without: set[str]) -> list[str]:
    """Name Prometheus' targets that are not up."""
    found = ask("http://127.0.0.1:9090/api/v1/targets")["data"]["activeTargets"]
    down = [one["labels"]["job"] for one in found if one["health"] != "up"]
    return sorted(set(down) - without) if found else ["none is known"]


def panels() -> dict[str, list[str]]:
    """Return the queries of every panel."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "monitoring" / "grafana" / "dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        # What a variable of the board stands for when nothing is chosen.
        own = {f"${one['name']}": ".*" for one in board.get("templating", {}).get("list", [])}
        stack = list(board["panels"])
        while stack:
            panel = stack.pop()
            stack += panel.get("panels", [])
            for target in panel.get("targets", []):
                expression = target.get("expr", "")
                for name, value in (VARIABLES | own).items():
                    expression = expression.replace(name, value)
                    expression = expression.replace(f"${{{name[1:]}}}", value)
                found.setdefault(f"{board['title']}: {panel.get('title')}", []).append(expression)
    return found


def empty_panels() -> list[str]:
    """Name the panels none of whose queries has data."""
    return [name for name, queries in panels().items() if not any(map(query, queries))]


def registry() -> Json:
    """Return the registered model's aliases and its newest versions."""
    url = "http://127.0.0.1:5000/api/2.0/mlflow/registered-models/get?name=crypto-vol-ml"
    model = ask(url)["registered_model"]
    return sorted((one["alias"], one["version"]) for one in model.get("aliases", []))


def schedules() -> Json:
    """Return every deployment with its schedules."""
    found = ask("http://127.0.0.1:4200/api/deployments/filter", {})
    return sorted(
        (
            one["name"],
            [(s["active"], s["schedule"].get("interval")) for s in one["schedules"]],
            one["id"],
        )
        for one in found
    )


def completed_runs() -> int:
    """Count the flow runs that are done."""
    wanted = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    return int(ask("http://127.0.0.1:4200/api/flow_runs/count", wanted))


class Report:
    """Print lines as they come, and remember which promises do not hold."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.held = 0

    def say(self, text: str) -> None:
        print(time.strftime("%H:%M:%S", time.gmtime()), text, flush=True)

    def hold(self, good: Any, text: str) -> None:
        self.say(f"{'holds' if good else 'DOES NOT HOLD'}: {text}")
        if good:
            self.held += 1
        else:
            self.failed.append(text)

    @contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """Turn an error into a promise that does not hold, so that the next one is tried too."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  whatever it is, the report goes on
            self.hold(False, f"{what}: {type(error).__name__}: {error}")


def start(stack: Stack, report: Report, slowness: float) -> float:
    """Start everything; return when that began [monotonic seconds]."""
    report.say(f"starting {', '.join(stack.services)}")
    began = time.monotonic()
    limit = START_SECONDS * slowness
    with report.trying("docker compose up"):
        stack.run("up", "--detach", *stack.services)
    up = time.monotonic() - began
    milestones = {
        "first forecast": lambda: ask(PREDICT, {"rows": [ROW]}),
        "all healthy": lambda: not stack.unready(),
    }
    found = watch(milestones, max(limit - up, 1.0))
    for name, took in found.items():
        with report.trying(name):
            late = "" if took is not None else f"not yet; unready: {' '.join(stack.unready())}"
            said = late or f"{up + (took or 0.0):.0f} s"
            report.hold(took is not None, f"{name} within {limit:.0f} s: {said}")
    if None in found.values():  # what follows is tried on a stack that is as ready as it gets
        took = wait(lambda: not stack.unready(), limit)
        report.say("never all healthy" if took is None else f"all healthy {took:.0f} s later")
    return began


def serve(stack: Stack, report: Report, without: set[str], slowness: float, began: float) -> None:
    with report.trying("/predict answers"):
        answer = ask(PREDICT, {"rows": [ROW]})
        report.hold(0 <= answer["volatility_score"] <= 1, f"/predict answers {json.dumps(answer)}")
    with report.trying("predictions flow"):
        before = stack.inside("ends")
        time.sleep(10)
        made = stack.inside("ends")["predictions"] - before["predictions"]
        report.hold(made >= 10, f"predictions flow: {made} in about 10 s")
    with report.trying("all Prometheus targets are up"):
        took = wait(lambda: not targets_down(without), TARGETS_SECONDS * slowness)
        down = "" if took is not None else " ".join(targets_down(without))
        report.hold(took is not None, f"all Prometheus targets are up {down}")
    with report.trying("panels have data"):
        took = wait(lambda: not empty_panels(), PANELS_SECONDS * slowness)
        said = f"{time.monotonic() - began:.0f} s after the start"
        if took is None:
            said = f"empty: {'; '.join(empty_panels())}"
        report.hold(took is not None, f"{len(panels())} panels have data, {said}")


def kill_each(stack: Stack, report: Report, slowness: float) -> None:
    for name in stack.services:
        if name not in ONE_SHOT:
            with report.trying(f"{name} killed"):
                kill(stack, report, name, RECOVER_SECONDS * slowness)


def kill(stack: Stack, report: Report, name: str, limit: float) -> None:
    """Kill a service; it and all that was healthy must be so again, and predictions flow."""
    ill = set(stack.unready()) - {name}
    started = stack.states()[name]["State"]["StartedAt"]
    stack.kill(name)

    def back() -> bool:
        again = stack.states()[name]["State"]["StartedAt"] != started
        return again and set(stack.unready()) <= ill

    took = wait(back, limit)
    said = f"healthy after {took or 0.0:.0f} s"
    if took is None:
        said = f"not healthy: {' '.join(sorted(set(stack.unready()) - ill))}"
    report.hold(took is not None, f"{name} killed: {said}")
    at: int = stack.inside("ends")["predictions"]
    flowing = wait(lambda: stack.inside("ends")["predictions"] > at, limit)
    report.hold(flowing is not None, f"{name} killed: predictions flow")


def keep(report: Report) -> dict[str, Json]:
    """Note what must outlive every kill; what cannot be read is missing."""
    kept: dict[str, Json] = {}
    asked = {"registry": registry, "schedules": schedules, "runs": completed_runs}
    for name, read in asked.items():
        with report.trying(f"{name} can be read"):
            kept[name] = read()
    return kept


def nothing_lost(
    stack: Stack, report: Report, kept: dict[str, Json], began: float, slowness: float
) -> None:
    if "registry" in kept:
        with report.trying("registry as before"):
            report.hold(registry() == kept["registry"], f"registry as before: {kept['registry']}")
    if "schedules" in kept:
        with report.trying("schedules as before"):
            was = kept["schedules"]
            report.hold(schedules() == was, f"schedules as before: {len(was)} deployments")
    with report.trying("flow runs kept"):
        runs = completed_runs()
        if "runs" in kept:
            said = f"flow runs kept: {kept['runs']} before, {runs} after"
            report.hold(runs >= kept["runs"], said)
        more = wait(lambda: completed_runs() > runs, SCHEDULE_SECONDS * slowness)
        report.hold(more is not None, "flows run by their schedules again")
    with report.trying("Prometheus has what it stored before"):
        report.hold(query("up", began), "Prometheus has what it stored before")
    with report.trying("a last capture"):
        capture = ("prefect", "deployment", "run", "capture/scheduled", "--watch")
        stack.run("exec", "-T", "flows", *capture)
    with report.trying("log and lake"):
        found = stack.inside("all")
        wrong = {**found.pop("wrong"), **found.pop("wrong_predictions")}
        report.say(f"log and lake: {json.dumps(found)}")
        for text, count in wrong.items():
            report.hold(count == 0, f"{text}: {count}")


def check(stack: Stack, report: Report, without: set[str]) -> None:
    """Try every promise."""
    slowness = 1.0
    with report.trying("the reference start"):
        slowness = stack.slowness()
    report.say(f"this machine starts a process {slowness:.1f} times as slowly as the reference")
    began = start(stack, report, slowness)
    serve(stack, report, without, slowness, began)
    served = time.time()
    kept = keep(report)
    kill_each(stack, report, slowness)
    nothing_lost(stack, report, kept, served, slowness)


def show_logs(stack: Stack, report: Report) -> None:
    """Print the end of the logs of what is not healthy, or of everything."""
    with report.trying("the logs can be read"):
        for name in stack.unready() or stack.services:
            logs = stack.run("logs", "--no-color", "--tail", "30", name)
            print(re.sub(r"^", "    ", logs, flags=re.MULTILINE), file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("compose", nargs="+")
    options = parser.parse_args()
    without, report = set(options.without), Report()
    try:
        stack = Stack(options.compose, options.log, without)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    check(stack, report, without)
    if report.failed:
        show_logs(stack, report)
    report.say(f"{report.held} promises hold, {len(report.failed)} do not")
    for text in report.failed:
        report.say(f"DOES NOT HOLD: {text}")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
