"""Boost trees on the errors of a forecast: gamma loss on realised over forecast variance."""

from __future__ import annotations

import numpy as np

from volatility.features import INDEX, MODEL_INPUTS
from volatility.models import trees
from volatility.models.regression import LEAST_RATIO
from volatility.settings import Train
from volatility.units import Floats, Integers

MOST_ROWS = 100_000  # overlapping windows; more take time and add hardly any evidence
LEAST_KNOWN = 0.01  # share of rows in which an input must be known to be used
INPUT_COLUMNS = np.array([INDEX[name] for name in MODEL_INPUTS])


def usable_inputs(rows: Floats) -> Integers:
    """Return the feature columns that trees can learn from: neither missing nor constant.

    scikit-learn cannot bin an input that is missing in every row. This happens in recordings
    without sizes, and in training windows before a new feature was recorded.
    """
    usable = []
    for column in INPUT_COLUMNS:
        known = rows[~np.isnan(rows[:, column]), column]
        if len(known) >= max(LEAST_KNOWN * len(rows), 2) and known.min() < known.max():
            usable.append(column)
    return np.array(usable, dtype=np.int64)


def boost(
    rows: Floats,
    realised: Floats,
    log_variance: Floats,
    iterations: int,
    options: Train,
) -> trees.Trees:
    """Fit trees whose raw prediction is added to a log variance.

    Parameters
    ----------
    rows : float64[n, features]
        Feature rows.
    realised, log_variance : float64[n]
        Realised variance, and the forecast that the trees start from.

    Notes
    -----
    With a logarithmic link the gamma deviance of the ratio is the quasi-likelihood loss with the
    forecast as offset; the empty ensemble is the forecast itself, up to its scale.

    Rows are not weighted: with weights, scikit-learn 1.9 spends 5 s on binning in each fit, about
    twenty times as long as on the trees. Thin the rows instead.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    step = -(-len(rows) // MOST_ROWS) if len(rows) else 1
    rows, realised, log_variance = rows[::step], realised[::step], log_variance[::step]
    columns = usable_inputs(rows)
    if not iterations or not len(columns) or not len(rows):
        return trees.empty()
    ratio = np.maximum(realised * np.exp(-log_variance), LEAST_RATIO)
    model = HistGradientBoostingRegressor(
        loss="gamma",
        learning_rate=options.learning_rate,
        max_iter=iterations,
        max_leaf_nodes=options.max_leaf_nodes,
        min_samples_leaf=options.min_samples_leaf,
        l2_regularization=options.l2_regularization,
        early_stopping=False,  # its random inner split would leak between overlapping windows
        random_state=options.seed,
    )
    model.fit(rows[:, columns], ratio)
    return trees.from_sklearn(model).on_columns(columns)
