"""Serve forecasts over HTTP: a thin BentoML service around ``volatility``."""

from volatility.settings import disable_telemetry

disable_telemetry()  # before importing BentoML or MLflow
