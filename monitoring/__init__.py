"""Monitor the service: rules for Prometheus, dashboards for Grafana."""
