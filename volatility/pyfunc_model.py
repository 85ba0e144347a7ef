"""Score feature rows behind MLflow's pyfunc interface; MLflow stores and runs this script.

Nothing in this project loads models through it: it is there for MLflow's own tools, such as
``mlflow models predict``. The service and the pipelines read the bundle's data files alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from volatility import bundle
from volatility.feature_table import FEATURE_NAMES


class SpikeModel(PythonModel):
    """Give the bundle's scores for data frames whose columns are feature names."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the bundle that was stored beside the script."""
        self._bundle = bundle.load(Path(context.artifacts["bundle"]))

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow passes it by name
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002 - as above
    ) -> npt.NDArray[np.float64]:
        """Give float64[n] scores; a column that is absent is a missing feature."""
        frame = model_input.reindex(columns=list(FEATURE_NAMES))
        return self._bundle.score(frame.to_numpy(dtype=np.float64, na_value=np.nan))


set_model(SpikeModel())
