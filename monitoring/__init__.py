"""Watch the service: rules for Prometheus, dashboards for Grafana."""
