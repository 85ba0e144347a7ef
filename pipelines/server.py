"""Run the Prefect server for this machine's own pages and programs: ``python -m pipelines.server``.

Prefect by itself answers pages of every site, and its API takes shell commands: the pull steps of
a deployment.
"""

from __future__ import annotations

import argparse
from typing import Any

import uvicorn
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings

from volatility.own_pages import OwnPagesOnly
from volatility.settings import environment


def application() -> Any:
    """Return Prefect's application behind ``OwnPagesOnly``."""
    app = create_app(final=True)
    allowed = environment().prefect_allowed_hosts
    remedy = f"; PREFECT_ALLOWED_HOSTS lets those of {allowed} in"
    app.add_middleware(OwnPagesOnly, hosts=frozenset(allowed.split(",")), remedy=remedy)
    return app


def main() -> None:
    """Serve until the process is stopped."""
    configured = get_current_settings().server.api
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default=configured.host, help="address (%(default)s)")
    parser.add_argument("--port", type=int, default=configured.port, help="port (%(default)s)")
    options = parser.parse_args()
    uvicorn.run(
        application(),
        host=options.host,
        port=options.port,
        timeout_keep_alive=configured.keepalive_timeout,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
