from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import frame
from volatility.dataset import Dataset, assemble, forward_variance, read_dataset, runs
from volatility.features.engine import FeatureFrame, FeaturesError
from volatility.features.files import DayWriter, window_start
from volatility.features.table import FEATURE_NAMES, INDEX
from volatility.settings import Forecast, Settings
from volatility.units import DAY_NS, SECOND

STRIDE = 15
SETTINGS = Settings()


def two() -> tuple[FeatureFrame, FeatureFrame]:
    return frame(0.5, 1, "BTC-USD"), frame(0.5, 2, "ETH-USD")


def labels(part: FeatureFrame) -> np.ndarray:
    return forward_variance(
        part.time,
        part.column("log_return_1s"),
        part.column("seconds_since_record"),
        SETTINGS.forecast.horizons,
    )


def usable(part: FeatureFrame) -> np.ndarray:
    """Rows on the stride's grid, with a warm level and a whole first window."""
    warm = ~np.isnan(part.column("realised_volatility_900s"))
    on_grid = part.time // SECOND % STRIDE == 0
    return np.flatnonzero(on_grid & warm & ~np.isnan(labels(part)[:, 0]))


def test_every_usable_row_is_there_once_and_in_time_order() -> None:
    frames = two()
    data = assemble(frames, SETTINGS)
    assert data.symbols == ("BTC-USD", "ETH-USD")
    assert data.horizons == (60, 300, 900)
    assert (np.diff(data.time) >= 0).all()
    for place, part in enumerate(frames):
        chosen, mine = usable(part), data.take(data.symbol == place)
        assert mine.time.tolist() == part.time[chosen].tolist()
        assert mine.rows.tobytes() == part.rows[chosen].tobytes()
        assert mine.variance.tobytes() == labels(part)[chosen].tobytes()
        assert len(chosen) > 50


def test_a_longer_window_that_is_not_whole_has_no_label_and_keeps_its_row() -> None:
    data = assemble(two(), SETTINGS)
    assert not np.isnan(data.variance[:, 0]).any()
    unknown = np.isnan(data.variance)
    assert 0 < unknown[:, 1].sum() < unknown[:, 2].sum() < len(data)
    assert np.isnan(data.variance[-2:, 2]).all()  # at the end of the data


def test_symbols_share_the_clock() -> None:
    data = assemble(two(), SETTINGS)
    assert (data.time % (STRIDE * SECOND) == 0).all()
    assert (np.bincount(np.unique(data.time, return_inverse=True)[1]) == 2).all()


def test_no_row_has_a_cold_level() -> None:
    data = assemble(two(), SETTINGS)
    assert not np.isnan(data.rows[:, INDEX["realised_volatility_900s"]]).any()


def test_a_silent_market_keeps_its_rows_with_a_variance_of_zero() -> None:
    source = frame(0.5, 1, "BTC-USD")
    rows = source.rows.copy()
    rows[:, INDEX["log_return_1s"]] *= 0.0
    rows[:, INDEX["realised_volatility_900s"]] *= 0.0
    data = assemble([FeatureFrame("BTC-USD", source.time, rows)], SETTINGS)
    assert len(data) == len(usable(source))
    assert (data.variance[:, 0] == 0.0).all()


def test_what_else_is_missing_stays_missing() -> None:
    source = frame(0.5, 1, "BTC-USD")
    rows = source.rows.copy()
    rows[:, INDEX["quote_imbalance"]] = np.nan
    data = assemble([FeatureFrame("BTC-USD", source.time, rows)], SETTINGS)
    assert len(data) == len(assemble([source], SETTINGS))
    assert np.isnan(data.rows[:, INDEX["quote_imbalance"]]).all()


def test_take_keeps_columns_together() -> None:
    data = assemble(two(), SETTINGS)
    chosen = np.array([5, 3, 50])
    part = data.take(chosen)
    assert part.time.tolist() == data.time[chosen].tolist()
    assert part.symbol.tolist() == data.symbol[chosen].tolist()
    assert part.variance.tobytes() == data.variance[chosen].tobytes()
    assert part.rows.tobytes() == data.rows[chosen].tobytes()
    assert len(part) == 3


def test_the_digest_is_that_of_the_content() -> None:
    data = assemble(two(), SETTINGS)
    assert assemble(two(), SETTINGS).digest() == data.digest()
    rows = data.rows.copy()
    rows[7, 3] = np.nextafter(rows[7, 3], np.inf)
    variance = data.variance.copy()
    variance[0, 0] = np.nextafter(variance[0, 0], np.inf)
    other = msgspec.structs.replace(SETTINGS, forecast=Forecast(horizons=(61, 300, 900)))
    changed = [
        replace(data, rows=rows),
        replace(data, variance=variance),
        replace(data, time=data.time + 1),
        replace(data, symbol=1 - data.symbol),
        data.take(np.arange(len(data) - 1)),
        assemble(two(), other),
    ]
    assert len({data.digest(), *(part.digest() for part in changed)}) == len(changed) + 1


# --- a features folder, read a day at a time -----------------------------------------------


def over_midnight(part: FeatureFrame) -> FeatureFrame:
    """Move a frame so that midnight lies two thirds into it."""
    shift = (2 * len(part.time) // 3) * SECOND
    return FeatureFrame(part.symbol, part.time + (DAY_NS - shift), part.rows)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, list[FeatureFrame]]:
    frames = [over_midnight(part) for part in two()]
    for part in frames:
        with DayWriter(tmp_path / f"symbol={part.symbol}") as writer:
            writer.write(part.time, part.rows)
        assert len(list((tmp_path / f"symbol={part.symbol}").iterdir())) == 2
    return tmp_path, frames


def test_a_folder_read_day_by_day_is_the_whole_frame(
    stored: tuple[Path, list[FeatureFrame]],
) -> None:
    folder, frames = stored
    # Windows reach over midnight, too.
    assert read_dataset(folder, SETTINGS).digest() == assemble(frames, SETTINGS).digest()


def test_the_newest_days_are_read_and_no_more(stored: tuple[Path, list[FeatureFrame]]) -> None:
    folder, frames = stored
    minutes = 12
    newest = max(int(part.time[-1]) for part in frames)
    start = newest - minutes * 60 * SECOND
    train = msgspec.structs.replace(SETTINGS.train, window_days=minutes / 1440)
    found = read_dataset(folder, msgspec.structs.replace(SETTINGS, train=train))
    everything = assemble(frames, SETTINGS)
    expected = everything.take(everything.time >= start)
    assert 0 < len(found) < len(everything)
    assert found.time[0] >= start
    assert found.digest() == expected.digest()
    assert read_dataset(folder, SETTINGS, start_ns=start).digest() == expected.digest()


def test_days_without_rows_do_not_use_up_the_window(tmp_path: Path) -> None:
    day = 86_400 * SECOND
    first = 1_767_571_200 * SECOND
    with DayWriter(tmp_path / "symbol=BTC-USD") as writer:
        for number in (0, 1, 500):
            time = np.array([first + number * day + SECOND])
            writer.write(time, np.zeros((1, len(FEATURE_NAMES))))
    assert window_start(tmp_path, 1.0) == first + day
    assert window_start(tmp_path, 30.0) == first
    assert window_start(tmp_path, 600.0) == first + 500 * day + SECOND - 600 * day
    assert window_start(tmp_path, 0.5) == first + 500 * day + SECOND - day // 2


def test_another_stride_keeps_other_rows(stored: tuple[Path, list[FeatureFrame]]) -> None:
    folder, frames = stored
    train = msgspec.structs.replace(SETTINGS.train, stride_seconds=60)
    found = read_dataset(folder, msgspec.structs.replace(SETTINGS, train=train))
    everything = assemble(frames, SETTINGS)
    expected = everything.take(everything.time // SECOND % 60 == 0)
    assert found.digest() == expected.digest()


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FeaturesError, match="run `volatility features`"):
        read_dataset(tmp_path, SETTINGS)


# --- unbroken stretches --------------------------------------------------------------------


def bare(symbols: list[int], seconds: list[int]) -> Dataset:
    count = len(seconds)
    return Dataset(
        ("A", "B"),
        (60,),
        np.array(symbols, dtype=np.int64),
        np.array(seconds, dtype=np.int64) * SECOND,
        np.zeros((count, 1)),
        np.zeros((count, 1)),
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
    alone = assemble([short], SETTINGS)
    assert (len(alone), alone.variance.shape) == (0, (0, 3))
    both = assemble([short, frame(0.5, 2, "ETH-USD")], SETTINGS)
    assert set(both.symbol) == {1}
    assert both.symbols == ("BTC-USD", "ETH-USD")
