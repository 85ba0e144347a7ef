"""Fill in the model inputs that are determined by a row's other features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volatility.compiled import njit
from volatility.features.table import INDEX

# target, dividend, divisor; the target is dividend / divisor times the scale
_RATIOS = (
    ("spread_bps", "spread", "midprice", 1e4),
    ("volatility_ratio_5s", "realised_volatility_5s", "realised_volatility_900s", 1.0),
    ("volatility_ratio_15s", "realised_volatility_15s", "realised_volatility_900s", 1.0),
    ("volatility_ratio_30s", "volatility_30s", "realised_volatility_900s", 1.0),
    ("volatility_ratio_60s", "realised_volatility_60s", "realised_volatility_900s", 1.0),
    ("volatility_ratio_300s", "realised_volatility_300s", "realised_volatility_900s", 1.0),
    ("ewma_ratio_10s", "ewma_volatility_10s", "realised_volatility_900s", 1.0),
    ("ewma_ratio_60s", "ewma_volatility_60s", "realised_volatility_900s", 1.0),
    ("ewma_ratio_300s", "ewma_volatility_300s", "realised_volatility_900s", 1.0),
    ("intensity_ratio_1s", "trade_intensity", "mean_trade_intensity_900s", 1.0),
)
_PLACES = np.array([[INDEX[name] for name in ratio[:3]] for ratio in _RATIOS])
_SCALES = np.array([ratio[3] for ratio in _RATIOS])
_MICROPRICE, _IMBALANCE, _SPREAD = (
    INDEX[name] for name in ("microprice_distance_bps", "quote_imbalance", "spread_bps")
)


def derive(rows: npt.NDArray[np.float64]) -> None:
    """Fill in, in place, the model inputs determined by the carried features of each row.

    Only missing values are filled, with the same operations as the kernel's; values that remain
    undetermined stay NaN. ``rows`` is float64[n, len(FEATURE_NAMES)]. Finite numbers of any size
    are accepted, and their ratios may overflow: such a row is out of distribution.
    """
    _derive(rows, _PLACES, _SCALES, _MICROPRICE, _IMBALANCE, _SPREAD)


@njit(nogil=True)
def _derive(rows, places, scales, microprice, imbalance, spread):  # type: ignore[no-untyped-def]
    for row in rows:
        for k in range(len(scales)):
            target, dividend, divisor = places[k]
            if np.isnan(row[target]) and row[divisor] > 0.0:
                row[target] = scales[k] * row[dividend] / row[divisor]
        if np.isnan(row[microprice]):
            row[microprice] = 0.5 * (row[imbalance] * row[spread])
