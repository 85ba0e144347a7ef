"""Keep what a run leaves for the monitor: small files in ``data/monitor``, each written whole.

Flows run in processes of their own, which end; their gauges are read from here at each scrape,
so they survive the run, and a restart of everything.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import msgspec

from volatility.pages import write_whole
from volatility.parts import locked, make_folder

logger = logging.getLogger(__name__)

FOLDER = "monitor"  # in the folder of the data
ROWS = "rows_written.json"


class FlowState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold how a flow's newest run ended, and when one last ended well and badly [s]."""

    state: Literal["completed", "failed"]
    duration_seconds: float | None = None
    last_success: float | None = None
    last_failure: float | None = None


_flows = msgspec.json.Decoder(FlowState)
_counts = msgspec.json.Decoder(dict[str, int])


def finished(
    folder: Path, flow: str, *, succeeded: bool, now: float, duration_seconds: float | None
) -> None:
    """Note that a run of a flow has ended.

    Parameters
    ----------
    folder : Path
        ``data/monitor``.
    flow : str
    succeeded : bool
    now : float
        Seconds since the epoch.
    duration_seconds : float or None
        None where the run never began.
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
    """Read how a flow's newest run ended; None where it never ran.

    Raises
    ------
    OSError, msgspec.DecodeError
        When the file cannot be read.
    """
    path = folder / f"{flow}.json"
    return _flows.decode(path.read_bytes()) if path.exists() else None


def add_rows(folder: Path, topic: str, rows: int) -> None:
    """Add to the count of the rows that capture has written of a topic."""
    make_folder(folder)
    with locked(folder):
        try:
            counts = rows_written(folder)
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("%s counts from 0 again: %s", folder / ROWS, error)
            counts = {}
        counts[topic] = counts.get(topic, 0) + rows
        write_whole(folder / ROWS, msgspec.json.encode(counts))


def rows_written(folder: Path) -> dict[str, int]:
    """Read the rows written by topic; those never captured are absent.

    Raises
    ------
    OSError, msgspec.DecodeError
        When the file cannot be read.
    """
    path = folder / ROWS
    return _counts.decode(path.read_bytes()) if path.exists() else {}


def _before(folder: Path, flow: str) -> FlowState:
    nothing = FlowState("completed")
    try:
        return flow_state(folder, flow) or nothing
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("what %s did before is forgotten: %s", flow, error)
        return nothing
