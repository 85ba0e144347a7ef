"""Compare two models on the same rows: paired differences, their intervals and a test."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from volatility.evaluation.bootstrap import Difference, difference, mean_draws
from volatility.evaluation.comparison import diebold_mariano
from volatility.evaluation.predictions import Predictions
from volatility.evaluation.resampled import (
    Resampled,
    by_block,
    exceeds,
    losses,
    precision,
    spikes_of,
)
from volatility.evaluation.results import (
    EqualSkillTest,
    HorizonDifference,
    LevelDifference,
    PairedDifference,
    Versus,
)
from volatility.evaluation.scores import brier
from volatility.models import LEVEL_QUANTILES
from volatility.units import Bools, Floats


def versus(
    predictions: Predictions, drawn: Resampled, first: str, second: str, *, baseline: str = ""
) -> Versus:
    """Compare two models: paired differences with block-bootstrap intervals, and a test.

    ``baseline`` names what the second model consists of.
    """
    spikes = spikes_of(predictions)
    one, two = predictions.said[first], predictions.said[second]
    block_difference = by_block(losses(predictions, first) - losses(predictions, second), drawn)
    lags = int(len(block_difference) ** (1.0 / 3.0))
    test = diebold_mariano(block_difference, lags)
    return Versus(
        baseline=baseline,
        qlike=_paired(_mean_difference(predictions, first, second, drawn, losses)),
        crps_bps=_paired(_mean_difference(predictions, first, second, drawn, _crps)),
        pr_auc=_paired(_precision_difference(spikes, one.score[:, 0], two.score[:, 0], drawn)),
        brier=_paired(
            _difference_of_means(
                brier(spikes, one.score[:, 0]), brier(spikes, two.score[:, 0]), drawn
            )
        ),
        diebold_mariano=EqualSkillTest(statistic=test.statistic, p_value=test.p_value),
        horizons={
            f"{horizon}s": HorizonDifference(
                qlike=_paired(_mean_difference(predictions, first, second, drawn, losses, place))
            )
            for place, horizon in enumerate(predictions.data.horizons)
        },
        levels={
            f"{level:g}": LevelDifference(
                pr_auc=_paired(
                    _precision_difference(
                        exceeds(predictions, k), one.exceedance[:, k], two.exceedance[:, k], drawn
                    )
                )
            )
            for k, level in enumerate(LEVEL_QUANTILES)
        },
    )


def _crps(predictions: Predictions, name: str, place: int) -> Floats:
    return predictions.said[name].crps_bps[:, place]


def _mean_difference(
    predictions: Predictions,
    first: str,
    second: str,
    drawn: Resampled,
    measure: Callable[[Predictions, str, int], Floats],
    place: int = 0,
) -> Difference:
    return _difference_of_means(
        measure(predictions, first, place), measure(predictions, second, place), drawn
    )


def _difference_of_means(one: Floats, two: Floats, drawn: Resampled) -> Difference:
    known = ~np.isnan(one) & ~np.isnan(two)
    if not known.any():
        return Difference(math.nan, (math.nan, math.nan), math.nan)
    apart, weight = (one - two)[known], drawn.weight[known]
    means = mean_draws(apart, weight, drawn.block[known], drawn.draws)
    return difference(float(np.average(apart, weights=weight)), means)


def _precision_difference(spikes: Bools, one: Floats, two: Floats, drawn: Resampled) -> Difference:
    sides = [precision(spikes, score, drawn) for score in (one, two)]
    return difference(sides[0].point - sides[1].point, sides[0].drawn - sides[1].drawn)


def _paired(found: Difference) -> PairedDifference:
    return PairedDifference(**asdict(found))
