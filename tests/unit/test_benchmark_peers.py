"""Check that the benchmark is fair: its peers compute the same, and all of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import GammaRegressor

from benchmarks.core import Records, kernel_features, to_all_forms
from benchmarks.month import START_NS, SYMBOL
from benchmarks.peers import COMPUTED, LEFT_OUT, with_pandas, with_polars
from benchmarks.scoring import fit_ensembles, recorded_fits, with_trees
from tests.bundles import random_dataset, random_rows, small_bundle
from volatility.features.table import FEATURE_NAMES, INDEX
from volatility.models.trees import empty
from volatility.settings import Settings
from volatility.simulation.simulator import simulate

# The kernel's averages end after 20 minutes, the peers' never do: up to then they are the same.
SECONDS = 1190
WARM_SECONDS = 300
# Rolling sums of floats keep a residue of what has left the window.
RELATIVE, OF_LARGEST = 1e-6, 1e-10


@pytest.fixture(scope="module")
def records() -> Records:
    """Draw a market whose moves and spreads are large beside the kernel's fixed-point steps."""
    table = pa.Table.from_batches(simulate(SYMBOL, START_NS, SECONDS / 3600, 7))
    bid, ask = table["bid"].to_numpy(), table["ask"].to_numpy()
    middle = 0.5 * (bid + ask)
    moved = middle * (middle / np.nanmin(middle)) ** 49
    half = moved * (2.5e-4 + 50.0 * (ask - bid) / middle)
    for name, values in (("bid", moved - half), ("ask", moved + half)):
        column = pa.array(values, mask=np.isnan(values))
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return to_all_forms(table)


def pandas_features(records: Records) -> dict[int, np.ndarray]:
    frame = with_pandas.features(records.pandas)
    times = pd.DatetimeIndex(frame.index).astype("int64")
    return dict(zip(times.tolist(), frame[[*COMPUTED]].to_numpy(), strict=True))


def polars_features(records: Records) -> dict[int, np.ndarray]:
    frame = with_polars.features(records.polars)
    times = frame["time"].to_physical().to_list()
    return dict(zip(times, frame.select(COMPUTED).to_numpy(), strict=True))


@pytest.mark.parametrize("peer", [pandas_features, polars_features])
def test_a_peer_computes_the_kernels_numbers(peer, records: Records) -> None:
    time, rows = kernel_features(records)
    time, rows = time[WARM_SECONDS:], rows[WARM_SECONDS:]
    assert len(time) > 800
    theirs = peer(records)
    compared = np.array([theirs[step] for step in time.tolist()])
    for place, name in enumerate(COMPUTED):
        ours = rows[:, INDEX[name]]
        assert np.isfinite(ours).all(), name
        largest = np.abs(ours).max()
        assert largest > 0.0, name
        np.testing.assert_allclose(
            compared[:, place], ours, rtol=RELATIVE, atol=OF_LARGEST * largest, err_msg=name
        )


def test_the_peers_leave_out_only_what_they_say() -> None:
    assert set(FEATURE_NAMES) - set(COMPUTED) == set(LEFT_OUT)
    assert len(LEFT_OUT) == 1


def test_the_timed_forecast_walks_all_trees_of_the_peers() -> None:
    ensembles = fit_ensembles(random_dataset(2_000), Settings())
    assert len(ensembles.models) == 6
    assert ensembles.count == sum(model.n_iter_ for model in ensembles.models) == 450
    rows, place = random_rows(50), np.zeros(50, np.int64)
    whole = with_trees(small_bundle(), ensembles).forecaster
    less = with_trees(small_bundle(), replace(ensembles, own=(empty(),) * 3)).forecaster
    for horizon, own in enumerate(ensembles.own):
        added = whole.log_variance(rows, place, horizon) - less.log_variance(rows, place, horizon)
        assert np.abs(own.raw(rows)).max() > 0.01
        np.testing.assert_allclose(added, own.raw(rows), atol=1e-9)


def test_fits_are_timed_inside_the_block_only() -> None:
    plain = HistGradientBoostingRegressor.fit, GammaRegressor.fit
    inputs, outcome = np.arange(100.0)[:, None], np.arange(1.0, 101.0)
    with recorded_fits() as fits:
        GammaRegressor().fit(inputs, outcome)
        linear_seconds = fits.seconds
        model = HistGradientBoostingRegressor(max_iter=2).fit(inputs, outcome)
    assert 0.0 < linear_seconds < fits.seconds
    assert fits.trees == [model]
    assert (HistGradientBoostingRegressor.fit, GammaRegressor.fit) == plain
