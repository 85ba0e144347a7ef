"""Define what a measurement of live predictions finds: the content of ``latest.json``.

A figure that cannot be measured is None, and null in JSON. Times are ISO 8601 in UTC, intervals
hold 95 %.
"""

from __future__ import annotations

import msgspec

from volatility.evaluation.live_rows import Parity
from volatility.evaluation.results import ModelSkill, Number, Span


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """Represent the model that serves."""

    model: str
    model_version: str


class LiveHorizon(msgspec.Struct, frozen=True, kw_only=True):
    """Represent one model's skill over one horizon, on the rows whose outcome is known."""

    rows: int
    qlike: Number


class LiveModel(ModelSkill, frozen=True, kw_only=True):
    """Represent one model's live skill, at its own threshold.

    ``source`` says whether its forecasts were captured or made again from feature rows. The
    intervals are None if there are too few independent windows.
    """

    model_version: str
    source: str
    horizons: dict[str, LiveHorizon]
    qlike_interval: Span | None = None
    pr_auc_interval: Span | None = None


class LiveDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Represent one model's measure minus that of the baseline, on the same rows."""

    difference: Number
    interval: Span


class LiveVersus(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a model minus the baseline: better if QLIKE is below zero, PR-AUC above."""

    qlike: LiveDifference
    pr_auc: LiveDifference


class RollingPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Represent skill in the period that ends at ``time``, by model."""

    time: str
    rows: int
    base_rate: Number
    qlike: dict[str, Number]
    pr_auc: dict[str, Number]


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a challenger that has not scored enough rows to be compared."""

    model: str
    model_version: str
    rows: int


class ExcludedRows(msgspec.Struct, frozen=True, kw_only=True):
    """Count the predictions that are not measured, by reason."""

    outcome_not_known: int
    seen_in_training: int
    not_scored_by_all: int
    without_forecast: int
    of_other_models: dict[str, int]


class Judgement(msgspec.Struct, frozen=True):
    """Represent the live evidence on a champion so far.

    ``e_value_against`` is the largest e-value so far that its best simple forecast is better,
    ``mean`` the mean difference of QLIKE by block (above zero, the champion is better).
    """

    version: str
    blocks: int
    mean: float
    e_value_against: float


class Demotion(msgspec.Struct, frozen=True):
    """Represent a champion refuted by live evidence, and the time [ns since the epoch]."""

    version: str
    reason: str
    time_ns: int
    e_value: float


class LivePerformance(msgspec.Struct, frozen=True, kw_only=True):
    """Represent the live performance of the models over the newest ``hours``.

    ``reason`` says why something could not be measured; without labelled rows ``models`` is empty
    and what describes the rows is None. ``checked`` is when it was measured.
    """

    hours: float
    reason: str | None
    symbols: tuple[str, ...] = ()
    serving: Serving | None = None
    horizon_seconds: int | None = None
    horizons_seconds: tuple[int, ...] = ()
    spike_levels_bps: dict[str, Number] = msgspec.field(default_factory=dict)
    start: str | None = None
    stop: str | None = None
    rows_labelled: int = 0
    effective_windows: int | None = None
    base_rate: Number = None
    models: dict[str, LiveModel] = msgspec.field(default_factory=dict)
    versus_baseline: dict[str, LiveVersus] = msgspec.field(default_factory=dict)
    rolling: tuple[RollingPoint, ...] = ()
    parity: Parity | None = None
    waiting: Waiting | None = None
    left_out: ExcludedRows | None = None
    live_evidence: Judgement | None = None
    demotion: Demotion | None = None
    checked: str | None = None
