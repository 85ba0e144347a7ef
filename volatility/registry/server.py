"""Run MLflow's server for its own pages and programs: ``mlflow server --app-name own-pages``.

MLflow by itself refuses pages of other sites, but not those of other ports of the same machine.
"""

from __future__ import annotations

from volatility.own_pages import OwnPagesOnly


def application() -> OwnPagesOnly:
    """Return MLflow's application behind ``OwnPagesOnly``; MLflow itself checks host names."""
    from mlflow.server.fastapi_app import app

    return OwnPagesOnly(app)
