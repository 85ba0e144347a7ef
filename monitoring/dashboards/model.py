"""Model: live skill, and drift of the inputs from the training rows."""

from __future__ import annotations

from monitoring.dashboards.panels import BLUE, GREEN, RED, YELLOW, Dashboard, Panel, stat

BY_MODEL = "{{model}} {{model_version}}"


def live(metric: str) -> dict[str, str]:
    """Return the query for a live metric of each model."""
    return {BY_MODEL: f'max by (model, model_version) (volatility_live_{metric}{{job="flows"}})'}


DASHBOARD = Dashboard(
    uid="volatility-model",
    title="Model",
    description="Live skill, measured once outcomes are known, and drift of the inputs.",
    sections={
        "Now": [
            stat(
                "Champion minus baseline",
                "Live QLIKE: below zero the champion beats the best simple forecast; zero while "
                "that forecast serves. Above 0.02 for an hour, with enough rows, it raises the "
                "alert SkillBelowBaseline.",
                "none",
                "volatility:live_qlike:champion_less_baseline or vector(0)",
                steps=[(0, YELLOW), (0.02, RED)],
            ),
            stat(
                "Demoted",
                "Whether live evidence has demoted the champion; the best simple forecast serves "
                "in its place.",
                "short",
                'max(volatility_model_demoted{job="flows"})',
                words={0: ("no", GREEN), 1: ("yes", RED)},
            ),
            stat(
                "Base rate",
                "Share of these rows followed by a spike: the PR-AUC of a forecast without skill.",
                "percentunit",
                'max(volatility_live_base_rate{job="flows"})',
                base=BLUE,
            ),
            stat(
                "Labelled rows",
                "Predictions with a known outcome, one per 15 s. Below 2,880, half a day of one "
                "symbol, the metrics are mostly noise.",
                "short",
                'max(volatility_rows_labelled{job="flows"})',
                steps=[(2880, GREEN)],
                base=YELLOW,
            ),
            stat(
                "Inputs drifted",
                "Share of the model's inputs. At drift.drift_share and above it raises the alert "
                "Drift.",
                "percentunit",
                'max(volatility_drift_share{job="flows"})',
                steps=[(0.25, YELLOW), (0.5, RED)],
            ),
            stat(
                "Drift alert",
                "As reported by the drift flow.",
                "short",
                'max(volatility_drift_alert{job="flows"})',
                words={0: ("no", GREEN), 1: ("yes", RED)},
            ),
        ],
        "Live skill": [
            Panel(
                "QLIKE",
                "Loss of the volatility forecasts of all models on the same rows. Lower is better, "
                "and only differences are meaningful: a calm market lowers it for all models.",
                "none",
                live("qlike"),
                width=12,
            ),
            Panel(
                "Evidence against the champion",
                "E-value that the best simple forecast is better, since the champion was "
                "promoted. It starts at 1, and at 20 the champion is demoted.",
                "none",
                {
                    "version {{model_version}}": "max by (model_version) "
                    '(volatility_live_e_value_against{job="flows"}) or on () vector(1)'
                },
                steps=[(20, RED)],
                width=12,
            ),
            Panel(
                "PR-AUC",
                "PR-AUC of the spike probability. A value at the base rate means no skill.",
                "percentunit",
                {
                    **live("pr_auc"),
                    "base rate": 'max(volatility_live_base_rate{job="flows"})',
                },
                width=12,
            ),
            Panel(
                "Brier score",
                "Mean squared error of the probability: lower is better. A model that always "
                "forecasts the base rate r scores r (1 - r).",
                "none",
                {
                    **live("brier_score"),
                    "base rate only": 'max(volatility_live_base_rate{job="flows"}) * '
                    '(1 - max(volatility_live_base_rate{job="flows"}))',
                },
                width=12,
            ),
            Panel(
                "Precision",
                "Share of alerts followed by a spike.",
                "percentunit",
                live("precision"),
            ),
            Panel(
                "Recall",
                "Share of spikes with a preceding alert.",
                "percentunit",
                live("recall"),
            ),
            Panel(
                "Alerts per hour",
                "Per symbol. The threshold was set to meet train.alerts_per_hour.",
                "short",
                live("alerts_per_hour"),
            ),
        ],
        "Drift": [
            Panel(
                "Share of the inputs that drifted",
                "Newest hours compared with the training rows, by effect size. The line marks "
                "drift.drift_share.",
                "percentunit",
                {"share": 'max(volatility_drift_share{job="flows"})'},
                steps=[(0.5, RED)],
            ),
            Panel(
                "Inputs that drifted",
                "Number of drifted inputs. The drift page, linked from reports/index.html, lists "
                "them.",
                "short",
                {"inputs": 'max(volatility_drifted_features{job="flows"})'},
            ),
            Panel(
                "Last measured",
                "Old values tell nothing about the present: see FlowOverdue.",
                "s",
                {
                    "drift": "time() - max(volatility_drift_checked_timestamp_seconds"
                    '{job="flows"})',
                    "performance": "time() - max("
                    'volatility_performance_checked_timestamp_seconds{job="flows"})',
                },
                "bargauge",
            ),
        ],
    },
)
