"""Train, register, evaluate, and promote if the model has earned it."""

from __future__ import annotations

from typing import Any

from prefect import get_run_logger

from pipelines import artifacts
from pipelines.common import paths, read, step
from pipelines.features import build_step
from pipelines.watch import watched
from volatility import stages
from volatility.evaluation import Evaluation, Verdict
from volatility.reports import leaderboard

DESCRIPTION = (
    "Build features, train walk-forward, run the placebo, register and evaluate the model, "
    "and promote it if its recipe passes the gate."
)


def fit(data: str, reports: str, params: str) -> stages.Registration:
    """Train walk-forward, run the placebo and register the model as challenger."""
    return stages.train(read(params), paths("data/ticks", data, reports), progress=False)


def promote(data: str, reports: str, params: str, done: stages.Registration) -> tuple[str, Verdict]:
    """Promote the model if it passes the gate; return its version and the verdict."""
    return stages.promote(read(params), paths("data/ticks", data, reports), done.trained)


def evaluate(
    data: str, reports: str, params: str, done: stages.Registration, verdict: Verdict
) -> Evaluation:
    """Write the evaluation report."""
    places = paths("data/ticks", data, reports)
    return stages.evaluate(read(params), places, done=done, verdict=verdict)


def sentence(version: str, verdict: Verdict) -> str:
    """Describe the outcome for a version."""
    if verdict.earned:
        return f"Version {version} is champion."
    return f"Version {version} has not earned promotion: {'; '.join(verdict.reasons)}."


fit_step = step("train", "Train walk-forward, run the placebo, register as challenger.")(fit)
evaluate_step = step("evaluate", "Measure all models on the same rows.")(evaluate)
promote_step = step("promote", "Run the gate under the promotion lock.")(promote)


@watched("train", description=DESCRIPTION, timeout_seconds=4 * 3600.0)
def train(
    lake: str = "data/ticks",
    data: str = "data",
    reports: str = "reports",
    params: str = "params.yaml",
) -> dict[str, Any]:
    """Train on all captured data; return the version and the gate's verdict."""
    build_step(lake, data, params)
    done = fit_step(data, reports, params)
    version, verdict = promote_step(data, reports, params, done)
    result = evaluate_step(data, reports, params, done, verdict)
    told = sentence(version, verdict)
    artifacts.show_table(
        "leaderboard",
        artifacts.ranked(result.models, artifacts.LEADERBOARD),
        f"Out of sample, base rate {result.base_rate:.3f}. {told}",
    )
    page = paths(lake, data, reports).reports / "evaluation.html"
    artifacts.show_report("evaluation", page, told)
    get_run_logger().info("%s\n%s", leaderboard(result), told)
    return {"name": done.version.name, "version": version, "promoted": verdict.earned}


if __name__ == "__main__":
    train()
