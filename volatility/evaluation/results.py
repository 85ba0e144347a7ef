"""Define what an evaluation finds: the content of ``evaluation.json``.

A figure that cannot be measured is None, and null in JSON. Volatilities are in basis points over
the horizon, times are ISO 8601 in UTC, intervals hold 95 %.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from volatility.evaluation.gate import Verdict
from volatility.evaluation.importances import Importance
from volatility.evaluation.placebo import PlaceboSkill
from volatility.files import plain

Number = float | None
Span = tuple[Number, Number]


class PairedDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Represent one model's measure minus another's, on the same rows."""

    difference: Number
    interval: Span
    standard_error: Number


class Reliability(msgspec.Struct, frozen=True, kw_only=True):
    """Represent tenths of the rows: mean probability, share of spikes and weight of each."""

    score: tuple[Number, ...]
    share: tuple[Number, ...]
    weight: tuple[Number, ...]


class LevelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Represent how well one model ranks and predicts volatility above one spike level."""

    base_rate: Number
    pr_auc: Number
    brier: Number
    log_score: Number
    calibration_error: Number


class HorizonFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Represent one model's skill over one horizon, on the rows whose outcome is known."""

    rows: int
    qlike: Number = None
    crps_bps: Number = None
    pr_auc: Number = None
    base_rate: Number = None


class ModelSkill(msgspec.Struct, frozen=True, kw_only=True):
    """Represent what is measured of a model both offline and live.

    The alert figures are those at ``threshold``.
    """

    qlike: Number
    pr_auc: Number
    roc_auc: Number
    brier: Number
    calibration_error: Number
    threshold: Number
    precision: Number
    recall: Number
    alerts_per_hour: Number
    event_recall: Number
    lead_seconds: Number
    events: int


class ModelFigures(ModelSkill, frozen=True, kw_only=True):
    """Represent one model's skill in an evaluation."""

    qlike_interval: Span
    crps_bps: Number
    pinball_bps: dict[str, Number]
    pr_auc_interval: Span
    log_score: Number
    pit_error: Number
    reliability: Reliability
    levels: dict[str, LevelFigures]
    horizons: dict[str, HorizonFigures]


class EqualSkillTest(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a Diebold-Mariano test of equal QLIKE."""

    statistic: Number
    p_value: Number


class HorizonDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Represent the differences over one horizon."""

    qlike: PairedDifference


class LevelDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Represent the differences at one spike level."""

    pr_auc: PairedDifference


class Versus(msgspec.Struct, frozen=True, kw_only=True):
    """Represent one model minus another; ``baseline`` names the simple forecasts of the other.

    The first model is better where QLIKE, CRPS and Brier score are below zero and PR-AUC is above.
    """

    qlike: PairedDifference
    crps_bps: PairedDifference
    pr_auc: PairedDifference
    brier: PairedDifference
    diebold_mariano: EqualSkillTest
    horizons: dict[str, HorizonDifference]
    levels: dict[str, LevelDifference]
    baseline: str = ""


class PartFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Represent one model's skill on a part of the rows."""

    qlike: Number
    crps_bps: Number
    pr_auc: Number
    brier: Number


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a part of the rows, with every model's skill on it."""

    rows: int
    effective_windows: int
    base_rate: Number
    models: dict[str, PartFigures]


class SymbolPart(Part, frozen=True, kw_only=True):
    """Represent the rows of a symbol."""

    name: str


class DayPart(Part, frozen=True, kw_only=True):
    """Represent the rows of a day (UTC)."""

    date: str


class FoldPart(Part, frozen=True, kw_only=True):
    """Represent the test rows of a fold, and what its models were trained on."""

    fold: int
    train_rows: int
    train_stop: str
    best_simple: str


class DrawnDay(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a day of one symbol to draw: forecast, 5 to 95 % band and outcome.

    ``gain`` is how much lower the mean QLIKE of ``ml`` was than that of the best simple forecast.
    """

    title: str
    symbol: str
    date: str
    gain: Number
    time: tuple[str, ...]
    forecast_bps: tuple[Number, ...]
    low_bps: tuple[Number, ...]
    high_bps: tuple[Number, ...]
    realised_bps: tuple[Number, ...]


class ConfidenceSet(msgspec.Struct, frozen=True, kw_only=True):
    """Represent the model confidence set; ``size`` is the probability that it misses the best."""

    included: tuple[str, ...]
    p_values: dict[str, Number]
    size: float


class EvaluatedModel(msgspec.Struct, frozen=True, kw_only=True):
    """Represent the model that the evaluation is about."""

    digest: str
    recipe: str
    train_start: str
    train_stop: str
    train_rows: int
    best_simple: str
    threshold: Number
    git_commit: str | None


Placebos = dict[str, dict[str, PlaceboSkill]]  # by market and model


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Represent an evaluation.

    ``excluded_rows`` counts the rows that a single model was trained on or near. ``placebo`` and
    ``gate`` are None where they were not run.
    """

    source: str
    rows: int
    effective_windows: int
    blocks: int
    base_rate: Number
    symbols: tuple[str, ...]
    start: str
    stop: str
    horizon_seconds: int
    horizons_seconds: tuple[int, ...]
    level_quantiles: tuple[float, ...]
    spike_levels_bps: dict[str, Number]
    block_seconds: int
    resamples: int
    models: dict[str, ModelFigures]
    per_symbol: tuple[SymbolPart, ...]
    per_day: tuple[DayPart, ...]
    folds: tuple[FoldPart, ...]
    confidence_set: ConfidenceSet
    days: tuple[DrawnDay, ...]
    importances: tuple[Importance, ...]
    model: EvaluatedModel
    ml_vs_best_simple: Versus | None = None
    excluded_rows: int | None = None
    placebo: Placebos | None = None
    gate: Verdict | None = None


R = TypeVar("R", bound=msgspec.Struct)


def without_nan(result: R) -> R:
    """Return a result whose figures that are not finite are None."""
    return msgspec.convert(plain(result), type(result))
