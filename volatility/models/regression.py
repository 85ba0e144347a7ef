"""Fit log-linear variance forecasts by quasi-likelihood."""

from __future__ import annotations

import warnings

import numpy as np

from volatility.units import Floats

MOST_ROWS = 20_000  # more do not improve a handful of coefficients
# Where the search for GARCH's constant and weight may start, in mean variances; on so many rows.
CONSTANTS = np.array([0.002, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 0.95])
WEIGHTS = np.array([0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0, 1.15])
START_ROWS = 500
LEAST_RATIO = 1e-9  # replaces the zero of a silent window, because the deviance takes logarithms


def qlike(log_variance: Floats, realised: Floats) -> Floats:
    """Compute the quasi-likelihood loss of each forecast: ``log v + RV / v``.

    Robust to noise in the realised variance (Patton, Journal of Econometrics, 2011), and
    finite for a silent window. Lower is better; both arguments are float64[n].
    """
    return log_variance + realised * np.exp(-log_variance)


def fit_gamma(
    design: Floats,
    realised: Floats,
    offset: Floats,
    *,
    penalty: float = 0.0,
    weight: Floats | None = None,
) -> Floats:
    """Fit ``log v = offset + design @ b + c`` by gamma deviance, which is QLIKE.

    Parameters
    ----------
    design : float64[n, K]
    realised, offset : float64[n]
        Realised variance, and the log variance from which the fit starts.
    penalty : float
        Penalty on the squared coefficients of the standardised design, without the intercept.
    weight : float64[n], optional

    Returns
    -------
    float64[K + 1]
        Coefficients; the intercept comes last.

    Notes
    -----
    The gamma deviance of ``y`` at mean ``o * m`` equals that of ``y / o`` at ``m``: with a
    logarithmic link, dividing by the forecast is equivalent to an offset.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import GammaRegressor

    step = -(-len(realised) // MOST_ROWS)
    design, realised, offset = design[::step], realised[::step], offset[::step]
    weight = np.ones(len(realised)) if weight is None else weight[::step]
    ratio = realised * np.exp(-offset)
    scale = float(np.average(ratio, weights=weight))
    if not scale > 0.0:  # no window ever moved
        return np.append(np.zeros(design.shape[1]), np.log(LEAST_RATIO))
    middle = design.mean(axis=0)
    spread = design.std(axis=0)
    live = spread > 1e-12
    coefficients = np.zeros(design.shape[1])
    if not live.any():
        return np.append(coefficients, np.log(scale))
    standard = (design[:, live] - middle[live]) / spread[live]
    model = GammaRegressor(alpha=penalty, solver="lbfgs", max_iter=1000, tol=1e-6)
    with warnings.catch_warnings():
        # Near the optimum of a flat loss, the last digits matter less than the noise.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(standard, np.maximum(ratio / scale, LEAST_RATIO), sample_weight=weight)
    coefficients[live] = model.coef_ / spread[live]
    intercept = model.intercept_ + np.log(scale) - float(coefficients @ middle)
    return np.append(coefficients, intercept)


def _garch_loss(parameters: Floats, x: Floats, y: Floats) -> tuple[float, Floats]:
    """Return the mean loss at log parameters, and its gradient."""
    constant, weight = np.exp(parameters)
    variance = constant + weight * x
    slope = (1.0 - y / variance) / variance
    gradient = np.array([slope.mean() * constant, (slope * x).mean() * weight])
    return float(np.mean(np.log(variance) + y / variance)), gradient


def fit_garch(squares: Floats, realised: Floats) -> tuple[float, float]:
    """Fit ``v = constant + weight * x`` by quasi-likelihood: float64[n] filtered variances ``x``.

    The loss surface is flat between a constant and a persistent forecast, and a start far from
    the optimum stops short of it. The best of 64 starts, by their loss on some of the rows, is
    therefore tried first by value, and only it is optimised.
    """
    from scipy.optimize import minimize

    step = -(-len(realised) // MOST_ROWS)
    squares, realised = squares[::step], realised[::step]
    mean = float(realised.mean())
    if not mean > 0.0:
        return LEAST_RATIO, 0.0
    x, y = squares / mean, realised / mean
    some = slice(None, None, max(1, len(x) // START_ROWS))
    constants, weights = (grid.ravel() for grid in np.meshgrid(CONSTANTS, WEIGHTS))
    variances = constants[:, None] + weights[:, None] * x[some]
    place = int(np.argmin(np.mean(np.log(variances) + y[some] / variances, axis=1)))
    best = minimize(
        _garch_loss,
        np.log([constants[place], weights[place]]),
        args=(x, y),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-12.0, 3.0), (-12.0, 3.0)],
        options={"ftol": 1e-12, "gtol": 1e-8},  # the usual ones end early where it is flat
    )
    constant, weight = np.exp(best.x)
    return float(constant) * mean, float(weight)
