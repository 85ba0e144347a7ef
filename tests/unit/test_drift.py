from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import wasserstein_distance

from volatility.evaluation import drift
from volatility.evaluation.drift import (
    DriftError,
    DriftResult,
    Sample,
    compare,
    drift_report,
    read_thinned,
    select,
)
from volatility.features.files import FILE, FeatureFrame, date_folder, to_batch
from volatility.features.table import FEATURE_NAMES, INDEX, MODEL_INPUTS
from volatility.reports.drift import archive_drift, write_drift
from volatility.reports.index import write_index
from volatility.settings import Drift
from volatility.units import SECOND

START = 1_775_000_000 * SECOND
PLACE = {name: place for place, name in enumerate(MODEL_INPUTS)}


def _frame(symbol: str, rows: int, seed: int, start: int = START) -> FeatureFrame:
    generator = np.random.default_rng(seed)
    values = generator.lognormal(sigma=0.5, size=(rows, len(FEATURE_NAMES)))
    return FeatureFrame(symbol, start + SECOND * np.arange(rows), values)


def _sample(inputs: np.ndarray) -> Sample:
    stop = START + SECOND * len(inputs)
    return Sample(len(inputs), START, stop, ("BTC-USD",), MODEL_INPUTS, inputs)


def _at(second: int) -> int:
    return START + second * SECOND


@pytest.fixture(scope="module")
def sides() -> tuple[np.ndarray, np.ndarray]:
    """Return a reference and a current side with one kind of trouble a column."""
    generator = np.random.default_rng(1)
    reference = generator.normal(size=(1_000, len(MODEL_INPUTS)))
    current = generator.normal(size=(800, len(MODEL_INPUTS)))
    current[:, 0] += 2.0  # moved
    reference[:, 1] = current[:, 1] = 1.0  # constant, and still
    reference[:, 2], current[:, 2] = 1.0, 1.5  # constant, and moved
    reference[:, 3] = current[:, 3] = np.nan  # absent on both sides
    current[:, 4] = np.nan  # gone
    reference[20:, 5] = current[:480, 5] = np.nan  # all but absent, then in four rows of ten
    current[:600, 6] = np.nan  # mostly missing now
    reference[:, 7] *= 1e-5  # moved, at a tiny scale
    current[:, 7] = 1e-5 * (current[:, 7] + 3.0)
    return reference, current


@pytest.fixture(scope="module")
def result(sides) -> DriftResult:
    return drift_report(_sample(sides[0]), _sample(sides[1]), Drift())


@pytest.mark.slow
def test_distance_is_wasserstein_in_reference_deviations(sides, result):
    found = {f.feature: f.distance for f in result.per_feature}
    for column in (0, 7, 8, 20):
        reference, current = sides[0][:, column], sides[1][:, column]
        expected = wasserstein_distance(reference, current) / np.std(reference)
        assert found[MODEL_INPUTS[column]] == pytest.approx(expected, rel=1e-9)
    assert 1.8 < found[MODEL_INPUTS[0]] < 2.2
    assert 2.8 < found[MODEL_INPUTS[7]] < 3.2


def test_only_what_moved_came_or_went_has_drifted(result):
    drifted = {f.feature for f in result.per_feature if f.drifted}
    assert drifted == {MODEL_INPUTS[column] for column in (0, 2, 4, 5, 6, 7)}
    assert result.drifted_features == 6


def test_an_input_that_no_side_has_does_not_count(result):
    assert result.features == len(MODEL_INPUTS) - 1
    assert result.drift_share == pytest.approx(6 / (len(MODEL_INPUTS) - 1))
    absent = next(f for f in result.per_feature if f.feature == MODEL_INPUTS[3])
    assert (absent.distance, absent.drifted) == (None, False)
    assert (absent.missing_reference, absent.missing_current) == (1.0, 1.0)


def test_a_constant_input_is_still(result):
    constant = next(f for f in result.per_feature if f.feature == MODEL_INPUTS[1])
    assert (constant.distance, constant.drifted) == (0.0, False)


def test_inputs_are_sorted_by_distance(result):
    distances = [f.distance for f in result.per_feature if f.distance is not None]
    assert distances == sorted(distances, reverse=True)
    assert [f.distance for f in result.per_feature[:2]] == [None, None]
    assert result.per_feature[-1].feature == MODEL_INPUTS[3]


@pytest.mark.parametrize(("share", "alert"), [(0.2, True), (0.5, False)])
def test_alert_follows_the_share_of_drifted_inputs(result, share, alert):
    found = dataclasses.replace(result, drift_share_threshold=share)
    assert found.alert is alert
    assert found.summary()["alert"] is alert


def test_json_has_the_declared_keys(result, tmp_path):
    path = write_drift(result, tmp_path / "reports")[0]
    content = json.loads(path.read_text())
    assert path.name == "drift.json"
    assert content["reference"]["rows"] == 1_000
    assert content["reference"]["start"] == "2026-03-31T23:33:20+00:00"
    assert content["features"] == len(MODEL_INPUTS) - 1
    assert content["drifted_features"] == 6
    assert content["alert"] is False
    assert content["threshold"] == 0.5
    assert {f["feature"] for f in content["per_feature"]} == set(MODEL_INPUTS)
    assert set(content["per_feature"][0]) == {
        "feature",
        "distance",
        "drifted",
        "missing_reference",
        "missing_current",
    }


def test_page_opens_with_the_summary_and_loads_nothing(result, tmp_path):
    page = write_drift(result, tmp_path)[1].read_text()
    assert not list(tmp_path.glob("*.tmp"))
    opening = page.partition("<body>")[2][:3_000]
    assert "6 of 26 model inputs have drifted" in " ".join(opening.split())
    assert MODEL_INPUTS[3] in opening
    assert "index.html" in opening
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*", page)
    assert tags
    assert not [tag for tag in tags if re.search(r"""(?:src|href)=["']?https?:""", tag)]
    assert not re.search(r"url\(['\"]?https?:", page)


@pytest.mark.slow
def test_rows_after_training_are_compared_with_those_in_it_by_scale_free_inputs():
    frames = [_frame("BTC-USD", 2_000, 1), _frame("ETH-USD", 1_500, 2)]
    for name in ("midprice", "spread", "realised_volatility_900s", "volatility_30s"):
        frames[0].column(name)[1_001:] *= 10.0
    frames[0].column("volatility_ratio_60s")[1_001:] += 5.0
    found = compare(frames, _at(100), _at(1_000), Drift())
    assert found.after_training
    assert (found.reference.rows, found.current.rows) == (2 * 901, 999 + 499)
    assert (found.reference.start, found.reference.stop) == (_at(100), _at(1_000))
    assert (found.current.start, found.current.stop) == (_at(1_001), _at(1_999))
    assert found.reference.symbols == ("BTC-USD", "ETH-USD")
    assert found.per_feature[0].feature == "volatility_ratio_60s"
    assert found.drifted_features == 1


def test_only_the_newest_hours_after_training_are_current():
    frames = [_frame("BTC-USD", 4_000, 3), _frame("ETH-USD", 3_000, 4)]
    _, current, after = select(frames, START, _at(999), Drift(hours=0.5))
    assert after
    assert (current.start, current.stop) == (_at(2_200), _at(3_999))
    assert current.rows == 1_800 + 800
    _, current, after = select(frames, START, _at(3_600), Drift(hours=0.5))
    assert (after, current.start) == (True, _at(3_601))
    reference, current, after = select(frames, START, _at(3_950), Drift(hours=0.05))
    assert not after
    assert reference.stop < current.start


@pytest.mark.slow
def test_inputs_that_the_model_does_not_use_are_named_and_not_compared(tmp_path):
    frame = _frame("BTC-USD", 2_000, 1)
    frame.column("quote_imbalance")[1_001:] += 50.0
    frame.column("spread_bps")[1_001:] = np.nan
    used = tuple(n for n in MODEL_INPUTS if n not in ("quote_imbalance", "spread_bps"))
    found = compare([frame], START, _at(1_000), Drift(), used)
    assert {f.feature for f in found.per_feature} == set(used)
    assert found.drifted_features == 0
    assert found.summary()["unused"] == ["spread_bps", "quote_imbalance"]
    opening = write_drift(found, tmp_path)[1].read_text().partition("<body>")[2][:3_000]
    assert "spread_bps, quote_imbalance." in opening


def test_a_row_each_stride_is_read_from_the_start_on(tmp_path):
    whole = _frame("BTC-USD", 3_000, 1, start=START - START % (86_400 * SECOND) - 1_000 * SECOND)
    midnight = whole.time[1_000]
    for part in (whole.time < midnight, whole.time >= midnight):
        folder = tmp_path / "symbol=BTC-USD" / date_folder(int(whole.time[part][0]))
        folder.mkdir(parents=True)
        table = pa.Table.from_batches([to_batch(whole.time[part], whole.rows[part])])
        pq.write_table(table, folder / FILE)
    (found,) = read_thinned(tmp_path, int(whole.time[500]), 15)
    kept = (whole.time // SECOND % 15 == 0) & (whole.time >= whole.time[500])
    assert found.symbol == "BTC-USD"
    assert np.array_equal(found.time, whole.time[kept])
    assert np.array_equal(found.rows, whole.rows[kept])


def test_each_run_is_kept_and_old_pages_go(result, tmp_path):
    times = [datetime(2026, 4, 4, 23, 59, 58 + k, tzinfo=UTC) for k in range(2)]
    times += [datetime(2026, 4, 5, 0, 0, k, tzinfo=UTC) for k in range(3)]
    for now in times:
        archive_drift(result, tmp_path, now, keep_html=2)
    folder = tmp_path / "drift"
    assert sorted(p.name for p in folder.glob("*.html")) == [
        "20260405T000001Z.html",
        "20260405T000002Z.html",
    ]
    assert len(list(folder.glob("*Z.json"))) == 5
    latest = json.loads((folder / "latest.json").read_text())
    assert latest == json.loads((folder / "20260405T000002Z.json").read_text())
    assert latest["checked"] == "2026-04-05T00:00:02+00:00"
    opening = (folder / "20260405T000002Z.html").read_text().partition("<body>")[2][:3_000]
    assert '"../index.html"' in opening
    assert '"20260405T000002Z.json"' in opening
    page = write_index(tmp_path).read_text()
    assert page.index("drift/20260405T000002Z.html") < page.index("drift/20260405T000001Z.html")


def test_the_newest_rows_are_current_when_too_few_lie_after_training():
    frame = _frame("BTC-USD", 2_000, 4)
    reference, current, after = select([frame], START, _at(1_949), Drift(current_share=0.25))
    assert not after
    assert (current.start, current.rows) == (_at(1_500), 500)
    assert (reference.stop, reference.rows) == (_at(1_499), 1_500)


def test_rows_without_a_warm_baseline_do_not_count():
    frame = _frame("BTC-USD", 2_000, 5)
    frame.column("realised_volatility_900s")[:600] = np.nan
    reference, _, _ = select([frame], START, _at(999), Drift())
    assert (reference.rows, reference.start) == (400, _at(600))


def test_many_rows_are_sampled_the_same_way_each_time(monkeypatch):
    monkeypatch.setattr(drift, "MOST_ROWS", 500)
    frames = [_frame("BTC-USD", 3_000, 6), _frame("ETH-USD", 3_000, 7)]
    frames[1].column("spread_bps")[:] = -1.0
    first, second = (select(frames, START, _at(1_499), Drift())[0] for _ in range(2))
    assert first.inputs.tobytes() == second.inputs.tobytes()
    assert first.rows == 3_000
    assert first.inputs.shape == (500, len(MODEL_INPUTS))
    assert 0.4 < np.mean(first.inputs[:, PLACE["spread_bps"]] == -1.0) < 0.6
    columns = [INDEX[name] for name in MODEL_INPUTS]
    known = {tuple(row) for frame in frames for row in frame.rows[:, columns]}
    assert {tuple(row) for row in first.inputs} <= known


@pytest.mark.parametrize(
    ("rows", "start", "stop", "message"),
    [
        (2_000, -5_000, -4_000, "only 0 rows lie in the model's training window"),
        (2_000, 0, 50, "only 51 rows lie in the model's training window"),
        (200, 0, 150, "only 50 rows are current and 60 are needed"),
    ],
)
def test_a_side_with_too_few_rows_is_one_clear_error(rows, start, stop, message):
    with pytest.raises(DriftError, match=re.escape(message)) as error:
        select([_frame("BTC-USD", rows, 8)], _at(start), _at(stop), Drift())
    assert "\n" not in str(error.value)


def test_no_warm_row_is_one_clear_error():
    frame = _frame("BTC-USD", 600, 9)
    frame.column("realised_volatility_900s")[:] = np.nan
    with pytest.raises(DriftError, match="no row has a warm baseline"):
        select([frame], START, _at(599), Drift())


def test_no_common_input_is_one_clear_error():
    empty = np.full((400, len(MODEL_INPUTS)), np.nan)
    with pytest.raises(DriftError, match="no model input has values on both sides"):
        drift_report(_sample(empty), _sample(empty + 1.0), Drift())
