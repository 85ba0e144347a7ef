"""Measure how well a prior transfers to an unseen venue, given some hours of its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import delayed

from benchmarks.prediction.rows import StudyRow, interval_row
from volatility.dataset import Dataset, before
from volatility.evaluation import (
    Difference,
    clock_blocks,
    difference,
    draw_blocks,
    mean_draws,
    qlike_bps,
    realised_bps,
    symbol_weights,
)
from volatility.features import INDEX, LONGEST_WINDOW_SECONDS
from volatility.files import Json
from volatility.models import FLOOR, fit_bundle
from volatility.settings import Settings
from volatility.units import SECOND, Floats, Integers

if TYPE_CHECKING:
    from benchmarks.prediction.study import Venue


HOURS = (0, 1, 4, 16, 48)
TEST_SHARE = 0.4
ENOUGH = 0.9  # minimum share of the requested hours
HALF_LIVES = (10, 60, 300)


@dataclass(frozen=True)
class Losses:
    """Represent the QLIKE of each test row by model, for a number of hours of own data."""

    venue: str
    hours: int
    time: Integers
    by_model: dict[str, Floats]


def split(data: Dataset) -> tuple[Integers, Integers]:
    """Return the purged training rows, and the newest rows for testing."""
    first = int((1.0 - TEST_SHARE) * len(data))
    start = int(data.time[first])
    train = before(data.time, start, data.horizons[-1], LONGEST_WINDOW_SECONDS)
    return train, np.arange(first, len(data), dtype=np.int64)


def measure(venue: Venue, settings: Settings) -> list[Losses]:
    """Fit on more and more hours before the start of the test, and score the same test rows."""
    data = venue.data
    train, chosen = split(data)
    test = data.take(chosen)
    place = np.zeros(len(test), dtype=np.int64)
    real, bps = realised_bps(test)[:, 0], 1e4 * np.sqrt(data.horizons[0])
    result = []
    for hours in HOURS:
        if hours == 0:
            made = venue.prior.forecaster.log_variance(test.rows, np.full(len(test), -1), 0)
            models = {"ml": np.exp(0.5 * made) * bps}
            for half_life in HALF_LIVES:
                raw = np.nan_to_num(test.rows[:, INDEX[f"ewma_volatility_{half_life}s"]])
                models[f"EWMA {half_life} s"] = np.maximum(raw, FLOOR) * bps
        else:
            last = int(data.time[train[-1]])
            own = train[data.time[train] > last - hours * 3600 * SECOND]
            # Recordings have holes: only hours with rows count.
            if len(own) * settings.train.stride_seconds < ENOUGH * hours * 3600:
                own = train[-int(hours * 3600 / settings.train.stride_seconds) :]
            if len(own) * settings.train.stride_seconds < ENOUGH * hours * 3600:
                continue
            bundle = fit_bundle(data.take(own), settings, venue.prior)
            models = {
                name: np.exp(0.5 * bundle.forecasters[name].log_variance(test.rows, place, 0)) * bps
                for name in ("ml", "har", "ewma", "ewma_level")
            }
        losses = {name: qlike_bps(made, real) for name, made in models.items()}
        result.append(Losses(venue.name, hours, test.time, losses))
    return result


def compare(parts: Sequence[Losses], model: str, peer: str, settings: Settings) -> Difference:
    """Return the mean difference of loss over venues, with equal weights."""
    apart = np.concatenate([p.by_model[model] - p.by_model[peer] for p in parts])
    symbol = np.concatenate([np.full(len(p.time), k) for k, p in enumerate(parts)])
    block = clock_blocks(np.concatenate([p.time for p in parts]), settings.evaluate.block_seconds)
    weight = symbol_weights(symbol)
    draws = draw_blocks(int(block.max()) + 1, settings.evaluate.resamples, settings.train.seed)
    point = float(np.average(apart, weights=weight))
    return difference(point, mean_draws(apart, weight, block, draws))


def rows(venues: Sequence[Venue], settings: Settings, run: Any) -> list[StudyRow]:
    """Return the transfer rows of each venue and of the pool, by hours of own data."""
    found: list[Losses] = [
        one for part in run(delayed(measure)(venue, settings) for venue in venues) for one in part
    ]
    result = []
    for hours in HOURS:
        parts = [one for one in found if one.hours == hours]
        if not parts:
            continue
        peers = [name for name in parts[0].by_model if name != "ml"]
        for peer in peers:
            for one in parts:
                target = "interval not wholly above zero" if hours == 4 else None
                result.append(
                    _row(f"{one.venue}, {hours} h of own data, QLIKE less {peer}", peer,
                         compare([one], "ml", peer, settings), target)
                )  # fmt: skip
            target = "interval below zero" if hours in (0, 4) else None
            result.append(
                _row(f"pool of {len(parts)} venues, {hours} h of own data, QLIKE less {peer}", peer,
                     compare(parts, "ml", peer, settings), target)
            )  # fmt: skip
    return result


def _row(measure: str, peer: str, found: Difference, target: str | None) -> StudyRow:
    content: Json = {"difference": found.difference, "interval": list(found.interval)}
    return interval_row(measure, "QLIKE", None, None, peer, content, target)
