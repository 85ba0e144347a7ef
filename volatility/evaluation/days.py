"""Select three days for plots of forecast and outcome: the best, the median and the worst."""

from __future__ import annotations

import numpy as np

from volatility.evaluation.predictions import BASELINE, Predictions
from volatility.evaluation.resampled import ML, losses
from volatility.evaluation.results import DrawnDay
from volatility.units import DAY_NS, iso

DRAWN_POINTS = 720  # per day: one every two minutes


def drawn_days(predictions: Predictions) -> tuple[DrawnDay, ...]:
    """Return forecast, band and outcome for the best, median and worst day.

    The days of one symbol are ranked by how much lower the QLIKE of ``ml`` is than that of the
    best simple forecast. Each day is thinned to one point every two minutes.
    """
    data = predictions.data
    if ML not in predictions.said or BASELINE not in predictions.said:
        return ()
    gain = losses(predictions, BASELINE) - losses(predictions, ML)
    keys, part = np.unique(
        np.column_stack([data.symbol, data.time // DAY_NS]), axis=0, return_inverse=True
    )
    part = part.reshape(-1)
    count = np.bincount(part)
    mean = np.bincount(part, gain) / count
    whole = np.flatnonzero(count >= 0.25 * count.max())
    order = whole[np.argsort(-mean[whole], kind="stable")]
    chosen = dict(
        zip(("best", "median", "worst"), (order[0], order[len(order) // 2], order[-1]), strict=True)
    )
    said = predictions.said[ML]
    result = []
    for title, number in chosen.items():
        mine = np.flatnonzero(part == number)
        mine = mine[:: max(1, len(mine) // DRAWN_POINTS)]
        result.append(
            DrawnDay(
                title=title,
                symbol=data.symbols[int(keys[number, 0])],
                date=iso(int(keys[number, 1]) * DAY_NS)[:10],
                gain=float(mean[number]),
                time=tuple(iso(t) for t in data.time[mine]),
                forecast_bps=tuple(said.volatility_bps[mine, 0].tolist()),
                low_bps=tuple(said.quantiles_bps[mine, 0].tolist()),
                high_bps=tuple(said.quantiles_bps[mine, -1].tolist()),
                realised_bps=tuple(predictions.realised_bps[mine, 0].tolist()),
            )
        )
    return tuple(result)
