"""Run the commands of README and docs as they are written, in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.brokers import RunningBroker, free_ports
from tests.documents import ROOT, RUN, blocks, documented
from tests.examples import START_NS
from tests.registries import make_registry, register_small
from tests.serving import await_answer, end
from tests.waiting import PATIENCE_SECONDS
from volatility import registry
from volatility.simulation.simulator import simulate
from volatility.streaming.log.interface import DEAD_LETTER
from volatility.streaming.log.kafka_log import KafkaLog

SMALL = {
    "hours: 120": "hours: 8",
    "folds: 4": "folds: 2",
    "min_samples_leaf: 200": "min_samples_leaf: 60",
    "resamples: 1000": "resamples: 50",
    "placebo_hours: 24": "placebo_hours: 6",
}
# The demo serves until it is stopped; `bentoml serve` below is what it starts then.
AS = {"make demo": "make demo SERVE=0"}
REFUSED = {"volatility promote": "did not pass the gate"}  # this market is too short


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the repository with a small market, and the environment of this one."""
    folder = tmp_path / "copy"
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listing.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)  # with its time, so that make rebuilds nothing
    (folder / ".venv").symlink_to(Path(sys.prefix))
    parameters = (folder / "params.yaml").read_text()
    for usual, small in SMALL.items():
        assert usual in parameters
        parameters = parameters.replace(usual, small)
    (folder / "params.yaml").write_text(parameters)
    make_registry(folder)
    for command in (["git", "init", "-q"], ["git", "add", "."]):  # DVC asks for a repository
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def environment(**given: str) -> dict[str, str]:
    taken = {"MLFLOW_TRACKING_URI", "KAFKA_BOOTSTRAP_SERVERS", "PREFECT_API_URL", "MAKEFLAGS"}
    kept = {name: value for name, value in os.environ.items() if name not in taken}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # The copy holds the same packages, but to import those would compile every loop again.
    mine = {
        "PATH": path,
        "PREFECT_HOME": str(Path(given["HOME"]) / "prefect"),
        "PYTHONSAFEPATH": "1",
    }
    return {**kept, **mine, **given}


def run(command: str, folder: Path, **given: str) -> str:
    """Run one command; it must succeed, or be refused as expected."""
    done = subprocess.run(
        ["bash", "-ec", AS.get(command, command)], cwd=folder, text=True, check=False,
        capture_output=True, timeout=PATIENCE_SECONDS, env=environment(HOME=str(folder), **given),
    )  # fmt: skip
    said = f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    if done.returncode and command in REFUSED:
        assert REFUSED[command] in said, said
    else:
        assert done.returncode == 0, said
    return done.stdout


def test_the_demo(copy: Path) -> None:
    (command,) = RUN["demo"]
    assert "reports    reports/index.html" in run(command, copy)
    assert (copy / "reports" / "index.html").exists()


def test_own_ticks_are_imported_trained_on_and_served(copy: Path) -> None:
    recordings = copy / "recordings"
    recordings.mkdir()
    market = pa.Table.from_batches(simulate("ETH-USD", START_NS, 8.0, 3))
    pq.write_table(market, recordings / "eth.parquet")
    *commands, serving = RUN["own ticks"]
    for command in commands:
        run(command, copy)
    with served(serving, copy) as client:
        answer = client.post("/predict", json={"rows": [{"spread_bps": 0.2}]}).json()
        assert 0.0 < answer["volatility_score"] < 1.0
        assert answer["model_variant"] == "baseline"  # nothing has qualified as champion here


def test_dvc_and_the_chain(copy: Path) -> None:
    for command in RUN["dvc"]:
        said = run(command, copy)
        if command == "dvc metrics show":
            assert "reports/evaluation.json" in said
    assert "didn't change" in run("dvc repro", copy).lower()


def test_ticks_through_kafka(copy: Path, make_broker: Callable[[], RunningBroker]) -> None:
    servers = make_broker().servers
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copy / 'mlflow.db'}")
        register_small(copy)
        registry.promote("1", evidence={})
    said = [run(c, copy, KAFKA_BOOTSTRAP_SERVERS=servers) for c in RUN["kafka"]]
    records, captured, made, kept = (number(text) for text in said)
    assert 0 < records == captured
    assert 0 < made == kept


def test_dead_letters_are_read_as_the_runbook_writes(
    copy: Path, make_broker: Callable[[], RunningBroker]
) -> None:
    servers = make_broker().servers
    log = KafkaLog(servers)
    writer = log.writer()
    log.create(DEAD_LETTER, 1)
    writer.append(DEAD_LETTER, b"BTC-USD", b"not a tick", [("reason", b"not JSON")])
    writer.flush(30.0)
    log.close()
    shown = blocks(ROOT / "docs" / "runbook.md")
    (script,) = [b.text for b in shown if b.language == "sh" and DEAD_LETTER in b.text]
    assert "localhost:9092" in script
    assert run(script.replace("localhost:9092", servers), copy) == "not JSON b'not a tick'\n"


def test_the_environment_is_read_from_the_example(copy: Path) -> None:
    said = run(" && ".join([*RUN["environment"], "env"]), copy)
    assert "KAFKA_BOOTSTRAP_SERVERS=localhost:9092" in said.splitlines()


def test_every_make_target_is_there() -> None:
    shown = [command for command in documented() if command.startswith("make ")]
    text = "\n".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    text += (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    shown += re.findall(r"`(make [a-z-]+(?: ?\w+=[\w/.-]+| ARGS=\"[^\"]*\")*)`", text)
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        shown += re.findall(r"(?<=run: )make .+", path.read_text())
    assert len(shown) > 8
    for command in sorted(set(shown)):
        done = subprocess.run(
            ["bash", "-c", f"{command} --dry-run"], cwd=ROOT, capture_output=True, text=True,
            check=False, timeout=PATIENCE_SECONDS,
            env=environment(HOME=os.environ.get("HOME", "/")),
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr}"


def number(text: str) -> int:
    """Read the count that a command ends with."""
    found = re.findall(r"^([\d,]+) ", text, re.MULTILINE)
    return int(found[-1].replace(",", ""))


@contextmanager
def served(command: str, folder: Path) -> Iterator[httpx.Client]:
    """Run `bentoml serve` as the README writes it, on a free port, until the block ends."""
    (port,) = free_ports(1)
    given = {"HOME": str(folder), "BENTOML_PORT": str(port), "BENTOML_HOST": "127.0.0.1"}
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            command.split(), cwd=folder, stdout=log, stderr=log, start_new_session=True,
            env=environment(**given, BENTOML_HOME=str(folder / "bentoml")),
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0) as client:
            await_answer("/readyz", client, process, folder / "serve.log")
            yield client
    finally:
        end(process)
