"""The bill of materials names what is installed, with versions and licences."""

from __future__ import annotations

import json
from importlib.metadata import Distribution, PathDistribution, distributions
from pathlib import Path

import pytest
import yaml

from tests.unit.test_ground import pins
from volatility.dev import bom

ROOT = Path(__file__).parents[2]


def installed(folder: Path, name: str, *lines: str) -> Distribution:
    path = folder / f"{name}-1.0.dist-info"
    path.mkdir()
    text = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *lines])
    (path / "METADATA").write_text(text + "\n")
    return PathDistribution(path)


def needs(*requirements: str) -> list[str]:
    return [f"Requires-Dist: {requirement}" for requirement in requirements]


def test_what_the_project_requires_is_what_the_runtime_lock_pins() -> None:
    pinned = pins("requirements.lock")
    found = {one.name: one.version for one in bom.python_components(bom.required(distributions()))}
    assert found.pop(bom.PROJECT)
    assert {name: pinned.get(name) for name in found} == found
    assert {"bentoml", "kafka-python", "mlflow", "numpy"} <= found.keys()
    assert not {"pytest", "ruff", "mypy"} & found.keys()


def test_only_what_applies_here_is_required(tmp_path: Path) -> None:
    mine = [
        installed(tmp_path, "Own_Project", *needs("web[fast]", 'x; extra == "y"')),
        installed(
            tmp_path,
            "web",
            *needs('speed; extra == "fast"', 'slow; extra == "slow"', 'old; python_version < "3"'),
        ),
        installed(tmp_path, "speed", *needs("web")),
        installed(tmp_path, "unrelated"),
    ]
    found = bom.python_components(bom.required(mine, "own-project"))
    assert [one.name for one in found] == ["own-project", "speed", "web"]
    with pytest.raises(LookupError, match="speed is not installed"):
        bom.required([mine[0], mine[1]], "own-project")


@pytest.mark.parametrize(
    ("lines", "licence", "spdx"),
    [
        (["License-Expression: MIT OR Apache-2.0", "License: Other"], "MIT OR Apache-2.0", True),
        (["License: BSD"], "BSD", False),
        (["Classifier: License :: OSI Approved :: MIT License"], "MIT License", False),
        ([f"License: {'long ' * 50}", "Classifier: License :: OSI Approved"], bom.UNKNOWN, False),
        ([], bom.UNKNOWN, False),
    ],
)
def test_a_licence_is_taken_where_the_package_says_it(
    tmp_path: Path, lines: list[str], licence: str, spdx: bool
) -> None:
    (one,) = bom.python_components([installed(tmp_path, "a", *lines)])
    assert (one.licence, one.spdx) == (licence, spdx)
    (entry,) = bom.bill([one])["components"]
    if licence == bom.UNKNOWN:
        assert "licenses" not in entry
    elif spdx:
        assert entry["licenses"] == [{"expression": licence}]
    else:
        assert entry["licenses"] == [{"license": {"name": licence}}]


def test_the_debian_packages_of_an_image_are_listed(tmp_path: Path) -> None:
    (tmp_path / "zlib1g").mkdir()
    (tmp_path / "zlib1g" / "copyright").write_text("Files: *\nLicense: Zlib\n\nLicense: Zlib\n")
    lines = [
        "installed\tzlib1g\t1:1.2.13+b1\tamd64",
        "installed\tbase\t2\tall",
        "config-files\tx\t1\tall",
    ]
    listed = "\n".join(lines)
    base, zlib = bom.debian_components(listed, tmp_path)
    assert (base.licence, zlib.licence) == (bom.UNKNOWN, "Zlib")
    assert zlib.purl == "pkg:deb/debian/zlib1g@1%3A1.2.13%2Bb1?arch=amd64"


@pytest.mark.parametrize("options", [[], ["--all"]])
def test_the_command_prints_cyclonedx_and_a_table(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bom.main(options) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    assert told["metadata"]["component"]["purl"].startswith(f"pkg:pypi/{bom.PROJECT}@")
    references = [one["bom-ref"] for one in told["components"]]
    assert len(references) == len(set(references)) > 100
    assert bom.main([*options, "--licences"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(references) + 1
    assert all(line.count("\t") == 2 for line in lines)


def test_a_release_lists_wheel_and_image() -> None:
    (job,) = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"].values()
    script = "\n".join(step.get("run", "") for step in job["steps"])
    (image,) = {
        one["image"]
        for one in yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"].values()
        if "build" in one
    }
    inside = f"docker run --rm {image} python -m volatility.dev.bom --all"
    assert f"{inside} > dist/image.cdx.json" in script
    assert f"{inside} --licences > dist/image-licences.tsv" in script
    assert ".venv/bin/python -m volatility.dev.bom > dist/wheel.cdx.json" in script
    assert script.index("make wheel") < script.index("bom"), "`make wheel` empties dist/"
    assert script.index("bom") < script.index("gh release create")
