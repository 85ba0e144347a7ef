"""Model: is it still right, and does the market still look like its training rows."""

from __future__ import annotations

from monitoring.dashboards.panels import BLUE, GREEN, RED, YELLOW, Dashboard, Panel, stat

BY_MODEL = "{{model}} {{model_version}}"


def live(metric: str) -> dict[str, str]:
    """Query a live figure of each model."""
    return {BY_MODEL: f'max by (model, model_version) (volatility_live_{metric}{{job="flows"}})'}


DASHBOARD = Dashboard(
    uid="volatility-model",
    title="Model",
    description="Live skill, once the outcome is known, and drift of the inputs.",
    sections={
        "Now": [
            stat(
                "Live PR-AUC of the champion",
                "On the newest 24 hours whose outcome is known. The base rate is what no skill "
                "at all would have.",
                "percentunit",
                'max(volatility_live_pr_auc{job="flows", model="champion"})',
                base=BLUE,
            ),
            stat(
                "Base rate",
                "Share of the same rows that a spike followed.",
                "percentunit",
                'max(volatility_live_base_rate{job="flows"})',
                base=BLUE,
            ),
            stat(
                "Champion less baseline",
                "Live PR-AUC. Below -0.02 for an hour is the alert SkillBelowBaseline, if there "
                "are enough rows.",
                "percentunit",
                "volatility:live_pr_auc:champion_less_baseline",
                steps=[(-0.02, YELLOW), (0, GREEN)],
                base=RED,
            ),
            stat(
                "Labelled rows",
                "Predictions whose outcome is known. Below 21,600, six hours of one symbol, the "
                "figures are mostly chance.",
                "short",
                'max(volatility_rows_labelled{job="flows"})',
                steps=[(21600, GREEN)],
                base=YELLOW,
            ),
            stat(
                "Inputs drifted",
                "Share of the model's inputs; from drift.drift_share on it is the alert Drift.",
                "percentunit",
                'max(volatility_drift_share{job="flows"})',
                steps=[(0.25, YELLOW), (0.5, RED)],
            ),
            stat(
                "Drift alert",
                "As the flow drift says.",
                "short",
                'max(volatility_drift_alert{job="flows"})',
                words={0: ("no", GREEN), 1: ("yes", RED)},
            ),
        ],
        "Live skill": [
            Panel(
                "PR-AUC",
                "All models on the same rows. At the base rate there is no skill.",
                "percentunit",
                {
                    **live("pr_auc"),
                    "base rate": 'max(volatility_live_base_rate{job="flows"})',
                },
                width=12,
            ),
            Panel(
                "Brier score",
                "Mean squared error of the probability: lower is better. The line of a model that "
                "always says the base rate is r (1 - r).",
                "none",
                {
                    **live("brier_score"),
                    "base rate alone": 'max(volatility_live_base_rate{job="flows"}) * '
                    '(1 - max(volatility_live_base_rate{job="flows"}))',
                },
                width=12,
            ),
            Panel(
                "Precision",
                "Share of the alerts that a spike followed.",
                "percentunit",
                live("precision"),
            ),
            Panel(
                "Recall",
                "Share of the spikes that an alert announced.",
                "percentunit",
                live("recall"),
            ),
            Panel(
                "Alerts an hour",
                "By symbol. The threshold was set for train.alerts_per_hour.",
                "short",
                live("alerts_per_hour"),
            ),
        ],
        "Drift": [
            Panel(
                "Share of the inputs that drifted",
                "The newest hours against the training rows, by effect size. The line is "
                "drift.drift_share.",
                "percentunit",
                {"share": 'max(volatility_drift_share{job="flows"})'},
                steps=[(0.5, RED)],
            ),
            Panel(
                "Inputs that drifted",
                "reports/index.html links the page that names them.",
                "short",
                {"inputs": 'max(volatility_drifted_features{job="flows"})'},
            ),
            Panel(
                "Last looked",
                "What is old is not known: see FlowOverdue.",
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
