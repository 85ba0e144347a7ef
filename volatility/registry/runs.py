"""Log a training run with its model, parameters, metrics and reports."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from volatility.features import FEATURE_NAMES
from volatility.models import Bundle
from volatility.registry import sqlite_file
from volatility.registry.tracking import retry_while_locked

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

EXPERIMENT = "crypto-volatility"
PYFUNC_PACKAGES = ("mlflow", "msgspec", "numba", "numpy", "pandas", "pyarrow", "scikit-learn")

logger = logging.getLogger(__name__)


def log_run(
    client: MlflowClient,
    bundle: Bundle,
    *,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    artifacts: Sequence[Path],
    tags: Mapping[str, str],
) -> tuple[str, str]:
    """Log a run with its model; return the run's id and the URI of the model."""
    import mlflow

    experiment = _experiment(client)
    run_id: str = retry_while_locked(client.create_run, experiment, tags=dict(tags)).info.run_id
    with retry_while_locked(mlflow.start_run, run_id=run_id):
        for key, value in _flat(parameters).items():
            retry_while_locked(client.log_param, run_id, key, value)
        retry_while_locked(
            client.log_param, run_id, "data_digest", bundle.specification.data_digest
        )
        for key, number in metrics.items():
            if math.isfinite(number):
                retry_while_locked(client.log_metric, run_id, key, float(number))
        for path in artifacts:
            log = client.log_artifacts if path.is_dir() else client.log_artifact
            retry_while_locked(log, run_id, str(path), "reports")
        with tempfile.TemporaryDirectory() as folder:
            stored = Path(folder, "bundle")  # MLflow names an artifact after its folder
            bundle.save(stored)
            source: str = retry_while_locked(_log_model, bundle, stored)
    return run_id, source


def _log_model(bundle: Bundle, stored: Path) -> str:
    import mlflow.pyfunc
    import pandas as pd

    rows = [
        [np.nan if value is None else value for value in row]
        for row in bundle.specification.example_rows
    ]
    example = pd.DataFrame(rows, columns=list(FEATURE_NAMES), dtype=np.float64)
    package = Path(__file__).parents[1]
    info = mlflow.pyfunc.log_model(
        name="model",
        python_model=str(Path(__file__).with_name("pyfunc_model.py")),
        code_paths=[str(package)],
        artifacts={"bundle": str(stored)},
        signature=_signature(),
        input_example=example,
        pip_requirements=[f"{p}=={importlib.metadata.version(p)}" for p in PYFUNC_PACKAGES],
    )
    return str(info.model_uri)


def _signature() -> ModelSignature:
    """Describe the input, optional float64 columns, and the output, one score per row."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    return ModelSignature(
        inputs=Schema([ColSpec("double", name, required=False) for name in FEATURE_NAMES]),
        outputs=Schema([TensorSpec(np.dtype(np.float64), (-1,))]),
    )


def _experiment(client: MlflowClient) -> str:
    """Find, restore or create the experiment; with SQLite its artifacts are beside the database."""
    from mlflow.exceptions import MlflowException

    uri = client.tracking_uri
    location = sqlite_file.artifacts(uri).as_uri() if uri.startswith(sqlite_file.SQLITE) else None
    found = retry_while_locked(client.get_experiment_by_name, EXPERIMENT)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            retry_while_locked(client.restore_experiment, found.experiment_id)
            logger.warning("the experiment %s had been deleted and was restored", EXPERIMENT)
        if location is not None:
            sqlite_file.keep_beside(uri, found.artifact_location)
        return str(found.experiment_id)
    try:
        return str(retry_while_locked(client.create_experiment, EXPERIMENT, location))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return _experiment(client)  # another process created it in the meantime


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested parameters to ``section.name``."""
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
