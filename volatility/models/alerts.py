"""Count alerts and spikes as episodes, as a trader would see them.

Rows may be any number of seconds apart, so callers pass the ``hours`` that their rows cover:
the hours of all symbols are added, and rates are per symbol and hour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from volatility.compiled import njit
from volatility.units import SECOND, Bools, Floats, Integers

MOST_ROWS = 0.5  # maximum share of rows above a threshold: with more, all alerts merge


@dataclass(frozen=True)
class AlertMetrics:
    """Represent the quality of the alerts at one threshold; NaN where undefined.

    ``event_recall`` is the share of spike episodes that contain an alert; ``lead_seconds`` the
    median time from the first such alert to the end of the first spiking window, when the spike
    is obvious.
    """

    threshold: float
    precision: float
    recall: float
    alerts_per_hour: float
    event_recall: float
    lead_seconds: float
    events: int


@dataclass(frozen=True)
class BudgetThreshold:
    """Represent the threshold that meets an alert budget, and the alerts per hour it raised.

    ``raises_alerts`` is false if even the highest score exceeds the budget. The threshold is then
    just above that score, so that none of these rows raises an alert.
    """

    threshold: float
    alerts_per_hour: float
    raises_alerts: bool


def episodes(flag: Bools, run: Integers, time_ns: Integers, merge_seconds: int) -> list[Integers]:
    """Group flagged rows of a run that are less than ``merge_seconds`` apart into episodes.

    ``run`` int64[n] numbers the uninterrupted runs of one symbol.
    """
    rows = np.flatnonzero(flag)
    rows = rows[np.lexsort((time_ns[rows], run[rows]))]
    if not len(rows):
        return []
    apart = (np.diff(run[rows]) != 0) | (np.diff(time_ns[rows]) >= merge_seconds * SECOND)
    return np.split(rows, np.flatnonzero(apart) + 1)


def alert_metrics(
    scores: Floats,
    threshold: float,
    spikes: Bools,
    run: Integers,
    time_ns: Integers,
    horizon_seconds: int,
    hours: float,
) -> AlertMetrics:
    """Measure the alerts that float64[n] scores raise at a threshold against bool[n] spikes.

    Alerts less than a horizon apart are one episode, and so are spikes.
    """
    alert = scores >= threshold
    hits = int(np.sum(alert & spikes))
    alarms = episodes(alert, run, time_ns, horizon_seconds)
    events = episodes(spikes, run, time_ns, horizon_seconds)
    leads = []
    for event in events:
        inside = event[alert[event]]
        if len(inside):
            late = (time_ns[inside[0]] - time_ns[event[0]]) / SECOND
            leads.append(horizon_seconds - late)
    return AlertMetrics(
        threshold=threshold,
        precision=hits / int(alert.sum()) if alert.any() else float("nan"),
        recall=hits / int(spikes.sum()) if spikes.any() else float("nan"),
        alerts_per_hour=len(alarms) / hours,
        event_recall=len(leads) / len(events) if events else float("nan"),
        lead_seconds=float(np.median(leads)) if leads else float("nan"),
        events=len(events),
    )


def threshold_for_budget(
    scores: Floats,
    run: Integers,
    time_ns: Integers,
    alerts_per_hour: float,
    merge_seconds: int,
    hours: float,
) -> BudgetThreshold:
    """Find the lowest threshold down to which alert episodes stay within a budget.

    Every distinct score is tried, from the highest down, until the budget is exceeded: continuing
    would find thresholds so low that all alerts merge. Needs at least one row.
    """
    order = np.lexsort((time_ns, run))
    upwards = np.argsort(scores[order], kind="stable")
    ranked = scores[order][upwards]
    count = _episode_counts(upwards, run[order], time_ns[order], merge_seconds * SECOND)
    first = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))  # of each score
    rate = count[first] / hours
    allowed = rate <= alerts_per_hour
    allowed[:-1] &= len(scores) - first[:-1] <= MOST_ROWS * len(scores)
    within = np.logical_and.accumulate(allowed[::-1])[::-1]
    if not within.any():
        return BudgetThreshold(float(np.nextafter(ranked[-1], np.inf)), 0.0, False)
    place = int(np.argmax(within))
    return BudgetThreshold(float(ranked[first[place]]), float(rate[place]), True)


@njit()
def _episode_counts(upwards, run, time_ns, merge_ns):  # type: ignore[no-untyped-def]
    """Count the episodes of rows ``upwards[i:]``, for each i: int64[n].

    ``run`` and ``time_ns`` are sorted by run and time; ``upwards`` are the row indices sorted by
    score. Episodes are rows minus pairs of neighbours that merge; rows are removed one by one, and
    a linked list keeps track of each row's neighbours.
    """
    rows = len(upwards)
    before, after = np.arange(-1, rows - 1), np.arange(1, rows + 1)
    found = np.empty(rows, np.int64)
    count = rows
    for i in range(rows - 1):
        count -= _merges(i, i + 1, run, time_ns, merge_ns)
    for i in range(rows):
        found[i] = count
        row = upwards[i]
        a, b = before[row], after[row]
        count += _merges(a, row, run, time_ns, merge_ns) + _merges(row, b, run, time_ns, merge_ns)
        count -= 1 + _merges(a, b, run, time_ns, merge_ns)
        if a >= 0:
            after[a] = b
        if b < rows:
            before[b] = a
    return found


@njit()
def _merges(a, b, run, time_ns, merge_ns):  # type: ignore[no-untyped-def]
    if a < 0 or b >= len(run) or run[a] != run[b]:
        return 0
    return 1 if time_ns[b] - time_ns[a] < merge_ns else 0
