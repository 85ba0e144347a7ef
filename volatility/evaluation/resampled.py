"""Compute losses, spikes, means and resamples of predictions in blocks of clock time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from volatility.evaluation.blocks import clock_blocks, symbol_weights
from volatility.evaluation.bootstrap import Draws, Precision, draw_blocks, stratified_precision
from volatility.evaluation.predictions import BASELINE, Predictions
from volatility.evaluation.scores import qlike_bps
from volatility.settings import Settings
from volatility.units import SECOND, Bools, Floats, Integers

ML = "ml"


@dataclass(frozen=True)
class Resampled:
    """Represent the rows' blocks of clock time, their weights, and the draws of blocks.

    ``block`` is int64[n]; ``weight`` float64[n] gives all symbols equal weight; ``stratum``
    int64[n] is the symbol and fold, within which scores can be ranked.
    """

    block: Integers
    weight: Floats
    stratum: Integers
    draws: Draws


def resample(predictions: Predictions, settings: Settings) -> Resampled:
    """Draw blocks of clock time, keeping all symbols of a block together."""
    data = predictions.data
    block = clock_blocks(data.time, settings.evaluate.block_seconds)
    draws = draw_blocks(int(block.max()) + 1, settings.evaluate.resamples, settings.train.seed)
    stratum = predictions.fold * len(data.symbols) + data.symbol
    return Resampled(block, symbol_weights(data.symbol), stratum, draws)


def precision(spikes: Bools, scores: Floats, drawn: Resampled) -> Precision:
    """Return the PR-AUC of scores, float64[n], and its resamples."""
    return stratified_precision(
        spikes, scores, drawn.weight, drawn.stratum, drawn.block, drawn.draws
    )


def spikes_of(predictions: Predictions) -> Bools:
    """Return bool[n]: whether a spike over the first horizon followed each row."""
    return predictions.realised_bps[:, 0] >= predictions.spike_level_bps[:, 0]


def losses(predictions: Predictions, name: str, place: int = 0) -> Floats:
    """Return a model's QLIKE for each row at a horizon's index; NaN without an outcome."""
    return qlike_bps(
        predictions.said[name].volatility_bps[:, place], predictions.realised_bps[:, place]
    )


def exceeds(predictions: Predictions, level: int) -> Bools:
    """Return bool[n]: whether each row exceeded the level at an index of ``LEVEL_QUANTILES``."""
    return predictions.realised_bps[:, 0] >= predictions.quantile_level_bps[:, level]


def by_block(values: Floats, drawn: Resampled) -> Floats:
    """Return the weighted mean of each block, in time order."""
    known = ~np.isnan(values)
    count = int(drawn.block.max()) + 1
    total = np.bincount(drawn.block[known], (values * drawn.weight)[known], minlength=count)
    weight = np.bincount(drawn.block[known], drawn.weight[known], minlength=count)
    return total[weight > 0.0] / weight[weight > 0.0]


def without_draws(drawn: Resampled) -> Resampled:
    """Return the same rows without resamples, for point estimates only."""
    return replace(drawn, draws=Draws(drawn.draws.counts[:1]))


def restricted(drawn: Resampled, chosen: Bools) -> Resampled:
    """Return a subset of the rows."""
    return replace(
        drawn, block=drawn.block[chosen], weight=drawn.weight[chosen], stratum=drawn.stratum[chosen]
    )


def block_gains(
    predictions: Predictions, settings: Settings, first: str = ML, second: str = BASELINE
) -> tuple[Integers, Floats]:
    """Return the ends [ns] of the clock blocks, and how much lower the first model's QLIKE was.

    A row whose window extends into the next block is excluded, so that blocks share no outcome.
    Within a block, all symbols have equal weight.
    """
    block_ns = settings.evaluate.block_seconds * SECOND
    data = predictions.data
    inside = data.time % block_ns < block_ns - data.horizons[0] * SECOND
    gain = (losses(predictions, second) - losses(predictions, first))[inside]
    number = data.time[inside] // block_ns
    blocks, place = np.unique(number, return_inverse=True)
    symbols = len(data.symbols)
    cell = place * symbols + data.symbol[inside]
    size = len(blocks) * symbols
    total = np.bincount(cell, gain, minlength=size).reshape(-1, symbols)
    count = np.bincount(cell, minlength=size).reshape(-1, symbols)
    mean = np.divide(total, count, out=np.zeros(total.shape), where=count > 0)
    return (blocks + 1) * block_ns, mean.sum(axis=1) / np.maximum((count > 0).sum(axis=1), 1)
