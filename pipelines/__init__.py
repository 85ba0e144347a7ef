"""Run the stages as Prefect flows: thin wrappers of the functions that the command line calls."""

import os

from volatility.settings import disable_telemetry

# Both take effect only before Prefect is imported. A flow that is run by hand starts a temporary
# server. By default Prefect waits 20 s for it; on a busy machine the start takes longer.
disable_telemetry()
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
