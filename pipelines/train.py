"""Train, register, evaluate, and promote if the model has earned it."""

from __future__ import annotations

from typing import Any

from prefect import get_run_logger

from pipelines import artifacts
from pipelines.common import paths, read, step
from pipelines.features import build_step
from pipelines.watch import watched
from volatility import registry, stages
from volatility.evaluation import Json

DESCRIPTION = (
    "Features, walk-forward training, placebo, registration, evaluation, and promotion of the"
    " model if it beats champion and best baseline beyond doubt."
)


def fit(data: str, reports: str, params: str) -> registry.Registered:
    """Train walk-forward, run the placebo and register the model as challenger."""
    return stages.train(read(params), paths("data/ticks", data, reports), progress=False)


def evaluate(data: str, reports: str, params: str) -> Json:
    """Write the evaluation report."""
    return stages.evaluate(read(params), paths("data/ticks", data, reports))


def promote(data: str, reports: str, params: str) -> tuple[str, Json]:
    """Promote the model if it has earned it; give its version and the verdict."""
    return stages.promote(read(params), paths("data/ticks", data, reports))


def sentence(version: str, verdict: Json) -> str:
    """Say what became of the version."""
    if verdict["earned"]:
        return f"Version {version} is champion."
    return f"Version {version} has not earned promotion: {'; '.join(verdict['reasons'])}."


fit_step = step("train", "Walk-forward, placebo, register as challenger.")(fit)
evaluate_step = step("evaluate", "Measure all models on the same rows.")(evaluate)
promote_step = step("promote", "Run the gate under the promotion lock.")(promote)


@watched("train", description=DESCRIPTION, timeout_seconds=4 * 3600.0)
def train(
    lake: str = "data/ticks",
    data: str = "data",
    reports: str = "reports",
    params: str = "params.yaml",
) -> dict[str, Any]:
    """Train on all that has been captured; give the version and the verdict of the gate."""
    build_step(lake, data, params)
    registered = fit_step(data, reports, params)
    result = evaluate_step(data, reports, params)
    version, verdict = promote_step(data, reports, params)
    told = sentence(version, verdict)
    artifacts.show_table(
        "leaderboard",
        artifacts.ranked(result["models"], artifacts.LEADERBOARD),
        f"Out of sample, base rate {result['base_rate']:.3f}. {told}",
    )
    page = paths(lake, data, reports).reports / "evaluation.html"
    artifacts.show_report("evaluation", page, told)
    get_run_logger().info("%s\n%s", stages.leaderboard(result), told)
    return {"name": registered.name, "version": version, "promoted": verdict["earned"]}


if __name__ == "__main__":
    train()
