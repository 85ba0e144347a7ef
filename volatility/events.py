"""Count alerts and spikes as episodes, which is what a person at a desk sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volatility.dataset import Dataset, runs
from volatility.kernel_state import SECOND

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AlertMetrics:
    """Hold what the alerts of one threshold are worth.

    ``event_recall`` is the share of spike episodes with an alert inside; ``lead_seconds`` the
    median time from the first such alert to the end of the first spiking minute, when the
    spike is plain to everyone.
    """

    threshold: float
    precision: float
    recall: float
    alerts_per_hour: float
    event_recall: float
    lead_seconds: float
    events: int


def episodes(flag: Bools, run: Integers, time: Integers, merge_seconds: int) -> list[Integers]:
    """Group flagged rows: those of one run less than ``merge_seconds`` apart are one episode."""
    rows = np.flatnonzero(flag)
    rows = rows[np.lexsort((time[rows], run[rows]))]
    if not len(rows):
        return []
    apart = (np.diff(run[rows]) != 0) | (np.diff(time[rows]) >= merge_seconds * SECOND)
    return np.split(rows, np.flatnonzero(apart) + 1)


def alert_metrics(
    data: Dataset, spikes: Bools, scores: Floats, threshold: float, horizon_seconds: int
) -> AlertMetrics:
    """Measure the alerts that float64[n] scores raise at a threshold."""
    run = runs(data, horizon_seconds)
    alert = scores >= threshold
    hits = int(np.sum(alert & spikes))
    alarms = episodes(alert, run, data.time, horizon_seconds)
    leads = []
    events = episodes(spikes, run, data.time, horizon_seconds)
    for event in events:
        inside = event[alert[event]]
        if len(inside):
            late = (data.time[inside[0]] - data.time[event[0]]) / SECOND
            leads.append(horizon_seconds - late)
    return AlertMetrics(
        threshold=threshold,
        precision=hits / alert.sum() if alert.any() else float("nan"),
        recall=hits / spikes.sum() if spikes.any() else float("nan"),
        alerts_per_hour=len(alarms) / (len(data) / 3600.0),
        event_recall=len(leads) / len(events) if events else float("nan"),
        lead_seconds=float(np.median(leads)) if leads else float("nan"),
        events=len(events),
    )


def threshold_for_budget(
    data: Dataset, scores: Floats, alerts_per_hour: float, horizon_seconds: int
) -> float:
    """Find the lowest threshold whose alert episodes stay within a budget per symbol and hour.

    It is sought among the quantiles of the scores, in steps of half a percent; when even the
    highest scores exceed the budget, it lies just above them all.
    """
    run = runs(data, horizon_seconds)
    hours = len(data) / 3600.0
    best = float(np.nextafter(scores.max(), np.inf))
    for quantile in np.linspace(0.995, 0.5, 100):
        threshold = float(np.quantile(scores, quantile))
        alarms = episodes(scores >= threshold, run, data.time, horizon_seconds)
        # Going on downwards past the budget would find thresholds so low that all alerts merge.
        if len(alarms) / hours > alerts_per_hour:
            break
        best = threshold
    return best
