"""Predict short-horizon volatility spikes of crypto pairs, and do not be fooled.

Importing this package keeps the packages that it uses from reporting to their makers.
"""

from __future__ import annotations

import os

for _name, _value in {
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "true",  # mlflow heeds only "true"
    "DVC_NO_ANALYTICS": "1",
    "EVIDENTLY_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}.items():
    os.environ.setdefault(_name, _value)
