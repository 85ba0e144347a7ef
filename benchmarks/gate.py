"""Simulate the promotion gate: ``python -m benchmarks.gate``.

It measures how often a recipe without skill is promoted in a year of daily checks, how soon one
with skill is promoted, how soon a champion whose skill turns to noise is demoted, and how often a
champion that keeps its skill is demoted. It writes ``benchmarks/results/gate.json`` in about a
minute.

A correction g of the log variance gains about Var(g) / 2 of QLIKE while it is right, and costs
about as much once it is unrelated to outcomes: a champion that gained 0.035 then loses 0.035.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.special import betaincinv

from benchmarks.results import Row, table, write
from volatility.evaluation import LEAST_BLOCKS, Accounts, Evidence, not_worse
from volatility.units import Floats

RESULTS = Path(__file__).parent / "results" / "gate.json"
BLOCKS_A_DAY = 72
YEAR_DAYS = 365
SYMBOLS, TOGETHER = 10, 0.7  # symbols, and the correlation of their differences
CORRELATION = 0.3  # between the differences of consecutive blocks
FREEDOM = 4  # of Student's t: heavy tails
CALM, UNREST = 0.99, 0.05  # log deviation: correlation between blocks, and size of its shocks
GAIN, DEVIATION = 0.035, 0.086  # QLIKE per block: BitMEX in the study
GOOD_DAYS = 30  # before a champion loses its skill
MARGIN, FIT_DEVIATION = 0.01, 0.02  # QLIKE per block, between two fits of one recipe
# For a null that wanders: length of periods of one sign, and mean difference per block in them.
WANDERS = ((5, 0.005), (1, 0.02))
# Nulls that win a little in each block and occasionally lose a lot: how often, and how much.
DISASTERS = ((0.01, 1.0), (0.005, 2.0), (0.003, 3.0))


@dataclass(frozen=True)
class Year:
    """Represent when each recipe was first promoted and demoted: float64[R] days, or infinite.

    ``missed`` bool[R]: whether the interval excluded the true mean, zero, at any check.
    """

    promoted: Floats
    demoted: Floats
    missed: npt.NDArray[np.bool_]


def differences(random: np.random.Generator, recipes: int, days: int) -> Floats:
    """Draw float64[blocks, recipes] differences of mean 0 and deviation 1, averaged over symbols.

    They have Student's t distribution, a factor common to all symbols, correlation between
    consecutive blocks, and a deviation that varies over days, the same for all symbols.
    """
    shape = (days * BLOCKS_A_DAY, recipes)
    shocks = math.sqrt(TOGETHER) * random.standard_t(FREEDOM, shape)
    for _ in range(SYMBOLS):
        shocks += math.sqrt(1.0 - TOGETHER) / SYMBOLS * random.standard_t(FREEDOM, shape)
    variance = FREEDOM / (FREEDOM - 2.0) * (TOGETHER + (1.0 - TOGETHER) / SYMBOLS)
    fresh = math.sqrt((1.0 - CORRELATION**2) / variance)
    carried: Floats = lfilter([fresh], [1.0, -CORRELATION], shocks, axis=0)
    unrest = lfilter([UNREST], [1.0, -CALM], random.standard_normal(shape), axis=0)
    scale: Floats = np.exp(unrest)
    return carried * scale / math.sqrt(np.mean(scale**2))


def look_daily(gains: Floats, start_day: int = 0) -> Year:
    """Accumulate float64[blocks, recipes] as the gate does; check once a day from ``start_day``."""
    blocks, recipes = gains.shape
    accounts = Accounts(Evidence(), recipes)
    promoted, demoted = np.full(recipes, np.inf), np.full(recipes, np.inf)
    missed = np.zeros(recipes, dtype=bool)
    for block in range(blocks):
        accounts.count(gains[block])
        day, rest = divmod(block + 1, BLOCKS_A_DAY)
        if rest or day <= start_day:
            continue
        promoted[accounts.earned() & np.isinf(promoted)] = day - start_day
        demoted[accounts.refuted() & np.isinf(demoted)] = day - start_day
        lower, upper = accounts.bounds()
        missed |= (lower > 0.0) | (upper < 0.0)
    return Year(promoted, demoted, missed)


def share_row(
    measure: str, times: int, runs: int, most: float | None = None, least: float | None = None
) -> Row:
    """Return a row for a share, with the 95 % interval of Clopper and Pearson (1934)."""
    low = float(betaincinv(times, runs - times + 1, 0.025)) if times else 0.0
    high = float(betaincinv(times + 1, runs - times, 0.975)) if times < runs else 1.0
    share, target, met = times / runs, None, None
    if most is not None:
        target, met = f"<= {most:g}", share <= most
    if least is not None:
        target, met = f">= {least:g}", share >= least
    text = f"{measure} ({times:,} of {runs:,}, 95 % interval {low:.3f} to {high:.3f})"
    return Row(text, "share of runs", share, None, None, None, target, met)


def _within(days: Floats, limit: float) -> int:
    return int(np.sum(days <= limit))


def _median_row(measure: str, days: Floats) -> list[Row]:
    median = float(np.median(days))
    if math.isinf(median):
        return []
    low, high = np.quantile(days, (0.05, 0.95), method="nearest")
    text = f"{measure}, median (90 % of runs: {low:g} to {high:g})"
    return [Row(text, "days", median, None, None, None, None, None)]


def nulls(random: np.random.Generator, null: Floats) -> list[Row]:
    """Measure how often recipes without skill are promoted in a year."""
    blocks, recipes = null.shape
    year = "promoted in a year of daily looks"
    rows = []
    for deviation in (0.02, DEVIATION, 0.2):
        found = look_daily(deviation * null)
        times = _within(found.promoted, YEAR_DAYS)
        text = f"null recipes of deviation {deviation:g} a block, {SYMBOLS} symbols that move "
        rows.append(share_row(f"{text}together: {year}", times, recipes, most=0.05))
        if deviation == DEVIATION:
            text = "null recipes: the interval missed the mean at any of the looks"
            rows.append(share_row(text, int(found.missed.sum()), recipes, most=0.05))
    for days, height in WANDERS:
        start = random.integers(0, 2 * days * BLOCKS_A_DAY, recipes)
        stretch = (np.arange(blocks)[:, None] + start) // (days * BLOCKS_A_DAY)
        found = look_daily(DEVIATION * null + np.where(stretch % 2, height, -height))
        text = f"null recipes better and worse by {height:g} in turn, {days} days each"
        times = _within(found.promoted, YEAR_DAYS)
        rows.append(share_row(f"{text}: {year}", times, recipes, most=0.05))
    for often, loss in DISASTERS:
        hit = random.random(null.shape) < often
        found = look_daily(0.5 * DEVIATION * null + loss * (often - hit))
        text = f"null recipes that lose {loss:g} in one block of {1 / often:.0f}"
        times = _within(found.promoted, YEAR_DAYS)
        # The bound on a group's loss is 2.4; beyond it there is no guarantee.
        most = 0.05 if loss <= 2.0 else None
        rows.append(share_row(f"{text}: {year}", times, recipes, most=most))
    return rows


def promotion(noise: Floats) -> list[Row]:
    """Measure how soon a recipe with skill is promoted."""
    rows = []
    for gain, target in ((GAIN, 0.9), (0.01, None)):
        days = look_daily(gain + DEVIATION * noise).promoted
        text = f"recipes that gain {gain:g}, deviation {DEVIATION:g}: promoted"
        times = _within(days, 14)
        rows.append(share_row(f"{text} within 14 days", times, len(days), least=target))
        rows += _median_row(text, days)
    return rows


def demotion(noise: Floats, null: Floats) -> list[Row]:
    """Measure how soon a champion that loses its skill is demoted, and how often others are."""
    rows = []
    for good in (0, GOOD_DAYS):
        gains = DEVIATION * noise[: (good + 14) * BLOCKS_A_DAY]
        gains[: good * BLOCKS_A_DAY] += GAIN
        gains[good * BLOCKS_A_DAY :] -= GAIN
        days = look_daily(gains, start_day=good).demoted
        text = f"champions whose skill turns to noise after {good} good days: demoted"
        rows.append(share_row(f"{text} within 3 days", _within(days, 3), len(days), least=0.9))
        rows += _median_row(text, days)
    for gain, deviation in ((GAIN, DEVIATION), (0.02, DEVIATION), (0.01, DEVIATION),
                            (0.0, DEVIATION), (0.02, 0.2)):  # fmt: skip
        days = look_daily(gain + deviation * null).demoted
        text = f"champions that keep a gain of {gain:g}, deviation {deviation:g}: demoted"
        rows.append(share_row(f"{text} within 30 days", _within(days, 30), len(days)))
        times = _within(days, YEAR_DAYS)
        most = 0.05 if (gain, deviation) == (GAIN, DEVIATION) else None
        rows.append(share_row(f"{text} within a year", times, len(days), most=most))
    return rows


def refresh(null: Floats) -> list[Row]:
    """Measure how often a new fit that is worse, or equally good, replaces the old one.

    A year has thirteen trials, one every four weeks.
    """
    months = range(0, YEAR_DAYS * BLOCKS_A_DAY - BLOCKS_A_DAY, 30 * BLOCKS_A_DAY)
    rows = []
    for blocks, loss, target in ((LEAST_BLOCKS, MARGIN, 0.05), (BLOCKS_A_DAY, MARGIN, 0.05),
                                 (LEAST_BLOCKS, 0.0, None), (BLOCKS_A_DAY, 0.0, None)):  # fmt: skip
        trials = np.concatenate([null[start : start + blocks].T for start in months])
        fits = loss + FIT_DEVIATION * trials
        times = sum(not_worse(fit, MARGIN).passed for fit in fits)
        text = f"fits worse by {loss:g}, margin {MARGIN:g}, {blocks} blocks: replace the old one"
        rows.append(share_row(text, times, len(fits), most=target))
    return rows


def measure(recipes: int, seed: int) -> list[Row]:
    """Run the simulations; scenarios of the same kind share their random draws."""
    random = np.random.default_rng(seed)
    null = differences(random, recipes, YEAR_DAYS)
    noise = differences(random, recipes, GOOD_DAYS + 14)
    return [
        *nulls(random, null),
        *promotion(noise),
        *demotion(noise, null),
        *refresh(null),
    ]


def main() -> None:
    """Run the simulations, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    rows = measure(options.recipes, options.seed)
    print(table(rows))
    write(rows, RESULTS)


if __name__ == "__main__":
    main()
