"""Forecast the distribution of forward volatility, and fit the models that do."""

from volatility.models.alerts import AlertMetrics, alert_metrics, threshold_for_budget
from volatility.models.boosting import INPUT_COLUMNS, boost, usable_inputs
from volatility.models.bundle import (
    ARRAYS_FILE,
    LEVEL_QUANTILES,
    MODEL_FILE,
    Bundle,
    BundleError,
    UnreadableError,
    Variant,
)
from volatility.models.fit import TrainingError, fit_bundle
from volatility.models.forecaster import QUANTILES, Forecasts, pack
from volatility.models.inputs import FLOOR, LOG, Input
from volatility.models.law import LEVELS, TAIL
from volatility.models.ml import SIZES
from volatility.models.pooled import TREES, fit_pooled, pooled_forecaster, to_pooled
from volatility.models.prior import FOLDER, Prior, shipped
from volatility.models.prior_fit import fit_prior
from volatility.models.reasons import contributions
from volatility.models.regression import fit_gamma
from volatility.models.sample import sample
from volatility.models.simple import inputs_of
from volatility.models.trees import Trees

__all__ = [
    "ARRAYS_FILE",
    "FLOOR",
    "FOLDER",
    "INPUT_COLUMNS",
    "LEVELS",
    "LEVEL_QUANTILES",
    "LOG",
    "MODEL_FILE",
    "QUANTILES",
    "SIZES",
    "TAIL",
    "TREES",
    "AlertMetrics",
    "Bundle",
    "BundleError",
    "Forecasts",
    "Input",
    "Prior",
    "TrainingError",
    "Trees",
    "UnreadableError",
    "Variant",
    "alert_metrics",
    "boost",
    "contributions",
    "fit_bundle",
    "fit_gamma",
    "fit_pooled",
    "fit_prior",
    "inputs_of",
    "pack",
    "pooled_forecaster",
    "sample",
    "shipped",
    "threshold_for_budget",
    "to_pooled",
    "usable_inputs",
]
