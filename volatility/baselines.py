"""Forecast volatility the simple ways that a model has to beat.

Each baseline turns a volatility forecast into a spike probability by a logistic regression
fitted on the training rows alone:

* persistence: the next minute is like the last;
* ewma: exponentially weighted volatility, half-life chosen on the training rows;
* har: heterogeneous autoregression, logs of realised volatility at three windows
  (Corsi, Journal of Financial Econometrics, 2009);
* garch: GARCH(1,1) on one-second returns (Bollerslev, Journal of Econometrics, 1986).
"""

from __future__ import annotations

import warnings

import msgspec
import numpy as np
import numpy.typing as npt

from volatility.compiled import njit
from volatility.dataset import Dataset
from volatility.feature_table import INDEX
from volatility.features import FeatureFrame
from volatility.settings import Label

Floats = npt.NDArray[np.float64]

NAMES = ("persistence", "ewma", "har", "garch")
ROW_BASELINES = ("persistence", "ewma", "har")  # what a single feature row is enough for
BASELINE = "realised_volatility_900s"
EWMA_CHOICES = ("ewma_volatility_10s", "ewma_volatility_60s", "ewma_volatility_300s")
HAR_INPUTS = ("realised_volatility_60s", "realised_volatility_300s", BASELINE)
FLOOR = 1e-8  # one-second volatility that stands in for none in a logarithm


class GarchParameters(msgspec.Struct, frozen=True):
    """Hold a GARCH(1,1) of one-second log returns: omega, alpha, beta, in squared returns."""

    omega: float
    alpha: float
    beta: float


class Baseline(msgspec.Struct, frozen=True):
    """Hold one fitted baseline: a logistic regression on logs of volatility forecasts.

    ``inputs`` names the feature columns, or ``garch`` for the filtered forecast; ``relative``
    takes the log of each input over the trailing baseline instead of its own. ``means``
    stands in for a missing input: a linear model has no other place for one.
    """

    name: str
    inputs: tuple[str, ...]
    relative: bool
    means: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    garch: GarchParameters | None = None

    def score(self, rows: Floats, garch: Floats | None = None) -> Floats:
        """Give float64[n] probabilities of float64[n, features] rows.

        ``garch`` is the float64[n] forecast of ``garch_forecast`` where the baseline needs it.
        """
        logs = _logs(rows, self.inputs, self.relative, garch)
        result: Floats = _logistic(
            logs,
            np.array(self.means),
            np.array(self.coefficients),
            self.intercept,
        )
        return result

    def contributions(self, rows: Floats) -> Floats:
        """Give what each input adds to the log odds, against its mean: float64[n, inputs]."""
        logs = _logs(rows, self.inputs, self.relative, None)
        means = np.array(self.means)
        result: Floats = np.array(self.coefficients) * (
            np.where(np.isnan(logs), means, logs) - means
        )
        return result

    @property
    def expected(self) -> float:
        """Log odds of a row whose inputs are at their means."""
        return self.intercept + float(np.dot(self.coefficients, self.means))


@njit()
def _logistic(logs, means, coefficients, intercept):  # type: ignore[no-untyped-def]
    """Score rows one by one, so that a row's score does not depend on its neighbours' number."""
    result = np.empty(len(logs))
    for i in range(len(logs)):
        total = intercept
        for k in range(len(means)):
            value = logs[i, k] if logs[i, k] == logs[i, k] else means[k]
            total += coefficients[k] * value
        result[i] = 1.0 / (1.0 + np.exp(-total))
    return result


def _logs(rows: Floats, inputs: tuple[str, ...], relative: bool, garch: Floats | None) -> Floats:
    columns = []
    for name in inputs:
        if name == "garch":
            if garch is None:
                raise ValueError("the garch baseline needs the filtered forecast of its rows")
            column = garch
        else:
            column = rows[:, INDEX[name]]
        log = np.log(np.maximum(column, FLOOR))
        if relative:
            log = log - np.log(np.maximum(rows[:, INDEX[BASELINE]], FLOOR))
        columns.append(log)
    return np.column_stack(columns)


def fit_baselines(data: Dataset, spikes: npt.NDArray[np.bool_], label: Label) -> list[Baseline]:
    """Fit every baseline on the training rows and their bool[n] spikes."""
    relative = label.kind == "relative"
    garch = fit_garch(_training_returns(data))
    forecast = data.gather(
        [garch_forecast(frame, garch, label.horizon_seconds) for frame in data.frames]
    )
    ewma = [_fit("ewma", (choice,), relative, data.rows, spikes, None) for choice in EWMA_CHOICES]
    losses = [_log_loss(model.score(data.rows), spikes) for model in ewma]
    fitted = _fit("garch", ("garch",), relative, data.rows, spikes, forecast)
    return [
        _fit("persistence", ("realised_volatility_60s",), relative, data.rows, spikes, None),
        ewma[int(np.argmin(losses))],
        _fit("har", HAR_INPUTS, False, data.rows, spikes, None),
        msgspec.structs.replace(fitted, garch=garch),
    ]


def baseline_scores(data: Dataset, baselines: list[Baseline], horizon: int) -> dict[str, Floats]:
    """Score the rows with every baseline: float64[n] by name."""
    scores = {}
    for baseline in baselines:
        forecast = None
        if baseline.garch is not None:
            series = [garch_forecast(frame, baseline.garch, horizon) for frame in data.frames]
            forecast = data.gather(series)
        scores[baseline.name] = baseline.score(data.rows, forecast)
    return scores


def _fit(
    name: str,
    inputs: tuple[str, ...],
    relative: bool,
    rows: Floats,
    spikes: npt.NDArray[np.bool_],
    garch: Floats | None,
) -> Baseline:
    # Here, for a service that only scores does not load it: 130 MiB and 1.4 s.
    from sklearn.linear_model import LogisticRegression

    logs = _logs(rows, inputs, relative, garch)
    known = ~np.isnan(logs)
    means = np.array([logs[k, i].mean() if k.any() else 0.0 for i, k in enumerate(known.T)])
    filled = np.where(known, logs, means)
    model = LogisticRegression(C=1e6, max_iter=1000).fit(filled, spikes)
    return Baseline(
        name=name,
        inputs=inputs,
        relative=relative,
        means=tuple(means.tolist()),
        coefficients=tuple(model.coef_[0].tolist()),
        intercept=float(model.intercept_[0]),
    )


def _log_loss(scores: Floats, spikes: npt.NDArray[np.bool_]) -> float:
    return float(-np.mean(np.log(np.where(spikes, scores, 1.0 - scores))))


def _training_returns(data: Dataset) -> Floats:
    """Collect the one-second returns of the training rows, all symbols, in time order."""
    returns = data.rows[:, INDEX["log_return_1s"]]
    return returns[~np.isnan(returns)]


def fit_garch(returns: Floats) -> GarchParameters:
    """Fit GARCH(1,1) with zero mean to float64[n] one-second log returns by maximum likelihood."""
    from arch import arch_model  # slow to import, and only training needs it

    # In units of their deviation: with other units the optimiser stops short, at parameters
    # that depend on the number of threads.
    unit = float(np.std(returns)) or 1.0
    with warnings.catch_warnings():
        # Its notes on convergence are for a person at a terminal; the evaluation shows what
        # the forecast is worth.
        warnings.simplefilter("ignore")
        fitted = arch_model(returns / unit, mean="Zero", vol="GARCH", p=1, q=1, rescale=False).fit(
            disp="off", show_warning=False
        )
    omega, alpha, beta = (float(fitted.params[k]) for k in ("omega", "alpha[1]", "beta[1]"))
    return GarchParameters(omega * unit**2, alpha, beta)


def garch_forecast(frame: FeatureFrame, garch: GarchParameters, horizon: int) -> Floats:
    """Forecast volatility over the next ``horizon`` seconds at every row of a frame.

    Returns
    -------
    float64[n]
        Root of the mean of the expected variances. The filter starts at the model's long-run
        variance, and again after every break in the returns.
    """
    variance: Floats = _garch_variance(
        frame.column("log_return_1s"), garch.omega, garch.alpha, garch.beta
    )
    persistence = garch.alpha + garch.beta
    if persistence >= 1.0 - 1e-9:  # integrated: the expected variance grows by omega a second
        return np.asarray(np.sqrt(variance + garch.omega * (horizon - 1) / 2.0))
    long_run = garch.omega / (1.0 - persistence)
    decay = (1.0 - persistence**horizon) / (horizon * (1.0 - persistence))
    return np.asarray(np.sqrt(long_run + (variance - long_run) * decay))


@njit()
def _garch_variance(returns, omega, alpha, beta):  # type: ignore[no-untyped-def]
    """Filter the variance expected one second ahead of each return."""
    result = np.empty(len(returns))
    start = omega / max(1.0 - alpha - beta, 1e-6)
    variance = start
    for i in range(len(returns)):
        if returns[i] == returns[i]:
            variance = omega + alpha * returns[i] * returns[i] + beta * variance
        else:
            variance = start
        result[i] = variance
    return result
