"""Store the state of runs for the monitor: small files in ``data/monitor``, written atomically.

Flows run in separate, short-lived processes. Their gauges are read from these files at each
scrape, so they survive the run and any restart.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import msgspec

from volatility.files import locked, make_folder, write_whole

logger = logging.getLogger(__name__)

FOLDER = "monitor"  # in the data folder
ROWS = "rows_written.json"
DELETED = "records_deleted.json"


class FlowState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Represent how a flow's newest run ended, and its last success and failure [s]."""

    state: Literal["completed", "failed"]
    duration_seconds: float | None = None
    last_success: float | None = None
    last_failure: float | None = None


_flows = msgspec.json.Decoder(FlowState)
_counts = msgspec.json.Decoder(dict[str, int])


def finished(
    folder: Path, flow: str, *, succeeded: bool, now: float, duration_seconds: float | None
) -> None:
    """Record the end of a flow's run.

    Parameters
    ----------
    folder : Path
        ``data/monitor``.
    flow : str
    succeeded : bool
    now : float
        Seconds since the epoch.
    duration_seconds : float or None
        None if the run never started.
    """
    make_folder(folder)
    with locked(folder):
        before = _before(folder, flow)
        after = FlowState(
            state="completed" if succeeded else "failed",
            duration_seconds=duration_seconds,
            last_success=now if succeeded else before.last_success,
            last_failure=before.last_failure if succeeded else now,
        )
        write_whole(folder / f"{flow}.json", msgspec.json.encode(after))


def flow_state(folder: Path, flow: str) -> FlowState | None:
    """Read how a flow's newest run ended; None if it never ran.

    Raises
    ------
    OSError, msgspec.DecodeError
        When the file cannot be read.
    """
    path = folder / f"{flow}.json"
    return _flows.decode(path.read_bytes()) if path.exists() else None


def add_rows(folder: Path, topic: str, rows: int) -> None:
    """Add to the number of rows that capture has written for a topic."""
    _add(folder / ROWS, topic, rows)


def add_deleted(folder: Path, topic: str, records: int) -> None:
    """Add to the number of records of a topic that were deleted before they were captured.

    Adding 0 starts the count: Prometheus sees no increase in the first value of a series.
    """
    _add(folder / DELETED, topic, records)


def rows_written(folder: Path) -> dict[str, int]:
    """Read the rows written by topic; topics never captured are absent.

    Raises
    ------
    OSError, msgspec.DecodeError
        When the file cannot be read.
    """
    return _read_counts(folder / ROWS)


def records_deleted(folder: Path) -> dict[str, int]:
    """Read the records deleted before capture by topic, like ``rows_written``."""
    return _read_counts(folder / DELETED)


def _add(path: Path, topic: str, number: int) -> None:
    make_folder(path.parent)
    with locked(path.parent):
        try:
            counts = _read_counts(path)
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("%s is damaged, counting from 0 again: %s", path, error)
            counts = {}
        before = counts.get(topic)
        if number or before is None:
            counts[topic] = (before or 0) + number
            write_whole(path, msgspec.json.encode(counts))


def _read_counts(path: Path) -> dict[str, int]:
    return _counts.decode(path.read_bytes()) if path.exists() else {}


def _before(folder: Path, flow: str) -> FlowState:
    nothing = FlowState("completed")
    try:
        return flow_state(folder, flow) or nothing
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("discarding the damaged state of flow %s: %s", flow, error)
        return nothing
