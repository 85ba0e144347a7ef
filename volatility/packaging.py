"""Pack the service and its model into a Bento that serves without a registry."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from volatility import bundle as bundles
from volatility import registry
from volatility.bundle import BundleError
from volatility.registry import RegisteredModel, RegistryError

MODEL_FOLDER = "model"  # of the service's folder, in a Bento alone
RECORD_FILE = "registered.json"
BENTOFILE = "bentofile.yaml"
SOURCES = ("volatility", "service", "params.yaml", "requirements.lock", "README.md", BENTOFILE)


class PackagingError(RuntimeError):
    """A Bento that cannot be built; the text says why."""


class _Record(msgspec.Struct, frozen=True):
    """Hold what the registry knew about a packaged model."""

    name: str
    version: str
    alias: str | None
    run_id: str | None
    digest: str
    tags: dict[str, str]
    metrics: dict[str, float]


def package(root: Path | str = ".") -> str:
    """Build a Bento of the service with the champion, or else the newest version, inside.

    Parameters
    ----------
    root : path
        The repository.

    Returns
    -------
    str
        Tag of the Bento, for ``bentoml serve TAG`` and ``bentoml containerize TAG``.

    Raises
    ------
    PackagingError
        When this is not the repository or BentoML cannot build.
    RegistryError
        When there is no version to pack.
    """
    root = Path(root)
    if not (root / BENTOFILE).is_file():
        raise PackagingError(f"{root.absolute()} holds no {BENTOFILE}; run it in the repository")
    model = registry.serving()
    with tempfile.TemporaryDirectory(prefix="volatility-bento-") as folder:
        for name in SOURCES:
            _copy(root / name, Path(folder, name))
        write_packaged(model, Path(folder, "service", MODEL_FOLDER))
        return _build(Path(folder), model)


def write_packaged(model: RegisteredModel, folder: Path) -> None:
    """Write a model's bundle, and what the registry knows about it, into a folder."""
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
    """Tell whether the folder holds a packaged model."""
    return (folder / RECORD_FILE).is_file()


def read_packaged(folder: Path) -> RegisteredModel:
    """Load what ``write_packaged`` wrote.

    Raises
    ------
    RegistryError
        When a file is damaged or is not the one that was packed.
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
    """Run BentoML in a process of its own: it imports the service from the folder."""
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
