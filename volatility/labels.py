"""Look forward from each step: realised volatility of the next minute, and whether it spikes.

The forward window of step t uses only ticks after t: its first return starts at the first
quote that arrives after t, so no price known at t reaches into it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volatility.features import FeatureFrame
from volatility.kernel_state import RETURN_CAP, SECOND, SQUARE_SCALE
from volatility.settings import Label

Floats = npt.NDArray[np.float64]


def forward_volatility(frame: FeatureFrame, horizon_seconds: int) -> Floats:
    """Measure realised volatility over (t, t + horizon] for each row.

    Returns
    -------
    float64[n]
        Root mean square of the one-second log returns between quotes that arrived after t,
        dimensionless; 0 where no quote came. NaN where the window is not covered whole: a
        gap, or the end of the data, lies in it.

    Notes
    -----
    A gap is seen here with hindsight: it starts at the last record before the silence, while
    the rows in its first seconds could not know of it.
    """
    count = len(frame.time)
    second = frame.time // SECOND
    returns = frame.column("log_return_1s")
    age = frame.column("seconds_since_record")
    broken = np.isnan(returns)
    # What the last silence will turn out to be is not known yet, so it counts as a gap.
    ends = np.append(broken[1:] | (np.diff(second) > 1), True)
    for last in np.flatnonzero(ends[:count]):
        first_silent = -int(-(frame.time[last] - age[last] * SECOND) // SECOND) + 1
        silent = np.searchsorted(second, first_silent)
        broken[silent : last + 1] = True
    clipped = np.clip(np.nan_to_num(returns), -RETURN_CAP, RETURN_CAP)
    squares = np.concatenate([[0], np.cumsum(np.rint(clipped**2 * SQUARE_SCALE).astype(np.int64))])
    breaks = np.concatenate([[0], np.cumsum(broken)])

    row = np.arange(count)
    end = row + horizon_seconds
    inside = end < count
    whole = inside.copy()
    whole[inside] &= second[end[inside]] == second[inside] + horizon_seconds
    whole[inside] &= breaks[end[inside] + 1] == breaks[row[inside] + 1]
    start = np.minimum(_next_quote(frame.column("trade_intensity") > 0), np.minimum(end, count - 1))
    number = np.maximum(end - start, 1)
    total = squares[np.minimum(end, count - 1) + 1] - squares[start + 1]
    return np.where(whole, np.sqrt(total / SQUARE_SCALE / number), np.nan)


def _next_quote(quoted: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Find, for each row, the first later row whose second holds a quote; n where none does."""
    count = len(quoted)
    places = np.where(quoted, np.arange(count), count)
    following = np.minimum.accumulate(places[::-1])[::-1]
    return np.concatenate([following[1:], [count]]).astype(np.int64)


def label_values(frame: FeatureFrame, label: Label) -> Floats:
    """Give what the label compares with its threshold.

    Returns
    -------
    float64[n]
        ``relative``: forward over trailing baseline volatility; ``absolute``: forward
        volatility. NaN where the window or the baseline is missing, or the baseline is zero.
    """
    forward = forward_volatility(frame, label.horizon_seconds)
    baseline = frame.column("realised_volatility_900s")
    usable = baseline > 0.0
    scale = baseline if label.kind == "relative" else np.ones_like(baseline)
    return np.divide(forward, scale, out=np.full_like(forward, np.nan), where=usable)


def spike_threshold(values: Floats, label: Label) -> float:
    """Set tau: the quantile of the training rows' values, or the absolute threshold.

    Raises
    ------
    ValueError
        When no training row has a label.
    """
    if label.kind == "absolute":
        return label.absolute_threshold
    known = values[~np.isnan(values)]
    if not len(known):
        raise ValueError("no training row has a label: the ticks hold no covered stretch")
    return float(np.quantile(known, label.quantile))
