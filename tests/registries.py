"""Provide each test with its own model registry, without the seconds MLflow takes to create one."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from mlflow.tracking import MlflowClient

from tests.bundles import small_bundle
from volatility import registry
from volatility.registry.tracking import connect
from volatility.settings import Environment

NAME = "crypto-vol-ml"


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder, "mlflow.db")
        uri = f"sqlite:///{database}"
        connect(Environment(mlflow_tracking_uri=uri), create=True).search_registered_models()
        return database.read_bytes()


def make_registry(folder: Path) -> str:
    """Put an empty registry into a folder; give its address."""
    database = folder / "mlflow.db"
    database.write_bytes(_empty())
    return f"sqlite:///{database}"


def register_small(folder: Path, seed: int = 0, **given: object) -> registry.Registered:
    """Register the small bundle of a seed in the registry of the environment."""
    stored = folder / f"bundle-{seed}"
    shutil.rmtree(stored, ignore_errors=True)
    small_bundle(seed).save(stored)
    arguments = {"parameters": {"train": {"seed": seed}}, "metrics": {"pr_auc": 0.3}, **given}
    return registry.register(stored, **arguments)  # type: ignore[arg-type]


def promoted(folder: Path, count: int = 2) -> None:
    """Register so many versions and promote one after the other."""
    for seed in range(count):
        register_small(folder, seed=seed)
        registry.promote(str(seed + 1), evidence={})


def versions(store: MlflowClient) -> list[str]:
    """Return the versions that MLflow lists."""
    return sorted(str(v.version) for v in store.search_model_versions(f"name='{NAME}'"))


def chosen() -> tuple[str | None, str, str | None]:
    """Return the serving version and variant, and the challenger."""
    choice = registry.choose()
    return choice.version, choice.variant, choice.challenger
