"""Accumulate evidence that one forecast is better, valid however often it is checked.

The evidence is the wealth of a gambler who starts with 1 and bets on the forecast. If the
forecast is not better, the probability that this wealth ever reaches 1 / level is at most
``level`` (Ville, 1939). Bets are placed on bounded differences of loss, at fixed stakes whose
wealths are averaged (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
betting", Journal of the Royal Statistical Society B, 2024; for the comparison of forecasts see
Choe and Ramdas, "Comparing sequential forecasters", Operations Research, 2024, and Henzi and
Ziegel, "Valid sequential inference on probability forecast performance", Biometrika, 2022).

Consecutive blocks are not independent, and a bet must not know its outcome. Bets are therefore
placed on the mean of ``GROUP`` blocks at a time: with a correlation of 0.3 between consecutive
blocks, that between consecutive groups is 0.03.

The two sides differ:

- **Earning** considers the whole record. The bound is wide, because the bet does not feel a loss
  that is cut off: with losses cut at half the bound, a forecast that wins a little each hour and
  occasionally loses a lot would earn promotion without being better on average.
- **Refuting** considers the present. A gambler against a champion that was good for a month is
  ruined by the time the champion turns bad, and the month's mean hides the turn. A gambler who has
  lost therefore starts again with 1, which makes the wealth an e-detector (Shin, Ramdas and
  Rinaldo, "E-detectors", New England Journal of Statistics in Data Science, 2023). Its guarantee
  is weaker: it does not rule out demoting a champion that is no better than the baseline, but such
  a demotion takes ``GROUP`` / level blocks on average and costs nothing. Demoting a champion that
  has skill is far rarer. The bound is narrow, so that a turn is detected within days.

``benchmarks/gate.py`` measures the error rates of both sides and how soon they decide.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from volatility.units import Bools, Floats, Integers

FORMAT = 1
GROUP = 12  # 20-minute blocks per bet: four hours
BOUND_EARNED = 0.2  # QLIKE, mean of a group: losses of up to 2.4 in four hours count in full
BOUND_REFUTED = 0.05  # a champion turned to noise loses about 0.035
LEAST_BLOCKS = 36  # with fewer, nothing is decided
# The guarantee: a recipe without skill ever earns with a probability of at most 5 %. The test is a
# little stricter, because consecutive groups are still not quite independent.
LEVEL = 0.04
LEVEL_REFUTED = 0.05
# Shares of the wealth that a difference as large as the bound would win or lose.
STAKES = (0.1, 0.25, 0.5, 0.75, 0.95)
MISS = 0.05  # probability that the interval ever misses the mean
MOST_WEIGHT = 0.75  # maximum weight of a group in the interval, as its source recommends
FIT_GROUP = 6  # blocks per mean when two fits are compared: two hours
FIT_CONFIDENCE = 0.96  # nominal, to reach 95 % although these means are not independent


class Interval(msgspec.Struct, frozen=True):
    """Represent an interval of the mean that is valid for all looks simultaneously.

    The predictable plug-in empirical Bernstein confidence sequence of Waudby-Smith and Ramdas
    (2024) for outcomes in [0, 1], which are shifted and scaled bounded group means. ``weight``,
    ``total`` and ``slack`` are the sums of weights, weighted outcomes and weighted variances,
    ``sum`` and ``squares`` those of outcomes and squared deviations.
    """

    weight: float = 0.0
    total: float = 0.0
    slack: float = 0.0
    sum: float = 0.0
    squares: float = 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper bound of the mean difference, each group cut at ``BOUND_EARNED``."""
        lower, upper = _bounds(*(np.array([x]) for x in (self.weight, self.total, self.slack)))
        return float(lower[0]), float(upper[0])


class Evidence(msgspec.Struct, frozen=True):
    """Represent the evidence from all looks so far, in constant size.

    ``newest`` is the end of the newest block counted [ns], ``blocks`` the number of blocks,
    ``mean`` their mean difference and ``squares`` the sum of squared deviations, without bounds.
    ``open_sum`` and ``open_blocks`` are the blocks of the group that is still incomplete.
    ``wins`` and ``losses`` are the log wealths, by stake, of gamblers for and against the
    forecast; those against it have bet on the last ``losing_blocks`` blocks, whose differences
    add up to ``losing_sum``. ``best`` and ``worst`` are the largest log e-values reached by either
    side, the latter within ``worst_blocks`` blocks with mean difference ``worst_mean``.

    Raises
    ------
    ValueError
        If the evidence was written in another format.
    """

    version: int = FORMAT
    newest: int = 0
    blocks: int = 0
    mean: float = 0.0
    squares: float = 0.0
    open_sum: float = 0.0
    open_blocks: int = 0
    wins: tuple[float, ...] = (0.0,) * len(STAKES)
    losses: tuple[float, ...] = (0.0,) * len(STAKES)
    losing_blocks: int = 0
    losing_sum: float = 0.0
    best: float = 0.0
    worst: float = 0.0
    worst_blocks: int = 0
    worst_mean: float = 0.0
    interval: Interval = Interval()

    def __post_init__(self) -> None:
        """Check the format of the evidence."""
        lengths = {len(self.wins), len(self.losses)}
        if self.version != FORMAT or lengths != {len(STAKES)}:
            raise ValueError(f"evidence of format {self.version} with stakes {lengths}")

    @property
    def e_value(self) -> float:
        """Largest e-value so far that the forecast is better."""
        return math.exp(min(self.best, 700.0))

    @property
    def e_value_against(self) -> float:
        """Largest e-value so far that the forecast has become worse."""
        return math.exp(min(self.worst, 700.0))


class NotWorse(msgspec.Struct, frozen=True):
    """Represent a comparison of two fits: the loss of the new one minus that of the old one.

    ``bound`` is its one-sided 95 % upper bound; the new fit passes if it is below ``margin``.
    """

    difference: float
    bound: float
    margin: float
    blocks: int
    passed: bool


def observe(evidence: Evidence, times_ns: Integers, gains: Floats) -> Evidence:
    """Add new blocks to the evidence: int64[B] ends [ns], float64[B] differences.

    A difference is the loss of the rival minus that of the forecast: above zero, the forecast is
    better. Blocks that were already counted are ignored.

    Raises
    ------
    ValueError
        If times do not increase, or a difference is not finite.
    """
    if np.any(np.diff(times_ns) <= 0):
        raise ValueError("the blocks are not in time order")
    if not np.isfinite(gains).all():
        raise ValueError("a difference is not a finite number")
    new = times_ns > evidence.newest
    if not new.any():
        return evidence
    accounts = Accounts(evidence)
    for gain in gains[new]:
        accounts.count(np.array([gain]))
    return accounts.evidence(int(times_ns[new][-1]))


def earned(evidence: Evidence, level: float = LEVEL) -> bool:
    """Return whether the forecast is shown to be better."""
    return bool(Accounts(evidence).earned(level)[0])


def refuted(evidence: Evidence, level: float = LEVEL_REFUTED) -> bool:
    """Return whether the forecast is shown to have become worse."""
    return bool(Accounts(evidence).refuted(level)[0])


def restart(evidence: Evidence, now_ns: int) -> Evidence:
    """Reset the evidence: only blocks that end after ``now_ns`` will count."""
    return Evidence(newest=max(evidence.newest, now_ns))


def not_worse(differences: Floats, margin: float) -> NotWorse:
    """Test that a new fit is not worse by ``margin``: float64[B] new loss minus old, by block.

    The bound is Student's t upper bound on means of ``FIT_GROUP`` blocks, which are less dependent
    than single blocks: with single blocks, a fit that is worse by the margin would pass twice as
    often as the nominal rate. Blocks of an incomplete group are ignored.

    Raises
    ------
    ValueError
        If there are fewer than ``LEAST_BLOCKS`` blocks.
    """
    count = len(differences)
    if count < LEAST_BLOCKS:
        raise ValueError(f"{count} blocks are too few to compare two fits")
    means = differences[: count // FIT_GROUP * FIT_GROUP].reshape(-1, FIT_GROUP).mean(axis=1)
    mean = float(means.mean())
    error = float(means.std(ddof=1)) / math.sqrt(len(means))
    from scipy.special import stdtrit  # 20 MiB that the service never needs

    bound = mean + float(stdtrit(len(means) - 1, FIT_CONFIDENCE)) * error
    return NotWorse(mean, bound, margin, count, bound < margin)


class Accounts:
    """Update the evidence of R recipes block by block; the gate uses one, a simulation many.

    Parameters
    ----------
    evidence : Evidence
        Initial evidence of each recipe.
    recipes : int
    """

    def __init__(self, evidence: Evidence, recipes: int = 1) -> None:
        def repeat(value: float | tuple[float, ...]) -> Floats:
            row = np.asarray(value, dtype=np.float64)
            return np.tile(row, (recipes,) + (1,) * row.ndim)

        self.blocks, self.open = evidence.blocks, evidence.open_blocks  # the same for all
        self.sum = repeat(evidence.open_sum)
        self.mean, self.squares = repeat(evidence.mean), repeat(evidence.squares)
        self.wins, self.losses = repeat(evidence.wins), repeat(evidence.losses)
        self.losing_blocks = repeat(evidence.losing_blocks)
        self.losing_sum = repeat(evidence.losing_sum)
        self.best, self.worst = repeat(evidence.best), repeat(evidence.worst)
        self.worst_blocks = repeat(evidence.worst_blocks)
        self.worst_mean = repeat(evidence.worst_mean)
        self.interval: dict[str, Floats] = {
            name: repeat(value) for name, value in msgspec.structs.asdict(evidence.interval).items()
        }

    def count(self, gains: Floats) -> None:
        """Add a block: float64[R] differences."""
        self.blocks += 1
        step = gains - self.mean
        self.mean = self.mean + step / self.blocks
        self.squares = self.squares + step * (gains - self.mean)
        self.sum = self.sum + gains
        self.open += 1
        if self.open == GROUP:
            self._bet(self.sum / GROUP)
            self.sum, self.open = np.zeros_like(self.sum), 0

    def earned(self, level: float = LEVEL) -> Bools:
        """Return bool[R]: which are shown to be better, also by the mean without bounds."""
        shown: Bools = (self.best >= math.log(1.0 / level)) & (self.mean > 0.0)
        return shown & (self.blocks >= LEAST_BLOCKS)

    def refuted(self, level: float = LEVEL_REFUTED) -> Bools:
        """Return bool[R]: which are shown to have become worse."""
        shown: Bools = self.worst >= math.log(1.0 / level)
        return shown & (self.blocks >= LEAST_BLOCKS)

    def bounds(self) -> tuple[Floats, Floats]:
        """Return float64[R] lower and upper bounds of the mean difference."""
        return _bounds(*(self.interval[name] for name in ("weight", "total", "slack")))

    def evidence(self, newest: int) -> Evidence:
        """Return the evidence of the first recipe, given the end of its newest block [ns]."""
        return Evidence(
            newest=newest,
            blocks=self.blocks,
            mean=float(self.mean[0]),
            squares=float(self.squares[0]),
            open_sum=float(self.sum[0]),
            open_blocks=self.open,
            wins=tuple(self.wins[0].tolist()),
            losses=tuple(self.losses[0].tolist()),
            losing_blocks=int(self.losing_blocks[0]),
            losing_sum=float(self.losing_sum[0]),
            best=float(self.best[0]),
            worst=float(self.worst[0]),
            worst_blocks=int(self.worst_blocks[0]),
            worst_mean=float(self.worst_mean[0]),
            interval=Interval(**{name: float(value[0]) for name, value in self.interval.items()}),
        )

    def _bet(self, mean: Floats) -> None:
        """Bet on float64[R] means of a complete group."""
        outcome = _bounded(mean, BOUND_EARNED)
        self.wins = self.wins + _log_returns(outcome)
        self._widen((1.0 + outcome) / 2.0)
        self.losses = self.losses + _log_returns(-_bounded(mean, BOUND_REFUTED))
        self.losing_blocks = self.losing_blocks + GROUP
        self.losing_sum = self.losing_sum + GROUP * mean
        against = _log_mean(self.losses)
        if self.blocks >= LEAST_BLOCKS:
            self.best = np.maximum(self.best, _log_mean(self.wins))
            # A bound hides how much a champion has won; the plain sum does not.
            higher = (against > self.worst) & (self.losing_sum < 0.0)
            self.worst = np.where(higher, against, self.worst)
            self.worst_blocks = np.where(higher, self.losing_blocks, self.worst_blocks)
            recent = self.losing_sum / self.losing_blocks
            self.worst_mean = np.where(higher, recent, self.worst_mean)
        lost = against <= 0.0
        self.losses = np.where(lost[:, None], 0.0, self.losses)
        self.losing_blocks = np.where(lost, 0.0, self.losing_blocks)
        self.losing_sum = np.where(lost, 0.0, self.losing_sum)

    def _widen(self, outcome: Floats) -> None:
        """Add float64[R] outcomes in [0, 1] to the interval."""
        state = self.interval
        groups = self.blocks // GROUP
        before = (0.5 + state["sum"]) / groups
        variance = (0.25 + state["squares"]) / groups
        weight = np.sqrt(
            2.0 * math.log(2.0 / MISS) / (variance * groups * math.log(1.0 + groups))
        ).clip(max=MOST_WEIGHT)
        penalty = (-np.log1p(-weight) - weight) / 4.0
        state["slack"] = state["slack"] + 4.0 * (outcome - before) ** 2 * penalty
        state["weight"] = state["weight"] + weight
        state["total"] = state["total"] + weight * outcome
        state["sum"] = state["sum"] + outcome
        now = (0.5 + state["sum"]) / (groups + 1.0)
        state["squares"] = state["squares"] + (outcome - now) ** 2


def _bounds(weight: Floats, total: Floats, slack: Floats) -> tuple[Floats, Floats]:
    """Return the bounds of ``Interval``, in QLIKE; before the first group they are maximal."""
    middle = np.divide(total, weight, out=np.full_like(total, 0.5), where=weight > 0.0)
    room = np.full_like(total, math.inf)
    reach = np.divide(math.log(2.0 / MISS) + slack, weight, out=room, where=weight > 0.0)
    lower, upper = np.maximum(middle - reach, 0.0), np.minimum(middle + reach, 1.0)
    return BOUND_EARNED * (2.0 * lower - 1.0), BOUND_EARNED * (2.0 * upper - 1.0)


def _bounded(mean: Floats, bound: float) -> Floats:
    result: Floats = np.clip(mean, -bound, bound) / bound
    return result


def _log_returns(outcome: Floats) -> Floats:
    """Return float64[R, stakes] log returns of outcomes in [-1, 1]."""
    result: Floats = np.log1p(np.array(STAKES) * outcome[:, None])
    return result


def _log_mean(log_wealth: Floats) -> Floats:
    """Return float64[R], the log of the mean wealth over stakes."""
    top = log_wealth.max(axis=1)
    result: Floats = top + np.log(np.mean(np.exp(log_wealth - top[:, None]), axis=1))
    return result
