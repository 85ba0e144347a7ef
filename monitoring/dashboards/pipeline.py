"""Pipeline: do the processes run, is nothing lost, and does every flow keep its pace."""

from __future__ import annotations

from monitoring.dashboards.panels import GREEN, RED, YELLOW, Dashboard, Panel, stat

DASHBOARD = Dashboard(
    uid="volatility-pipeline",
    title="Pipeline",
    description="Processes, the way of a tick through Kafka into the lake, and the flows.",
    sections={
        "Processes": [
            Panel(
                "Processes",
                "Whether Prometheus reaches them. Kafka and MLflow serve no metrics.",
                "short",
                {"{{job}}": "min by (job) (up)"},
                "stat",
                words={0: ("down", RED), 1: ("up", GREEN)},
                width=12,
                height=4,
            ),
            stat(
                "Kafka",
                "Whether the flows' process reaches the broker.",
                "short",
                'max(volatility_monitor_broker_up{job="flows"})',
                words={0: ("away", RED), 1: ("there", GREEN)},
            ),
            stat(
                "Disk free",
                "Of the disk that holds the lake.",
                "percentunit",
                "min(volatility:disk_free:ratio)",
                steps=[(0.1, YELLOW), (0.2, GREEN)],
                base=RED,
            ),
            stat(
                "Alerts firing",
                "Of all rules; docs/runbook.md says what to do.",
                "short",
                'count(ALERTS{alertstate="firing"}) or vector(0)',
                steps=[(1, RED)],
            ),
        ],
        "From the source to Kafka": [
            Panel(
                "Gaps by reason",
                "In the last hour. Features and labels near a gap are left out; more than six "
                "are the alert GapRate.",
                "short",
                {
                    "{{reason}}": "sum by (reason) "
                    '(increase(volatility_gaps_total{job="ingest"}[1h]))'
                },
            ),
            Panel(
                "Reconnects, rejected and late",
                "Rejected: no valid ticks, kept in ticks.dead-letter. Late: for a step that was "
                "closed already, dropped live and in batch alike.",
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
                "Ticks that wait for Kafka",
                "In order, up to 500,000; past that they are lost and counted.",
                "short",
                {
                    "waiting": 'sum(volatility_buffered_ticks{job="ingest"})',
                    "lost in ten minutes": "sum(increase("
                    'volatility_dropped_ticks_total{job="ingest"}[10m]))',
                },
            ),
        ],
        "From Kafka on": [
            Panel(
                "Ticks not scored yet",
                "Above 1,000 for two minutes is the alert ScorerLag.",
                "short",
                {
                    "partition {{partition}}": "sum by (partition) "
                    '(volatility_score_lag_offsets{job="score"})'
                },
                steps=[(1000, RED)],
            ),
            Panel(
                "Records not captured yet",
                "A saw: each run of the flow capture brings it to zero.",
                "short",
                {"{{topic}}": 'sum by (topic) (volatility_capture_lag_offsets{job="flows"})'},
                steps=[(20000, RED)],
            ),
            Panel(
                "Rows written to the lake",
                "Each run of the flow capture is a step.",
                "cps",
                {
                    "{{topic}}": "sum by (topic) "
                    '(rate(volatility_rows_written_total{job="flows"}[5m]))'
                },
            ),
        ],
        "Flows": [
            Panel(
                "Since the last success",
                "Each flow has its pace, in params.yaml under schedules; FlowOverdue knows them.",
                "s",
                {"{{flow}}": "volatility:flow_age_seconds:time"},
                "bargauge",
            ),
            Panel(
                "Length of the newest run",
                "A capture longer than its interval falls behind.",
                "s",
                {"{{flow}}": 'max by (flow) (volatility_flow_duration_seconds{job="flows"})'},
                "bargauge",
            ),
            Panel(
                "Newest run",
                "Whether it ended well. Prefect has the log of each.",
                "short",
                {"{{flow}}": 'max by (flow) (volatility_flow_failed{job="flows"})'},
                "stat",
                words={0: ("well", GREEN), 1: ("failed", RED)},
            ),
        ],
    },
)
