"""Train on markets whose true forecast is known and cannot be beaten.

A model that beats it reveals an error in the evaluation: a leak, a label predicted by its own
denominator, or evidence counted twice. The check covers every model of the leaderboard, including
the simple ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import msgspec
import numpy as np

from volatility.dataset import Dataset, assemble, before
from volatility.evaluation.bootstrap import mean_draws
from volatility.evaluation.markets import PlaceboMarket, placebo_markets
from volatility.evaluation.predictions import Predictions, predict
from volatility.evaluation.resampled import Resampled, losses, precision, resample, spikes_of
from volatility.evaluation.scores import qlike_bps
from volatility.features import LONGEST_WINDOW_SECONDS
from volatility.files import plain
from volatility.models import Prior, fit_bundle
from volatility.settings import Settings
from volatility.units import Bools, Floats

STANDARD_ERRORS = 3.0
TEST_SHARE = 0.4  # of a market's hours
RESAMPLES = 200


@dataclass(frozen=True)
class Skill:
    """Represent how much a model outperformed a market's true forecast.

    ``skill`` is how much lower its QLIKE is, ``pr_auc_skill`` how much higher its PR-AUC, each
    with its standard error over blocks of clock time, widened if there are few blocks.
    """

    skill: float
    standard_error: float
    pr_auc_skill: float
    pr_auc_standard_error: float

    @property
    def passed(self) -> bool:
        """Whether neither measure beats the truth by three standard errors."""
        return all(
            not value > STANDARD_ERRORS * error
            for value, error in (
                (self.skill, self.standard_error),
                (self.pr_auc_skill, self.pr_auc_standard_error),
            )
        )


class PlaceboSkill(msgspec.Struct, frozen=True):
    """Represent a ``Skill`` in a report; a figure that cannot be measured is None."""

    skill: float | None
    standard_error: float | None
    pr_auc_skill: float | None
    pr_auc_standard_error: float | None
    passed: bool


@dataclass(frozen=True)
class Placebo:
    """Represent the skill of every model on every placebo market."""

    skills: dict[str, dict[str, Skill]]

    @property
    def beaten(self) -> list[tuple[str, str, Skill]]:
        """Markets, models and skills for which the truth was beaten."""
        return [
            (market, model, skill)
            for market, models in self.skills.items()
            for model, skill in models.items()
            if not skill.passed
        ]

    def results(self) -> dict[str, dict[str, PlaceboSkill]]:
        """Return the content of ``evaluation.json``, by market and model."""
        content = {
            market: {
                model: asdict(skill) | {"passed": skill.passed} for model, skill in models.items()
            }
            for market, models in self.skills.items()
        }
        return msgspec.convert(plain(content), dict[str, dict[str, PlaceboSkill]])


def run_placebo(settings: Settings, prior: Prior, *, seed: int = 0) -> Placebo:
    """Train on every placebo market and compare each model with the truth."""
    markets = placebo_markets(settings.features, settings.evaluate.placebo_hours, seed)
    return measure_placebo(markets, settings, prior)


def measure_placebo(markets: Iterable[PlaceboMarket], settings: Settings, prior: Prior) -> Placebo:
    """Train on the first part of each market, and measure on the rest."""
    evaluate = msgspec.structs.replace(settings.evaluate, resamples=RESAMPLES)
    # One horizon is enough: the code path is the same for all, and each takes as long.
    forecast = msgspec.structs.replace(
        settings.forecast, horizons=settings.forecast.horizons[:1], spike_levels_bps={}
    )
    settings = msgspec.structs.replace(settings, evaluate=evaluate, forecast=forecast)
    return Placebo({market.name: _skills(market, settings, prior) for market in markets})


def _skills(market: PlaceboMarket, settings: Settings, prior: Prior) -> dict[str, Skill]:
    data = assemble(market.frames, settings)
    span = data.time[-1] - data.time[0]
    start = int(data.time[0] + (1.0 - TEST_SHARE) * span)
    train = before(data.time, start, data.horizons[-1], LONGEST_WINDOW_SECONDS)
    test = data.take(np.flatnonzero(data.time >= start))
    predictions = predict(fit_bundle(data.take(train), settings, prior), test)
    truth = _truth_bps(market, test)
    drawn = resample(predictions, settings)
    spikes = spikes_of(predictions)
    own = qlike_bps(truth, predictions.realised_bps[:, 0])
    ranked = _without_ties(truth)
    return {
        name: _skill(predictions, name, own, ranked, spikes, drawn) for name in predictions.said
    }


def _skill(
    predictions: Predictions, name: str, own: Floats, truth: Floats, spikes: Bools, drawn: Resampled
) -> Skill:
    weight = drawn.weight
    gain = own - losses(predictions, name)
    score = predictions.said[name].score[:, 0]
    skill = float(np.average(gain, weights=weight))
    wider = _wider(drawn.draws.counts.shape[1])
    error = wider * float(np.std(mean_draws(gain, weight, drawn.block, drawn.draws), ddof=1))
    mine, best = precision(spikes, score, drawn), precision(spikes, truth, drawn)
    apart = mine.drawn - best.drawn
    known = apart[~np.isnan(apart)]
    # A ranking is only as well known as the blocks are many in which there is something to rank.
    wider = _wider(len(np.unique(drawn.block[spikes])))
    spread = wider * float(np.std(known, ddof=1)) if len(known) > 1 else math.inf
    return Skill(skill, error, mine.point - best.point, spread)


def _without_ties(truth: Floats) -> Floats:
    """Return the true forecasts with ties broken at random, by less than they differ otherwise.

    The PR-AUC of any ranking lies above the share of spikes by chance, that of one tie does not:
    against a constant truth, every model would seem to have some skill.
    """
    noise = np.random.default_rng(0).random(len(truth))
    return truth * (1.0 + 1e-9 * noise)


def _wider(blocks: int) -> float:
    """Return the factor that corrects a standard error estimated from few blocks.

    It makes three standard errors as rare as under the normal distribution: the ratio of
    Student's quantile to the normal quantile.
    """
    if blocks < 2:
        return math.inf
    from scipy.special import ndtr, stdtrit

    return float(stdtrit(blocks - 1, ndtr(STANDARD_ERRORS))) / STANDARD_ERRORS


def _truth_bps(market: PlaceboMarket, data: Dataset) -> Floats:
    """Return the true forecast of each row over the first horizon, in basis points."""
    horizon = data.horizons[0]
    result = np.empty(len(data))
    for place, frame in enumerate(market.frames):
        mine = np.flatnonzero(data.symbol == place)
        row = np.searchsorted(frame.time, data.time[mine])
        result[mine] = np.sqrt(market.truth(place, horizon)[row] * horizon) * 1e4
    return result
