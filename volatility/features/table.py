"""Define the features: name, unit, window, warm-up and meaning, in the order of the rows.

The first block is for people, labels and baselines; the second block contains the model inputs.
These are scale-free: on a market of pure noise they are independent of the level of volatility
(Basu's theorem), so that only real dependence can help a model.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np

from volatility.units import Bools, Floats

COVERED = "0.8 of the window"
BASELINE = "300 s of the trailing 900 s"
NONE = "none"


@dataclass(frozen=True)
class Feature:
    """Describe one column of a feature row."""

    name: str
    unit: str
    window_seconds: int
    warm_up: str
    meaning: str
    model_input: bool = True


def _carried(name: str, unit: str, window: int, warm_up: str, meaning: str) -> Feature:
    return Feature(name, unit, window, warm_up, meaning, model_input=False)


FEATURES: tuple[Feature, ...] = (
    _carried("midprice", "quote currency", 0, NONE, "Mean of best bid and best ask."),
    _carried("spread", "quote currency", 0, NONE, "Best ask less best bid."),
    _carried("trade_intensity", "ticks", 1, NONE, "Ticks in the last second."),
    _carried("volatility_30s", "1", 30, COVERED, "Standard deviation of one-second log returns."),
    *(
        _carried(
            f"realised_volatility_{window}s",
            "1",
            window,
            BASELINE if window == 900 else COVERED,
            "Root mean square of one-second log returns.",
        )
        for window in (5, 15, 30, 60, 300, 900)
    ),
    *(
        _carried(
            f"ewma_volatility_{half_life}s",
            "1",
            1260,
            f"{min(3 * half_life, 300)} s of the trailing 900 s",
            f"Root of the exponentially weighted mean squared return, half-life {half_life} s.",
        )
        for half_life in (10, 60, 300)
    ),
    _carried("log_return_1s", "1", 1, "2 s", "Log return of the midprice over the last second."),
    _carried("seconds_since_record", "s", 0, NONE, "Age of the newest tick or heartbeat."),
    _carried("mean_trade_intensity_900s", "ticks/s", 900, BASELINE, "Mean ticks a second."),
    _carried("interarrival_60s", "s", 60, COVERED, "Mean time between ticks."),
    _carried("seconds_since_gap", "s", 1500, NONE, "Time since the last gap, at most 1,500 s."),
    _carried("time_of_day_sin", "1", 0, NONE, "Sine of the UTC time of day."),
    _carried("time_of_day_cos", "1", 0, NONE, "Cosine of the UTC time of day."),
    Feature("spread_bps", "basis points", 0, NONE, "Spread over midprice."),
    Feature("spread_ratio_300s", "1", 300, COVERED, "Spread over its trailing mean."),
    Feature("spread_deviation_60s", "1", 60, COVERED, "Deviation over mean of the spread."),
    Feature("volatility_ratio_5s", "1", 5, BASELINE, "realised_volatility_5s over baseline."),
    Feature("volatility_ratio_15s", "1", 15, BASELINE, "realised_volatility_15s over baseline."),
    Feature("volatility_ratio_30s", "1", 30, BASELINE, "volatility_30s over baseline."),
    Feature("volatility_ratio_60s", "1", 60, BASELINE, "realised_volatility_60s over baseline."),
    Feature("volatility_ratio_300s", "1", 300, BASELINE, "realised_volatility_300s over baseline."),
    *(
        Feature(
            f"ewma_ratio_{half_life}s",
            "1",
            1260,
            BASELINE,
            f"ewma_volatility_{half_life}s over baseline.",
        )
        for half_life in (10, 60, 300)
    ),
    *(
        Feature(
            f"bipower_ratio_{window}s",
            "1",
            window,
            COVERED,
            "Root of bipower variation (Barndorff-Nielsen and Shephard, 2004) over realised"
            " volatility: 1 without jumps, lower with them.",
        )
        for window in (60, 300)
    ),
    *(
        Feature(
            f"range_ratio_{window}s",
            "1",
            window,
            BASELINE,
            "Log of highest over lowest midprice, in baseline deviations of the window.",
        )
        for window in (60, 300)
    ),
    Feature(
        "parkinson_ratio_60s",
        "1",
        60,
        BASELINE,
        "Volatility from one-second highs and lows (Parkinson, 1980) over baseline.",
    ),
    *(
        Feature(
            f"momentum_{window}s",
            "1",
            window,
            BASELINE,
            "Absolute return over the window, in baseline deviations of the window.",
        )
        for window in (15, 60, 300)
    ),
    Feature("quote_imbalance", "1", 0, NONE, "(bid size - ask size) / (bid size + ask size)."),
    Feature(
        "microprice_distance_bps", "basis points", 0, NONE, "Size-weighted price less midprice."
    ),
    Feature("intensity_ratio_1s", "1", 1, BASELINE, "trade_intensity over its 900 s mean."),
    Feature("intensity_ratio_5s", "1", 1260, BASELINE, "Ticks, half-life 5 s, over 900 s mean."),
    Feature("intensity_ratio_60s", "1", 1260, BASELINE, "Ticks, half-life 60 s, over 900 s mean."),
    Feature("silence_ratio", "1", 300, BASELINE, "Time since the last tick in mean tick times."),
    Feature(
        "interarrival_dispersion_60s",
        "1",
        60,
        COVERED,
        "Deviation over mean of time between ticks.",
    ),
    Feature(
        "volatility_of_volatility_300s",
        "1",
        300,
        COVERED + ", each with a realised_volatility_15s",
        "Deviation over mean of realised_volatility_15s.",
    ),
)

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
INDEX: dict[str, int] = {name: place for place, name in enumerate(FEATURE_NAMES)}
WARM = INDEX["realised_volatility_900s"]  # missing while a row is not warm
MODEL_INPUTS: tuple[str, ...] = tuple(feature.name for feature in FEATURES if feature.model_input)


LONGEST_WINDOW_SECONDS = max(feature.window_seconds for feature in FEATURES)


def table_digest() -> str:
    """Return a digest of the table; a model bundle with a different digest is refused."""
    text = json.dumps([asdict(feature) for feature in FEATURES], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def is_warm(rows: Floats) -> Bools:
    """Return which rows, float64[..., features], follow enough market to be scored: bool[...].

    Training, stream, service and drift leave out the same rows.
    """
    warm: Bools = ~np.isnan(rows[..., WARM])
    return warm
