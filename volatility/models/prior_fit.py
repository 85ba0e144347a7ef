"""Fit a prior on many venues."""

from __future__ import annotations

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from volatility.dataset import Dataset
from volatility.features import MODEL_INPUTS, table_digest
from volatility.models.boosting import INPUT_COLUMNS, usable_inputs
from volatility.models.bundle import FORMAT, LEVEL_QUANTILES, Bundle, Specification
from volatility.models.fit import (
    LARGEST,
    example_fields,
    provenance,
    quantile_levels,
    spike_levels,
    threshold,
)
from volatility.models.law import Law
from volatility.models.pooled import fit_pooled, pooled_forecaster, to_pooled
from volatility.models.prior import Prior
from volatility.models.residuals import residual_law
from volatility.models.sample import sample
from volatility.models.storage import PRIOR
from volatility.settings import Settings


def fit_prior(data: Dataset, settings: Settings) -> Prior:
    """Fit the pooled part on the rows of at least two symbols, which represent venues.

    The residual law and the threshold come from forecasts of each venue by a fit that had not
    seen it, as will be the case for a user's symbol.

    Raises
    ------
    ValueError
        If there are fewer than two symbols.
    """
    if len(data.symbols) < 2:
        raise ValueError("fitting a prior needs two or more symbols, such as venues")
    samples = [sample(data, place) for place in range(len(data.horizons))]
    with threadpool_limits(1):
        fits = [fit_pooled(one, settings.train) for one in samples]
    validated = [fit.validated for fit in fits]
    law = residual_law(samples, validated)
    unknown = Law(law.coordinates[-1:], law.table[-1:])
    level = float(np.exp(np.mean(np.log(samples[0].level))))
    forecaster = pooled_forecaster(to_pooled(fits), unknown, level)
    inputs = data.rows[:, INPUT_COLUMNS]
    missing = np.isnan(inputs)
    usable = set(usable_inputs(data.rows).tolist())
    levels = spike_levels(data, settings)
    own = levels[data.symbol, 0] / 1e4 / np.sqrt(data.horizons[0])
    specification = Specification(
        format=FORMAT,
        recipe="",
        feature_digest=table_digest(),
        features=settings.features,
        horizons=data.horizons,
        symbols=(),
        models=(PRIOR,),
        best_simple="",
        inputs=tuple(
            name
            for name, column in zip(MODEL_INPUTS, INPUT_COLUMNS, strict=True)
            if column in usable
        ),
        spike_levels_bps=(tuple(levels[-1].tolist()),),
        quantile_levels_bps=(tuple(quantile_levels(data, 0, LEVEL_QUANTILES)[-1].tolist()),),
        thresholds={},
        base_rate=float(np.mean(np.sqrt(data.variance[:, 0]) >= own)),
        lowest=tuple(np.where(missing, LARGEST, inputs).min(axis=0).tolist()),
        highest=tuple(np.where(missing, -LARGEST, inputs).max(axis=0).tolist()),
        may_be_missing=(True,) * len(MODEL_INPUTS),  # venues differ in what they record
        train_start=int(data.time[0]),
        train_stop=int(data.time[-1]),
        train_rows=len(data),
        data_digest=data.digest(),
        prior_digest="",
        parameters={"venues": list(data.symbols), "train": msgspec.to_builtins(settings.train)},
        example_rows=(),
        example_symbols=(),
        example_scores=(),
        provenance=provenance(),
    )
    draft = Bundle(specification, {PRIOR: forecaster}, "prior")
    # Each venue's own spike level: with the median of all, some venue would be all spikes.
    scored = draft.forecaster.exceedance_of(
        samples[0].rows, np.full(len(samples[0]), -1), 0, validated[0], own
    )
    found = threshold(scored, data, settings)
    specification = msgspec.structs.replace(specification, thresholds={PRIOR: found})
    return Prior(example_fields(Bundle(specification, {PRIOR: forecaster}, "prior"), data))
