from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from tests.examples import START_NS
from tests.registries import make_registry
from volatility import registry, stages
from volatility.cli.main import main
from volatility.evaluation import Evidence, Placebo, Verdict
from volatility.evaluation.placebo import Skill
from volatility.models.simple import SIMPLE
from volatility.registry import promotion
from volatility.simulation.simulator import simulate

PARAMETERS = """
simulate: {hours: 8, seed: 7}
train: {folds: 2, stride_seconds: 30, min_samples_leaf: 60}
evaluate: {resamples: 50, placebo_hours: 6}
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def done(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def failed(*arguments: str | Path) -> str:
    """Run a command that must fail: exit code 1, one line that says why, no traceback."""
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    (line,) = [x for x in result.stderr.splitlines() if x and not re.match(r"\w+: +\d+%|\w+: 0", x)]
    assert line.startswith("Error: ")
    assert "Traceback" not in line
    return line


def use(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(folder)
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """Run simulate, features and train once; give the folder and what they said."""
    folder = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch:
        make_registry(folder)
        use(folder, patch)
        (folder / "params.yaml").write_text(PARAMETERS)
        yield folder, {name: done(name) for name in ("simulate", "features", "train")}


@pytest.fixture
def trained(chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the chain's files that the test may change."""
    folder = tmp_path / "work"
    shutil.copytree(chain[0], folder)
    use(folder, monkeypatch)
    return folder


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    use(folder, monkeypatch)
    (folder / "params.yaml").write_text(PARAMETERS)
    return folder


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_the_chain_says_what_it_did(chain) -> None:
    folder, said = chain
    assert re.fullmatch(r"[\d,]{6,} records in data/ticks\n", said["simulate"])
    assert re.match(
        r"(28,7\d\d) rows in data/features \(\1 new\); dropped 0 late", said["features"]
    )
    assert re.search(r"crypto-vol-ml version 1 registered; digest [0-9a-f]{12}", said["train"])
    assert files(folder / "data" / "model") >= {
        "model.json", "arrays.npz", "predictions.parquet", "training.json",
    }  # fmt: skip
    assert not [name for name in files(folder) if name.endswith((".tmp", ".building"))]


def test_from_evaluation_to_rollback(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = done("evaluate")
    models = json.loads(Path("reports/evaluation.json").read_text())["models"]
    shown = [line.split()[0] for line in board.splitlines()[2 : 2 + len(models)]]
    assert set(shown) == set(models)
    losses = [models[name]["qlike"] for name in shown]
    assert losses == sorted(losses)
    assert "95 % interval" in board
    assert files(Path("reports")) >= {"evaluation.json", "evaluation.html", "index.html"}

    assert re.search(r"of \d+ model inputs have drifted", done("drift"))
    assert files(Path("reports")) >= {"drift.json", "drift.html"}

    # This market is too short to have earned anything.
    gate = json.loads(Path("reports/evaluation.json").read_text())["gate"]
    assert not gate["earned"]
    refused = run("promote")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: version 1 did not pass the gate: ")
    assert "blocks of evidence against" in refused.stderr
    assert registry.champion() is None
    # A second look at the same predictions counts nothing twice.
    assert registry.read_evidence(gate["recipe"]) is not None
    done("evaluate")
    again = json.loads(Path("reports/evaluation.json").read_text())["gate"]
    assert again["evidence"] == gate["evidence"]

    monkeypatch.setattr(promotion, "gate", earned)
    assert done("promote") == "version 1 is champion\n"
    Path("params.yaml").write_text(PARAMETERS.replace("min_samples_leaf: 60", "seed: 8"))
    assert "version 2 registered" in done("train")
    assert registry.champion() == "1"
    assert done("promote") == "version 2 is champion\n"
    assert done("promote") == "version 2 is champion\n"
    assert done("rollback") == "champion: version 2 -> version 1\n"
    assert registry.champion() == "1"
    assert "no earlier champion" in failed("rollback")


def earned(*given: object) -> Verdict:
    """Pass every recipe, as the gate would after months of evidence."""
    return Verdict("a recipe", True, "promotion", (), None, "har", Evidence())


def test_the_same_training_is_the_same_version(trained: Path) -> None:
    before = json.loads(Path("data/model/model.json").read_text())
    said = done("train")
    assert "version 1 was already registered" in said
    after = json.loads(Path("data/model/model.json").read_text())
    assert {**after, "provenance": {}} == {**before, "provenance": {}}
    assert registry.latest() == "1"


def test_json_is_json_and_nothing_else(trained: Path) -> None:
    found = json.loads(done("evaluate", "--json"))
    assert found == json.loads(Path("reports/evaluation.json").read_text())
    assert {
        "rows", "effective_windows", "base_rate", "models", "ml_vs_best_simple", "placebo",
        "per_symbol", "per_day", "gate",
    } <= set(found)  # fmt: skip
    models = {*SIMPLE, "ml", "prior", "baseline"}
    assert set(found["models"]) == models
    for metrics in found["models"].values():
        assert {"qlike", "crps_bps", "pr_auc", "brier", "calibration_error"} <= set(metrics)
    versus = found["ml_vs_best_simple"]
    assert set(versus["baseline"].split(", ")) <= set(SIMPLE)
    for measure in ("qlike", "pr_auc"):
        assert {"difference", "interval"} <= set(versus[measure])
    for market in found["placebo"].values():
        assert set(market) == models
        assert {"skill", "standard_error", "passed"} <= set(market["ml"])
    assert found["source"] == "walk-forward"


def recording(folder: Path, hours: float, seed: int) -> Path:
    market = simulate("ETH-USD", START_NS, hours, seed)
    path = folder / "recording.parquet"
    pq.write_table(pa.Table.from_batches(list(market)), path)
    return path


@pytest.mark.parametrize("model", ["data/model", "models:/crypto-vol-ml@challenger"])
def test_any_model_is_evaluated_on_another_lake(trained: Path, model: str) -> None:
    Path("params.yaml").write_text(
        PARAMETERS.replace("{hours: 8, seed: 7}", "{hours: 1.5, seed: 9, start: '2026-02-01'}")
    )
    done("simulate", "--lake", "other")
    before = files(Path("data"))
    found = json.loads(done("evaluate", "--ticks", "other", "--model", model, "--json"))
    assert found["source"] == "model"
    assert found["start"].startswith("2026-02-01")
    assert found["excluded_rows"] == 0
    assert found["gate"] is None
    assert files(Path("data")) == before


def test_a_recording_is_evaluated_and_leaves_no_lake(trained: Path, tmp_path: Path) -> None:
    path = recording(tmp_path, 10.0, 3)
    before = files(Path("data"))
    found = json.loads(done("evaluate", "--ticks", path, "--model", "data/model", "--json"))
    assert found["symbols"] == ["ETH-USD"]  # which the model does not know
    assert found["excluded_rows"] > 0  # its first hours are those of the training
    assert files(Path("data")) == before


def test_the_recipe_is_evaluated_on_ticks_without_a_model(empty: Path, tmp_path: Path) -> None:
    before = files(empty)
    found = json.loads(done("evaluate", "--ticks", recording(tmp_path, 6.0, 3), "--json"))
    assert found["source"] == "walk-forward"
    assert found["symbols"] == ["ETH-USD"]
    assert len(found["folds"]) == 2
    assert set(found["models"]) == {*SIMPLE, "ml", "prior", "baseline"}
    assert found["gate"] is None
    assert all(name.startswith("reports/") for name in files(empty) - before)


def test_seen_rows_alone_are_no_evaluation(trained: Path) -> None:
    done("simulate", "--lake", "seen", "--hours", "3")
    line = failed("evaluate", "--ticks", "seen", "--model", "data/model")
    assert "ticks that it has not seen" in line
    assert not Path("reports").exists()


def test_features_that_changed_since_training_are_noticed(trained: Path) -> None:
    done("simulate", "--lake", "other", "--hours", "8", "--seed", "8")
    done("features", "--lake", "other")
    assert "features have changed since training" in failed("evaluate")
    assert "features have changed since training" in failed("promote")


def test_an_unregistered_model_is_not_promoted(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(trained))
    assert "the trained model is not registered" in failed("promote")


def test_a_beaten_placebo_stops_training(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leak = Placebo({"har": {"garch": Skill(0.05, 0.01, 0.0, 0.1)}})
    monkeypatch.setattr(stages, "run_placebo", lambda *_: leak)
    done("simulate", "--hours", "6")
    done("features")
    before = files(empty)
    line = failed("train")
    assert "on the placebo market har the forecast garch beats" in line
    assert "nothing was registered" in line
    assert files(empty) == before


def test_too_few_rows_to_train_leave_nothing_behind(empty: Path) -> None:
    done("simulate", "--hours", "1")
    done("features")
    before = files(empty)
    line = failed("train")
    assert re.search(r"labelled rows are too few .*record or simulate at least two hours", line)
    assert files(empty) == before
    assert not Path("data/model").exists()


def test_a_lake_without_ticks(empty: Path) -> None:
    line = failed("features")
    assert "data/ticks" in line
    Path("data/ticks").mkdir(parents=True)
    assert "data/ticks" in failed("features")
    assert files(empty) == {"params.yaml"}


@pytest.mark.parametrize("command", ["train", "evaluate", "drift", "promote"])
def test_each_stage_says_which_one_comes_before_it(empty: Path, command: str) -> None:
    line = failed(command)
    assert re.search(r"volatility (features|train)", line)
    assert files(empty) == {"params.yaml"}


def test_corrupt_features(trained: Path) -> None:
    (path,) = Path("data/features").rglob("features.parquet")
    path.write_bytes(path.read_bytes()[:1000])
    for command in ("train", "evaluate", "drift"):
        assert "volatility features" in failed(command)


def test_corrupt_model(trained: Path) -> None:
    path = Path("data/model/arrays.npz")
    path.write_bytes(path.read_bytes()[:1000])
    for command in ("evaluate", "drift", "promote"):
        assert "no usable model" in failed(command)


@pytest.mark.parametrize("name", ["predictions.parquet", "training.json"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_corrupt_training(trained: Path, name: str, damage: str) -> None:
    path = Path("data/model") / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100])
    line = failed("evaluate")
    assert name in line
    assert "run `volatility train`" in line


def test_a_wrong_parameter(empty: Path) -> None:
    Path("params.yaml").write_text("train: {fold: 3}\n")
    line = failed("simulate")
    assert "params.yaml" in line
    assert "fold" in line
    assert files(empty) == {"params.yaml"}


def test_parameters_from_another_file(empty: Path) -> None:
    Path("other.yaml").write_text("simulate: {hours: 0.1}\n")
    done("--params", "other.yaml", "simulate")
    assert files(empty / "data")
    Path("other.yaml").write_text("simulate: {hour: 0.1}\n")
    assert "other.yaml" in failed("--params", "other.yaml", "simulate")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["simulate", "--hours", "many"],
        ["simulate", "--hour", "1"],
        ["import"],
        ["import", "nowhere.parquet"],
        ["evaluate", "--ticks", "nowhere"],
        ["train", "surplus"],
        ["features", "--lake", "params.yaml"],
    ],
)
def test_wrong_usage_is_exit_code_two(empty: Path, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert files(empty) == {"params.yaml"}


def test_a_market_that_cannot_be(empty: Path) -> None:
    assert "hours" in failed("simulate", "--hours", "-1")
    assert "seed" in failed("simulate", "--seed", "-1")
    Path("params.yaml").write_text("simulate: {start: yesterday}\n")
    assert "start" in failed("simulate")
    assert not list(empty.rglob("*.parquet"))


def test_an_unknown_model(trained: Path) -> None:
    assert "no version of crypto-vol-ml has the alias 'best'" in failed(
        "evaluate", "--model", "best"
    )
    assert "no version '7'" in failed("drift", "--model", "7")


def test_simulating_again_adds_nothing(empty: Path) -> None:
    first = done("simulate", "--hours", "0.2")
    before = files(empty)
    assert done("simulate", "--hours", "0.2") == first
    assert files(empty) == before


def commands() -> list[str]:
    return main.list_commands(click.Context(main))


def test_the_commands_of_the_design_are_there() -> None:
    assert set(commands()) >= {
        "simulate", "import", "features", "train", "evaluate", "promote", "rollback", "drift",
        "package", "demo", "doctor",
    }  # fmt: skip


@pytest.mark.parametrize("name", commands())
def test_every_help_has_an_example_that_would_work(name: str) -> None:
    text = " ".join(done(name, "--help").split())
    found = re.search(r"Example: volatility (.+?) Options:", text)
    assert found, text
    words = found.group(1).split()
    assert words[0] == name
    command = main.get_command(click.Context(main), name)
    assert command is not None
    known = {option for p in command.params for option in p.opts + p.secondary_opts}
    assert {word for word in words if word.startswith("--")} <= known
    assert "Example: volatility" in done("--help")


def test_a_fault_of_ours_is_one_line_with_its_kind(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(stages, "simulate_ticks", broken)
    line = failed("simulate")
    assert line.startswith("Error: ZeroDivisionError: two lines (")
    assert "VOLATILITY_DEBUG=1" in line
    monkeypatch.setenv("VOLATILITY_DEBUG", "1")
    assert isinstance(run("simulate").exception, ZeroDivisionError)


def test_stopping_is_no_traceback(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "simulate_ticks", stopped)
    result = run("simulate")
    assert (result.exit_code, result.output) == (1, "stopped\n")


def test_a_period_is_voided_by_its_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(tmp_path, monkeypatch)
    done("simulate", "--hours", "0.5")
    day = "2026-01-05T00:"
    period = ("void", "BTC-USD", "--why", "bad feed", "--from", f"{day}10", "--to", f"{day}11")
    assert re.match(r"\d+ records of BTC-USD are void", done(*period))
    assert "has no row of BTC-USD in this period" in failed(*period)
    wrong = run(*period[:-1], "11 o'clock")
    assert wrong.exit_code == 2
    assert "use 2026-01-05T10:00" in wrong.output
