"""Format results as text for a terminal."""

from __future__ import annotations

from volatility.evaluation import DriftResult, Evaluation
from volatility.reports.plots import by_qlike


def leaderboard(evaluation: Evaluation) -> str:
    """Format an evaluation's models as a table for a terminal, lowest QLIKE first."""
    placebo = evaluation.placebo or {}
    lines = [
        (
            f"{evaluation.rows:,} rows = {evaluation.effective_windows:,} independent windows of "
            f"{evaluation.horizon_seconds} s, base rate {evaluation.base_rate:.3f}"
        ),
        (
            f"{'model':<18} {'QLIKE':>8} {'CRPS bps':>9} {'PR-AUC':>7} {'Brier':>7} "
            f"{'cal.err':>8} {'alerts/h':>9} {'placebo':>8}"
        ),
    ]
    for name in by_qlike(evaluation.models):
        m = evaluation.models[name]
        skills = [market[name].skill or 0.0 for market in placebo.values() if name in market]
        worst = f"{max(skills):+8.4f}" if skills else f"{'':>8}"
        lines.append(
            f"{name:<18} {_number(m.qlike, 8, 4)} {_number(m.crps_bps, 9, 4)} "
            f"{_number(m.pr_auc, 7)} {_number(m.brier, 7, 4)} "
            f"{_number(m.calibration_error, 8, 4)} {_number(m.alerts_per_hour, 9, 2)} {worst}"
        )
    versus = evaluation.ml_vs_best_simple
    if versus is not None:
        for measure, unit, found in (
            ("qlike", "below zero", versus.qlike),
            ("pr_auc", "above zero", versus.pr_auc),
        ):
            low, high = found.interval
            if found.difference is not None and low is not None and high is not None:
                lines.append(
                    f"ml less {versus.baseline}, {measure} ({unit} is better): "
                    f"{found.difference:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"
                )
    lines.append("placebo: QLIKE gained over the true forecast of a simulated market, at most zero")
    return "\n".join(lines)


def _number(value: float | None, width: int, digits: int = 3) -> str:
    return f"{'n/a':>{width}}" if value is None else f"{value:>{width}.{digits}f}"


def drift_line(result: DriftResult) -> str:
    """Summarise in one line how many inputs have drifted."""
    return f"{result.drifted_features} of {result.features} model inputs have drifted: " + (
        "alert" if result.alert else "no alert"
    )
