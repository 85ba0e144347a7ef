"""Compare the newest feature rows with those that the model was trained on."""

from __future__ import annotations

from prefect import flow

from pipelines.common import paths, read
from volatility import stages


@flow(name="drift")
def drift(data: str = "data", reports: str = "reports", params: str = "params.yaml") -> bool:
    """Write the drift report; tell whether it raises the alert."""
    result = stages.drift(read(params), paths("data/ticks", data, reports))
    return result.alert
