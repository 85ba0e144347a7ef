"""Start the compose stack and hold it to what it promises; print a report.

``python3 check.py --log FILE [--without SERVICE ...] -- docker compose ...``; needs nothing but
Python, and the right to kill the containers' processes. Ends with 1 where anything does not hold.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
START_SECONDS = 180.0
PANELS_SECONDS = 180.0
RECOVER_SECONDS = 120.0
ONE_SHOT = {"bootstrap", "first-runs"}
ROW = {"midprice": 68000.5, "spread": 1.2, "trade_intensity": 14, "volatility_30s": 0.00002}
# What Grafana would put in their place.
VARIABLES = {"$__rate_interval": "1m", "$__interval": "15s", "$__range": "15m"}
Json = Any


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
            raise SystemExit(f"compose {' '.join(arguments)}: {result.stderr.strip()[-2000:]}")
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
    """Wait until it holds; give the seconds it took, None where it never did."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        try:
            if condition():
                return time.monotonic() - began
        except (OSError, ValueError, KeyError):
            pass
        time.sleep(1.0)
    return None


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
    """Print lines as they come, and remember what did not hold."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def say(self, text: str) -> None:
        print(time.strftime("%H:%M:%S", time.gmtime()), text, flush=True)

    def hold(self, good: Any, text: str) -> None:
        self.say(f"{'holds' if good else 'DOES NOT HOLD'}: {text}")
        if not good:
            self.failed.append(text)


def start(stack: Stack, report: Report) -> None:
    report.say(f"starting {', '.join(stack.services)}")
    began = time.monotonic()
    stack.run("up", "--detach", *stack.services)
    wait(lambda: not stack.unready(), max(START_SECONDS - (time.monotonic() - began), 1.0))
    took, late = time.monotonic() - began, stack.unready()
    report.hold(
        not late, f"all healthy within {START_SECONDS:.0f} s: {took:.0f} s {' '.join(late)}"
    )


def serve(stack: Stack, report: Report, without: set[str]) -> None:
    answer = ask("http://127.0.0.1:8000/predict", {"rows": [ROW]})
    report.hold(0 <= answer["volatility_score"] <= 1, f"/predict answers {json.dumps(answer)}")
    before = stack.inside("ends")
    time.sleep(10)
    after = stack.inside("ends")
    made = after["predictions"] - before["predictions"]
    report.hold(made >= 10, f"predictions flow: {made} in about 10 s")
    took = wait(lambda: not targets_down(without), 60)
    report.hold(
        took is not None, f"all Prometheus targets are up {' '.join(targets_down(without))}"
    )
    if panels():
        took = wait(lambda: not empty_panels(), PANELS_SECONDS)
        empty = "; ".join(empty_panels())
        said = f"after {took:.0f} s more" if took is not None else f"empty: {empty}"
        report.hold(took is not None, f"{len(panels())} panels have data {said}")


def kill_each(stack: Stack, report: Report) -> None:
    for name in stack.services:
        if name in ONE_SHOT:
            continue
        before = stack.states()[name]
        stack.kill(name)

        def back(name: str = name, before: Json = before) -> bool:
            now = stack.states()[name]
            anew = now["State"]["StartedAt"] != before["State"]["StartedAt"]
            return anew and not stack.unready()

        took = wait(back, RECOVER_SECONDS)
        late = "" if took is not None else " ".join(stack.unready())
        said = f"healthy after {took:.0f} s" if took is not None else f"not healthy: {late}"
        report.hold(took is not None, f"{name} killed: {said}")
        at: int = stack.inside("ends")["predictions"]

        def goes_on(before: int = at) -> bool:
            return bool(stack.inside("ends")["predictions"] > before)

        flowing = wait(goes_on, RECOVER_SECONDS)
        report.hold(flowing is not None, f"{name} killed: predictions flow")


def nothing_lost(stack: Stack, report: Report, kept: Json, began: float) -> None:
    report.hold(registry() == kept["registry"], f"registry as before: {kept['registry']}")
    was = kept["schedules"]
    report.hold(schedules() == was, f"schedules as before: {len(was)} deployments")
    runs = completed_runs()
    more = wait(lambda: completed_runs() > runs, 120)
    report.hold(runs >= kept["runs"], f"flow runs kept: {kept['runs']} before, {runs} after")
    report.hold(more is not None, "flows go on by their schedules")
    report.hold(query("up", began), "Prometheus has what it stored before")
    stack.run("exec", "-T", "flows", "prefect", "deployment", "run", "capture/scheduled", "--watch")
    found = stack.inside("all")
    wrong = {**found.pop("wrong"), **found.pop("wrong_predictions")}
    report.say(f"log and lake: {json.dumps(found)}")
    for text, count in wrong.items():
        report.hold(count == 0, f"{text}: {count}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("compose", nargs="+")
    options = parser.parse_args()
    without, report = set(options.without), Report()
    stack = Stack(options.compose, options.log, without)
    start(stack, report)
    if not report.failed:
        serve(stack, report, without)
        began = time.time()
        kept = {"registry": registry(), "schedules": schedules(), "runs": completed_runs()}
        kill_each(stack, report)
        nothing_lost(stack, report, kept, began)
    if report.failed:
        for name in stack.unready() or stack.services:
            logs = stack.run("logs", "--no-color", "--tail", "30", name)
            print(re.sub(r"^", "    ", logs, flags=re.MULTILINE), file=sys.stderr)
    report.say(f"{len(report.failed)} promises broken" if report.failed else "every promise holds")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
