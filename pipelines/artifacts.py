"""Show results in Prefect's UI: tables, and the way to the reports."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.exceptions import PrefectException

logger = logging.getLogger(__name__)

LEADERBOARD = {
    "model": "model",
    "pr_auc": "PR-AUC",
    "roc_auc": "ROC-AUC",
    "brier": "Brier",
    "calibration_error": "calibration error",
    "alerts_per_hour": "alerts/h",
}
LIVE = {
    "model": "model",
    "model_version": "version",
    "pr_auc": "PR-AUC",
    "brier": "Brier",
    "precision": "precision",
    "recall": "recall",
    "alerts_per_hour": "alerts/h",
}
DRIFT = {"feature": "input", "distance": "distance", "drifted": "drifted"}


def ranked(
    models: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Lay models out as rows, best PR-AUC first; what was not measured is left empty."""
    rows = [{"model": name, **found} for name, found in models.items()]
    rows.sort(key=lambda row: -(row.get("pr_auc") or 0.0))
    return chosen(rows, columns)


def chosen(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """Keep some columns under the names that people read; numbers are rounded."""
    return [{title: _short(row.get(key)) for key, title in columns.items()} for row in rows]


def show_table(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """Show a table; a server that does not take it is no reason to fail."""
    try:
        create_table_artifact(table=rows, key=key, description=description)
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("the table %s is not shown: %s", key, error)


def show_report(key: str, page: Path, sentence: str) -> None:
    """Show a sentence and the way to a page of the reports."""
    uri = page.resolve().as_uri()
    try:
        create_markdown_artifact(
            f"{sentence}\n\nReport: [{page}]({uri})", key=key, description=sentence
        )
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("the report %s is not shown: %s", key, error)


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
