"""Package the service and its model as a Bento that serves without a registry."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from volatility.models import BundleError
from volatility.models import bundle as bundles
from volatility.registry.errors import RegistryError
from volatility.registry.serving import choose, load
from volatility.registry.store import RegisteredModel

MODEL_FOLDER = "model"  # in the service's folder, only in a Bento
RECORD_FILE = "registered.json"
BENTOFILE = "bentofile.yaml"
SOURCES = ("volatility", "service", "params.yaml", "requirements.lock", "README.md", BENTOFILE)


class PackagingError(RuntimeError):
    """Report why a Bento cannot be built."""


class _Record(msgspec.Struct, frozen=True):
    """Represent the registry's metadata of a packaged model."""

    name: str
    version: str
    alias: str | None
    run_id: str | None
    digest: str
    tags: dict[str, str]
    metrics: dict[str, float]


def package(root: Path | str = ".") -> str:
    """Build a Bento of the service with the champion, or else with the newest version.

    Parameters
    ----------
    root : path
        Root folder of the repository.

    Returns
    -------
    str
        Tag of the Bento, for ``bentoml serve TAG`` and ``bentoml containerize TAG``.

    Raises
    ------
    PackagingError
        If ``root`` is not the repository or BentoML fails.
    RegistryError
        If there is no version to package.
    """
    root = Path(root)
    if not (root / BENTOFILE).is_file():
        raise PackagingError(f"{root.absolute()} has no {BENTOFILE}; run this in the repository")
    choice = choose()
    if choice.version is None:
        raise RegistryError("no version is registered; run `volatility train`")
    model = load(choice)
    with tempfile.TemporaryDirectory(prefix="volatility-bento-") as folder:
        for name in SOURCES:
            _copy(root / name, Path(folder, name))
        write_packaged(model, Path(folder, "service", MODEL_FOLDER))
        return _build(Path(folder), model)


def write_packaged(model: RegisteredModel, folder: Path) -> None:
    """Write a model's bundle and its registry metadata to a folder."""
    model.bundle.save(folder)
    record = _Record(
        name=model.name,
        version=model.version,
        alias=model.alias,
        run_id=model.run_id,
        digest=model.bundle.digest,
        tags=model.tags,
        metrics=model.metrics,
    )
    (folder / RECORD_FILE).write_bytes(msgspec.json.encode(record))


def is_packaged(folder: Path) -> bool:
    """Return whether the folder contains a packaged model."""
    return (folder / RECORD_FILE).is_file()


def read_packaged(folder: Path) -> RegisteredModel:
    """Load a model written by ``write_packaged``.

    Raises
    ------
    RegistryError
        If a file is damaged or has been replaced.
    """
    try:
        record = msgspec.json.decode((folder / RECORD_FILE).read_bytes(), type=_Record)
        loaded = bundles.load(folder)
    except (OSError, msgspec.MsgspecError, BundleError) as error:
        raise RegistryError(f"the packaged model cannot be used: {error}") from error
    if loaded.digest != record.digest:
        raise RegistryError("the packaged model is refused: its digest differs; package it again")
    return RegisteredModel(
        bundle=loaded,
        name=record.name,
        version=record.version,
        alias=record.alias,
        run_id=record.run_id,
        tags=record.tags,
        metrics=record.metrics,
    )


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", MODEL_FOLDER)
        shutil.copytree(source, target, ignore=ignored)
    elif source.exists():
        shutil.copy2(source, target)


def _build(folder: Path, model: RegisteredModel) -> str:
    """Run BentoML in a separate process, which imports the service from the folder."""
    command = [sys.executable, "-m", "bentoml", "build", "--output", "tag"]
    for label, value in (
        ("model_name", model.name),
        ("model_version", model.version),
        ("model_digest", model.bundle.digest[:12]),
    ):
        command += ["--label", f"{label}={value}"]
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        check=False,
    )
    tags = [
        line.removeprefix("__tag__:")
        for line in result.stdout.splitlines()
        if line.startswith("__tag__:")
    ]
    if result.returncode or not tags:
        lines = (result.stderr or result.stdout).strip().splitlines() or ["no output"]
        raise PackagingError(f"bentoml build failed: {lines[-1]}")
    return tags[-1].strip()
