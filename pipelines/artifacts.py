"""Show results in Prefect's UI: tables and links to the reports."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from msgspec.structs import asdict
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.exceptions import PrefectException

from volatility.evaluation import LiveModel, ModelFigures
from volatility.reports import by_qlike

logger = logging.getLogger(__name__)

LEADERBOARD = {
    "model": "model",
    "qlike": "QLIKE",
    "pr_auc": "PR-AUC",
    "roc_auc": "ROC-AUC",
    "brier": "Brier",
    "calibration_error": "calibration error",
    "alerts_per_hour": "alerts/h",
}
LIVE = {
    "model": "model",
    "model_version": "version",
    "qlike": "QLIKE",
    "pr_auc": "PR-AUC",
    "brier": "Brier",
    "precision": "precision",
    "recall": "recall",
    "alerts_per_hour": "alerts/h",
}
DRIFT = {"feature": "input", "distance": "distance", "drifted": "drifted"}


def ranked(
    models: Mapping[str, ModelFigures] | Mapping[str, LiveModel], columns: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return one row per model, lowest QLIKE first; missing measurements are empty."""
    rows = [{"model": name, **asdict(models[name])} for name in by_qlike(models)]
    return chosen(rows, columns)


def chosen(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """Select columns under their display names, with rounded numbers."""
    return [{title: _short(row.get(key)) for key, title in columns.items()} for row in rows]


def show_table(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """Show a table; only log a warning if the server rejects it."""
    try:
        create_table_artifact(table=rows, key=key, description=description)
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("cannot show the table %s: %s", key, error)


def show_report(key: str, page: Path, sentence: str) -> None:
    """Show a sentence and a link to a report."""
    uri = page.resolve().as_uri()
    try:
        create_markdown_artifact(
            f"{sentence}\n\nReport: [{page}]({uri})", key=key, description=sentence
        )
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("cannot show the report %s: %s", key, error)


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
