"""Run the whole chain once: the stages of `dvc repro` in order.

Example: python -m pipelines.chain
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from pipelines.drift import drift
from pipelines.ticks import ticks
from pipelines.train import train


@flow(name="chain")
def chain(
    lake: str = "data/snapshot",
    data: str = "data",
    reports: str = "reports",
    params: str = "params.yaml",
) -> dict[str, Any]:
    """Fill the lake, build features, train, evaluate, promote and compare."""
    ticks(lake, params)
    trained = train(lake, data, reports, params)
    return {**trained, "drift": drift(data, reports, params)}


if __name__ == "__main__":
    chain()
