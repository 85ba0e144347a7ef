"""Print a software bill of materials (CycloneDX 1.6), or the licences.

Usage: ``python -m volatility.dev.bom > volatility-service.cdx.json``. Lists what this project
requires, as installed in this environment; with ``--all``, every installed Python package and, on
Debian, every system package: run it like that inside the image. The release workflow attaches
both. Format: https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "volatility-service"
UNKNOWN = "unknown"
LONGEST_LICENCE = 100  # characters; some packages put the whole text into the field
DEBIAN_FORM = r"--showformat=${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n"
DEBIAN_DOCUMENTS = Path("/usr/share/doc")


class Component(msgspec.Struct, frozen=True, order=True):
    """Represent one package.

    ``licence`` is an SPDX expression if ``spdx``, otherwise whatever the package calls it.
    """

    kind: str  # pypi or deb
    name: str
    version: str
    licence: str = UNKNOWN
    spdx: bool = False
    architecture: str = ""

    @property
    def purl(self) -> str:
        """Return the package URL, which identifies it for vulnerability scanners."""
        space = "debian/" if self.kind == "deb" else ""
        about = f"?arch={self.architecture}" if self.architecture else ""
        return f"pkg:{self.kind}/{space}{quote(self.name)}@{quote(self.version)}{about}"


def python_components(installed: Iterable[Distribution]) -> list[Component]:
    """Describe Python packages, sorted, each once."""
    return sorted(
        {
            Component("pypi", canonicalize_name(one.metadata["Name"]), one.version, *_licence(one))
            for one in installed
        }
    )


def required(installed: Iterable[Distribution], project: str = PROJECT) -> list[Distribution]:
    """Select a project and what it requires in this environment, directly or not.

    Raises
    ------
    LookupError
        When one of them is not installed.
    """
    known = {canonicalize_name(one.metadata["Name"]): one for one in installed}
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(project), "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        if name not in known:
            raise LookupError(f"{name} is not installed; run `make install`")
        found[name] = known[name]
        for requirement in map(Requirement, known[name].requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                other = canonicalize_name(requirement.name)
                waiting += [(other, one) for one in ("", *requirement.extras)]
    return list(found.values())


def debian_components(listed: str, documents: Path = DEBIAN_DOCUMENTS) -> list[Component]:
    """Describe Debian packages: lines of status, name, version, architecture, between tabs."""
    found = []
    for line in listed.splitlines():
        status, name, version, architecture = line.split("\t")
        if status != "installed":  # removed, but its configuration is kept
            continue
        copyright_file = documents / name / "copyright"
        names: list[str] = []
        if copyright_file.is_file():
            text = copyright_file.read_text(errors="replace")
            names = re.findall(r"^License: *(\S.*?) *$", text, re.MULTILINE)
        licence = ", ".join(sorted(set(names))) or UNKNOWN
        found.append(Component("deb", name, version, licence, architecture=architecture))
    return sorted(found)


def bill(components: Iterable[Component], project: str = PROJECT) -> dict[str, Any]:
    """Build the CycloneDX document; the project itself is its subject."""
    subject = [one for one in components if (one.kind, one.name) == ("pypi", project)]
    rest = [_entry(one, "library") for one in components if one not in subject]
    tool = {"type": "application", "name": "volatility.dev.bom"}
    metadata: dict[str, Any] = {"tools": {"components": [tool]}}
    if subject:
        metadata["component"] = _entry(subject[0], "application")
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": metadata,
        "components": rest,
    }


def licences(components: Iterable[Component]) -> Iterator[str]:
    """Yield a line of name, version and licence for each package, separated by tabs."""
    for one in components:
        yield f"{one.name}\t{one.version}\t{one.licence}"


def _entry(one: Component, kind: str) -> Mapping[str, Any]:
    entry: dict[str, Any] = {
        "type": kind,
        "bom-ref": one.purl,
        "name": one.name,
        "version": one.version,
        "purl": one.purl,
    }
    if one.spdx:
        entry["licenses"] = [{"expression": one.licence}]
    elif one.licence != UNKNOWN:
        entry["licenses"] = [{"license": {"name": one.licence}}]
    return entry


def _licence(one: Distribution) -> tuple[str, bool]:
    """Return a package's licence, and whether it is an SPDX expression."""
    told = one.metadata
    if "License-Expression" in told:
        return told["License-Expression"], True
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in told.get_all("Classifier") or ()
        if text.startswith("License :: ")
    ]
    named = told["License"].strip() if "License" in told else ""
    if named and "\n" not in named and len(named) <= LONGEST_LICENCE:
        return named, False
    return ", ".join(sorted(set(classifiers) - {"OSI Approved"})) or UNKNOWN, False


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0, or 1 after one line that says what is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m volatility.dev.bom",
        description="Print a software bill of materials of this environment (CycloneDX, JSON).",
        epilog="example: python -m volatility.dev.bom --licences",
    )
    parser.add_argument("--all", action="store_true", help="Whatever is installed, Debian's too.")
    parser.add_argument("--licences", action="store_true", help="Print a table of licences.")
    options = parser.parse_args(arguments)
    installed = list(distributions())
    try:
        components = python_components(installed if options.all else required(installed))
    except LookupError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if options.all and shutil.which("dpkg-query"):
        listed = subprocess.check_output(["dpkg-query", "--show", DEBIAN_FORM], text=True)
        components += debian_components(listed)
    if options.licences:
        print("\n".join(licences(components)))
    else:
        print(json.dumps(bill(components), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
