"""Score feature rows behind MLflow's pyfunc interface; MLflow stores and runs this script.

This project does not load models through it: it exists for MLflow's own tools, such as
``mlflow models predict``. The service and the pipelines only read the bundle's data files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from volatility.features import FEATURE_NAMES
from volatility.models import bundle

SYMBOL = "symbol"


class SpikeModel(PythonModel):
    """Score data frames whose columns are feature names.

    Rows belong to the training symbol, or to an unknown symbol if there were several.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Read the bundle stored next to the script."""
        self._bundle = bundle.load(Path(context.artifacts["bundle"]))

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow passes it by name
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002 - as above
    ) -> npt.NDArray[np.float64]:
        """Return float64[n] scores; an absent column is a missing feature."""
        frame = model_input.reindex(columns=list(FEATURE_NAMES))
        rows = frame.to_numpy(dtype=np.float64, na_value=np.nan)
        return self._bundle.score(rows, np.full(len(rows), self._bundle.place(None)))


set_model(SpikeModel())
