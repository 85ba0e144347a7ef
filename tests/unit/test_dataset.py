from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import frame
from volatility.dataset import Dataset, assemble, runs
from volatility.feature_table import INDEX
from volatility.features import FeatureFrame
from volatility.labels import label_values
from volatility.settings import Label

SECOND = 1_000_000_000


def two() -> tuple[FeatureFrame, FeatureFrame]:
    return frame(0.5, 1, "BTC-USD"), frame(0.5, 2, "ETH-USD")


def test_every_row_with_a_label_is_there_once_and_in_time_order() -> None:
    frames = two()
    data = assemble(frames, Label())
    labels = [label_values(f, Label()) for f in frames]
    assert len(data) == sum(int(np.sum(~np.isnan(label))) for label in labels)
    assert (np.diff(data.time) >= 0).all()
    assert data.symbols == ("BTC-USD", "ETH-USD")
    for row in range(0, len(data), 97):
        place, source = data.symbol[row], data.frame_row[row]
        assert frames[place].time[source] == data.time[row]
        assert frames[place].rows[source].tobytes() == data.rows[row].tobytes()
        assert labels[place][source] == data.values[row]
    assert len(set(zip(data.symbol, data.time, strict=True))) == len(data)


def test_no_row_has_a_cold_baseline_or_a_missing_label() -> None:
    data = assemble(two(), Label())
    assert not np.isnan(data.values).any()
    assert (data.rows[:, INDEX["realised_volatility_900s"]] > 0.0).all()


def test_what_else_is_missing_stays_missing() -> None:
    source = frame(0.5, 1, "BTC-USD")
    rows = source.rows.copy()
    rows[:, INDEX["quote_imbalance"]] = np.nan
    data = assemble([FeatureFrame("BTC-USD", source.time, rows)], Label())
    assert len(data) == len(assemble([source], Label()))
    assert np.isnan(data.rows[:, INDEX["quote_imbalance"]]).all()


def test_take_keeps_columns_together() -> None:
    data = assemble(two(), Label())
    chosen = np.array([5, 3, 500])
    part = data.take(chosen)
    assert part.time.tolist() == data.time[chosen].tolist()
    assert part.values.tolist() == data.values[chosen].tolist()
    assert part.rows.tobytes() == data.rows[chosen].tobytes()
    assert len(part) == 3


def test_gather_picks_each_row_from_its_own_frame() -> None:
    frames = two()
    data = assemble(frames, Label())
    found = data.gather([f.column("midprice") for f in frames])
    assert found.tobytes() == np.ascontiguousarray(data.rows[:, INDEX["midprice"]]).tobytes()


def test_the_digest_is_that_of_the_content() -> None:
    data = assemble(two(), Label())
    assert assemble(two(), Label()).digest() == data.digest()
    rows = data.rows.copy()
    rows[7, 3] = np.nextafter(rows[7, 3], np.inf)
    values = data.values.copy()
    values[-1] += 1e-12
    changed = [
        replace(data, rows=rows),
        replace(data, values=values),
        replace(data, time=data.time + 1),
        replace(data, symbol=1 - data.symbol),
        data.take(np.arange(len(data) - 1)),
        assemble(two(), Label(horizon_seconds=61)),
    ]
    assert len({data.digest(), *(other.digest() for other in changed)}) == len(changed) + 1


def bare(symbols: list[int], seconds: list[int]) -> Dataset:
    count = len(seconds)
    return Dataset(
        ("A", "B"),
        np.array(symbols, dtype=np.int64),
        np.array(seconds, dtype=np.int64) * SECOND,
        np.zeros((count, 1)),
        np.zeros(count),
        (),
        np.arange(count),
    )


def test_runs_by_hand() -> None:
    data = bare([0, 1, 0, 1, 0, 1, 0], [1000, 1000, 1060, 1061, 1121, 1062, 1122])
    # A: 1000, 1060 | 1121, 1122; B: 1000 | 1061, 1062.
    assert runs(data, 60).tolist() == [0, 2, 0, 3, 1, 3, 1]


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1000)), min_size=1, unique=True),
    st.integers(1, 100),
)
def test_runs_break_where_they_must_and_nowhere_else(
    rows: list[tuple[int, int]], break_seconds: int
) -> None:
    symbols, seconds = (list(column) for column in zip(*rows, strict=True))
    found = runs(bare(symbols, [1_775_337_223 + s for s in seconds]), break_seconds)
    ordered = sorted(zip(symbols, seconds, found, strict=True))
    assert ordered[0][2] == 0
    for (a, before, one), (b, after, other) in pairwise(ordered):
        assert (one == other) == (a == b and after - before <= break_seconds)
    assert set(found) == set(range(found.max() + 1))


def test_a_frame_without_labels_gives_no_rows() -> None:
    part = frame(0.5, 1, "BTC-USD")
    short = FeatureFrame(part.symbol, part.time[:200], part.rows[:200])
    assert len(assemble([short], Label())) == 0
    both = assemble([short, frame(0.5, 2, "ETH-USD")], Label())
    assert set(both.symbol) == {1}
    assert both.gather([np.zeros(200), np.ones(1800)]) == pytest.approx(np.ones(len(both)))
