"""The wheel contains all that the package needs, and works outside the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

import volatility

ROOT = Path(__file__).parents[2]
PACKAGES = ("volatility", "pipelines", "service")
DATA = (
    "volatility/py.typed",
    *(path.relative_to(ROOT).as_posix() for path in (ROOT / "volatility").rglob("templates/*.*")),
    *(path.relative_to(ROOT).as_posix() for path in (ROOT / "volatility").rglob("shipped/*.*")),
    "service/docs.html",
)
NOTEBOOK = """
import numpy as np

from volatility.features import feature_batches
from volatility.models import shipped
from volatility.settings import Features
from volatility.simulation import simulate

market = simulate("BTC-USD", 1_767_571_200_000_000_000, hours=0.75, seed=7)
steps, rows = zip(*((t.copy(), r.copy()) for t, r in feature_batches(market, Features())))
rows = np.concatenate(rows)
model = shipped().bundle
said = model.forecast(rows[-60:], model.places(["BTC-USD"] * 60))
assert said.volatility_bps.shape == (60, 3)
assert (said.volatility_bps > 0.0).all()
assert ((said.exceedance > 0.0) & (said.exceedance < 1.0)).all()
print(len(rows), "rows")
"""


def run(command: list[str], folder: Path) -> str:
    """Run a command in a folder, without what leads Python to the repository."""
    led = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=300,
        env={key: value for key, value in os.environ.items() if key not in led},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build source archive and wheel from a copy: a build leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", "built", "."], folder)
    (built,) = (folder / "built").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel where the dependencies are and the repository is not.

    The packages of this environment are seen through a path; the .pth file beside them that leads
    to the repository has no effect from there.
    """
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", "."], folder)
    python = folder / "bin" / "python"
    run([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps",
         "--no-index", str(wheel)], folder)  # fmt: skip
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_holds_the_data_and_no_other_package(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert len(DATA) > 10
    assert [name for name in DATA if name not in names] == []
    assert {name.partition("/")[0] for name in names} == {
        *PACKAGES,
        f"volatility_service-{volatility.__version__}.dist-info",
    }
    code = {name for name in names if name.endswith(".py")}
    assert code == {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }


def test_the_command_runs_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    said = run([str(environment / "volatility"), "--help"], tmp_path)
    assert said.startswith("Usage: volatility")
    assert " predict " in said, "the service's command is an entry point of the wheel"


def test_the_version_is_the_wheels(environment: Path, tmp_path: Path) -> None:
    script = (
        "import volatility, importlib.metadata as m; "
        "print(volatility.__file__, volatility.__version__, m.version('volatility-service'))"
    )
    file, own, installed = run([str(environment / "python"), "-c", script], tmp_path).split()
    assert Path(file).is_relative_to(environment.parent)
    assert own == installed == volatility.__version__


def test_the_core_forecasts_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    said = run([str(environment / "python"), "-c", NOTEBOOK], tmp_path)
    assert int(said.split()[0]) > 2_000
    assert list(tmp_path.iterdir()) == []
