"""Format results as text for a terminal."""

from __future__ import annotations

from volatility.evaluation import DriftResult
from volatility.files import Json


def leaderboard(result: Json) -> str:
    """Format an evaluation's models as a table for a terminal, lowest QLIKE first."""
    placebo = result.get("placebo") or {}
    lines = [
        (
            f"{result['rows']:,} rows = {result['effective_windows']:,} independent windows of "
            f"{result['horizon_seconds']} s, base rate {result['base_rate']:.3f}"
        ),
        (
            f"{'model':<18} {'QLIKE':>8} {'CRPS bps':>9} {'PR-AUC':>7} {'Brier':>7} "
            f"{'cal.err':>8} {'alerts/h':>9} {'placebo':>8}"
        ),
    ]
    ranked = sorted(result["models"].items(), key=lambda item: item[1]["qlike"])
    for name, m in ranked:
        skills = [market[name]["skill"] for market in placebo.values() if name in market]
        worst = f"{max(skills):+8.4f}" if skills else f"{'':>8}"
        lines.append(
            f"{name:<18} {m['qlike']:>8.4f} {m['crps_bps']:>9.4f} {_number(m['pr_auc'], 7)} "
            f"{m['brier']:>7.4f} {m['calibration_error']:>8.4f} {m['alerts_per_hour']:>9.2f} "
            f"{worst}"
        )
    versus = result.get("ml_vs_best_simple")
    for measure, unit in (("qlike", "below zero"), ("pr_auc", "above zero")):
        if versus and versus[measure]["interval"][0] is not None:
            low, high = versus[measure]["interval"]
            lines.append(
                f"ml less {versus['baseline']}, {measure} ({unit} is better): "
                f"{versus[measure]['difference']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"
            )
    lines.append("placebo: QLIKE gained over the true forecast of a simulated market, at most zero")
    return "\n".join(lines)


def _number(value: float | None, width: int) -> str:
    return f"{'n/a':>{width}}" if value is None else f"{value:>{width}.3f}"


def drift_line(result: DriftResult) -> str:
    """Summarise in one line how many inputs have drifted."""
    return f"{result.drifted_features} of {result.features} model inputs have drifted: " + (
        "alert" if result.alert else "no alert"
    )
