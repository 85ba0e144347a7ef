"""Pipeline: health of the processes, lost ticks, and progress of the flows."""

from __future__ import annotations

from monitoring.dashboards.panels import GREEN, RED, YELLOW, Dashboard, Panel, stat

DASHBOARD = Dashboard(
    uid="volatility-pipeline",
    title="Pipeline",
    description="Processes, data flow of ticks through Kafka into the lake, and flows.",
    sections={
        "Processes": [
            Panel(
                "Processes",
                "Whether Prometheus can scrape them. Kafka and MLflow export no metrics.",
                "short",
                {"{{job}}": "min by (job) (up)"},
                "stat",
                words={0: ("down", RED), 1: ("up", GREEN)},
                width=12,
                height=4,
            ),
            stat(
                "Kafka",
                "Whether the flows process can reach the broker.",
                "short",
                'max(volatility_monitor_broker_up{job="flows"})',
                words={0: ("away", RED), 1: ("there", GREEN)},
            ),
            stat(
                "Disk free",
                "Free share of the disk with the lake.",
                "percentunit",
                "min(volatility:disk_free:ratio)",
                steps=[(0.1, YELLOW), (0.2, GREEN)],
                base=RED,
            ),
            stat(
                "Alerts firing",
                "Number of firing alerts; docs/runbook.md says how to respond.",
                "short",
                'count(ALERTS{alertstate="firing"}) or vector(0)',
                steps=[(1, RED)],
            ),
        ],
        "Source to Kafka": [
            Panel(
                "Gaps by reason",
                "Over the last hour. Features and labels near a gap are excluded; more than six "
                "gaps raise the alert GapRate.",
                "short",
                {
                    "{{reason}}": "sum by (reason) "
                    '(increase(volatility_gaps_total{job="ingest"}[1h]))'
                },
            ),
            Panel(
                "Reconnects, rejected and late",
                "Rejected: invalid ticks, kept in ticks.dead-letter. Late: ticks of a step that "
                "was already closed, dropped both live and in batch.",
                "cps",
                {
                    "reconnects": "sum(rate("
                    'volatility_reconnects_total{job="ingest"}[$__rate_interval]))',
                    "rejected": "sum(rate("
                    'volatility_rejected_ticks_total{job="ingest"}[$__rate_interval]))',
                    "late": 'sum(rate(volatility_late_ticks_total{job="score"}'
                    "[$__rate_interval])) or vector(0)",
                },
            ),
            Panel(
                "Ticks waiting for Kafka",
                "Buffered in order, up to 500,000; beyond that, ticks are lost and counted.",
                "short",
                {
                    "waiting": 'sum(volatility_buffered_ticks{job="ingest"})',
                    "lost in ten minutes": "sum(increase("
                    'volatility_dropped_ticks_total{job="ingest"}[10m]))',
                },
            ),
        ],
        "Kafka to lake and scores": [
            Panel(
                "Ticks not scored yet",
                "Above 1,000 for two minutes it raises the alert ScorerLag.",
                "short",
                {
                    "partition {{partition}}": "sum by (partition) "
                    '(volatility_score_lag_offsets{job="score"})'
                },
                steps=[(1000, RED)],
            ),
            Panel(
                "Records not captured yet",
                "A sawtooth: each run of the capture flow resets it to zero.",
                "short",
                {"{{topic}}": 'sum by (topic) (volatility_capture_lag_offsets{job="flows"})'},
                steps=[(20000, RED)],
            ),
            Panel(
                "Rows written to the lake",
                "Each run of the capture flow adds a step.",
                "cps",
                {
                    "{{topic}}": "sum by (topic) "
                    '(rate(volatility_rows_written_total{job="flows"}[5m]))'
                },
            ),
        ],
        "Flows": [
            Panel(
                "Time since last success",
                "Intervals are set under schedules in params.yaml; the alert FlowOverdue monitors "
                "them.",
                "s",
                {"{{flow}}": "volatility:flow_age_seconds:time"},
                "bargauge",
            ),
            Panel(
                "Duration of newest run",
                "A capture that takes longer than its interval falls behind.",
                "s",
                {"{{flow}}": 'max by (flow) (volatility_flow_duration_seconds{job="flows"})'},
                "bargauge",
            ),
            Panel(
                "Newest run",
                "Whether it succeeded. Prefect has the logs.",
                "short",
                {"{{flow}}": 'max by (flow) (volatility_flow_failed{job="flows"})'},
                "stat",
                words={0: ("well", GREEN), 1: ("failed", RED)},
            ),
        ],
    },
)
