"""Read any probability from a forecast as it was said: its quantiles and its spike probability.

Between them the distribution is linear, and beyond the last it falls as the residual law does.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import NamedTuple

from volatility.models import QUANTILES, TAIL
from volatility.records import HorizonForecast

NORMAL_MOVE = math.sqrt(2.0 / math.pi)  # expected absolute value of a normal with deviation 1


class Distribution(NamedTuple):
    """Represent the distribution of forward volatility.

    Parameters
    ----------
    levels : list of float
        Ascending [basis points over the horizon].
    below : list of float
        Probability of a volatility below each level, ascending.
    """

    levels: list[float]
    below: list[float]

    @classmethod
    def of(cls, forecast: HorizonForecast) -> Distribution:
        """Return the distribution that a forecast describes."""
        spread = forecast.quantiles_bps
        levels = [spread.p05, spread.p25, spread.p50, spread.p75, spread.p95]
        below = list(QUANTILES)
        known, level = forecast.spike_probability, forecast.spike_level_bps
        if known is not None:
            place = bisect_left(levels, level)
            low = below[place - 1] if place else 0.0
            high = below[place] if place < len(below) else 1.0
            # Rounding apart it always fits: quantiles and probability come from one table.
            if (place == len(levels) or levels[place] > level) and low < 1.0 - known < high:
                levels.insert(place, level)
                below.insert(place, 1.0 - known)
        return cls(levels, below)

    def above(self, level: float) -> float:
        """Return the probability that volatility reaches a level [basis points]."""
        if level <= 0.0:
            return 1.0
        place = bisect_left(self.levels, level)
        if place == len(self.levels):
            return (1.0 - self.below[-1]) * (self.levels[-1] / level) ** TAIL
        high, most = self.levels[place], self.below[place]
        low, least = (self.levels[place - 1], self.below[place - 1]) if place else (0.0, 0.0)
        return 1.0 - (least + (level - low) / (high - low) * (most - least))

    def mean(self) -> float:
        """Return the expected volatility [basis points over the horizon].

        It is less than the root of the expected variance, which forecasts report.
        """
        levels, below = [0.0, *self.levels], [0.0, *self.below]
        inner = sum(
            (below[k + 1] - below[k]) * (levels[k] + levels[k + 1]) / 2
            for k in range(len(levels) - 1)
        )
        return inner + (1.0 - below[-1]) * levels[-1] * TAIL / (TAIL - 1.0)

    def expected_move(self) -> float:
        """Return the expected absolute change of the midprice [basis points].

        Given the volatility, the change is taken to be normal.
        """
        return NORMAL_MOVE * self.mean()
