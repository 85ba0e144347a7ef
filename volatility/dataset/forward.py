"""Compute the labels: the realised variance of the seconds after each step.

The first return of a window starts at the midprice known at its step and ends after it. The sum
is divided by the horizon whenever the quotes arrive, so early and late moves count equally, and a
jump at the first quote is not lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from volatility.features import RETURN_CAP, SQUARE_SCALE
from volatility.units import SECOND, Floats, Integers


def forward_variance(
    time: Integers, log_return: Floats, record_age: Floats, horizons: Sequence[int]
) -> Floats:
    """Compute the realised variance over (t, t + horizon] of every step of one symbol.

    Parameters
    ----------
    time : int64[n]
        Steps [ns], increasing.
    log_return : float64[n]
        ``log_return_1s``; NaN if undefined.
    record_age : float64[n]
        ``seconds_since_record`` [s].
    horizons : sequence of int
        H horizons [s].

    Returns
    -------
    float64[n, H]
        Mean of squared one-second log returns [1/s]; 0 if the midprice did not move. NaN if the
        window is incomplete, because it contains a gap or the end of the data.

    Notes
    -----
    Gaps are determined in hindsight: a gap starts at the last record before the silence, although
    the rows in its first seconds could not know about it.
    """
    count = len(time)
    second = time // SECOND
    broken = np.isnan(log_return)
    # The last silence may still become a gap, so it counts as one.
    ends = np.append(broken[1:] | (np.diff(second) > 1), True)[:count]
    for last in np.flatnonzero(ends):
        first_silent = -int(-(time[last] - record_age[last] * SECOND) // SECOND) + 1
        broken[np.searchsorted(second, first_silent) : last + 1] = True
    clipped = np.clip(np.nan_to_num(log_return), -RETURN_CAP, RETURN_CAP)
    # Integers: a sum over any window is exact, however long the history before it.
    squares = np.concatenate([[0], np.cumsum(np.rint(clipped**2 * SQUARE_SCALE).astype(np.int64))])
    breaks = np.concatenate([[0], np.cumsum(broken)])
    row = np.arange(count)
    result = np.full((count, len(horizons)), np.nan)
    for place, horizon in enumerate(horizons):
        start = row[: max(count - horizon, 0)]
        end = start + horizon
        whole = (second[end] == second[start] + horizon) & (breaks[end + 1] == breaks[start + 1])
        total = squares[end + 1] - squares[start + 1]
        result[start[whole], place] = total[whole] / SQUARE_SCALE / horizon
    return result
