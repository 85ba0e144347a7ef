from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from tests.live import (
    HORIZONS,
    SETTINGS,
    live_bundle,
    market,
    prediction,
    said,
    without_forecasts,
)
from tests.registries import make_registry, register_small
from volatility import registry
from volatility.evaluation.live_results import Demotion, Judgement, LivePerformance
from volatility.evaluation.live_rows import (
    Live,
    captured_schema,
    read_captured,
    window_start,
)
from volatility.evaluation.performance import Measured, measure
from volatility.features.engine import FeatureFrame
from volatility.features.table import LONGEST_WINDOW_SECONDS
from volatility.files import plain
from volatility.lake.lake import Lake
from volatility.models.bundle import Bundle
from volatility.models.prior import shipped
from volatility.records.prediction import PREDICTION_SCHEMA, to_table
from volatility.registry import live_models
from volatility.registry.live_evidence import measure_and_judge
from volatility.reports.performance import lines, performance_page, verdict, write_performance
from volatility.settings import Features
from volatility.units import SECOND

NOON = datetime(2026, 4, 4, 12, tzinfo=UTC)
GRID = SETTINGS.train.stride_seconds
SECONDS = 7_200
ROWS = SECONDS // GRID  # on the grid
LAST = 60 // GRID  # whose minute is not over


def rows_of(symbol: str = "BTC-USD", seed: int = 11, count: int = SECONDS) -> FeatureFrame:
    """Return rows of a market that no model has seen; the first lies on the grid."""
    whole = market(symbol, seed)
    first = int(np.flatnonzero(whole.time // SECOND % GRID == 0)[0])
    part = slice(first, first + count)
    return FeatureFrame(symbol, whole.time[part], whole.rows[part])


def measured(
    frames: list[FeatureFrame], predictions: dict[str, list[pa.Table]], *models: Live
) -> Measured:
    none = captured_schema(HORIZONS).empty_table()
    tables = {f.symbol: pa.concat_tables([none, *predictions.get(f.symbol, [])]) for f in frames}
    return measure(frames, tables, models, SETTINGS)


def found(
    frames: list[FeatureFrame], predictions: dict[str, list[pa.Table]], *models: Live
) -> dict[str, Any]:
    """Return the content of ``latest.json``."""
    content: dict[str, Any] = plain(measured(frames, predictions, *models).report)
    return content


def typed(content: dict[str, Any]) -> LivePerformance:
    return msgspec.convert(content, LivePerformance)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return live_bundle()


@pytest.fixture(scope="module")
def champion(bundle: Bundle) -> Live:
    return Live("champion", "2", bundle)


@pytest.fixture(scope="module")
def challenger(bundle: Bundle) -> Live:
    return Live("challenger", "3", bundle)


def trained_on(model: Live, start_ns: int, stop_ns: int) -> Live:
    """Return the model as if its training rows had been those between two times."""
    spec = msgspec.structs.replace(
        model.bundle.specification, train_start=start_ns, train_stop=stop_ns
    )
    return replace(model, bundle=replace(model.bundle, specification=spec))


def test_all_models_are_measured_on_the_rows_that_all_have_scored(champion, challenger) -> None:
    rows = rows_of()
    tables = [said(rows, champion), said(rows, challenger, slice(1_500, None))]
    result = found([rows], {"BTC-USD": tables}, champion, challenger)
    assert set(result["models"]) == {"champion", "challenger", "baseline"}
    assert result["rows_labelled"] == ROWS - LAST - 100
    assert result["left_out"] == {
        "outcome_not_known": LAST,
        "seen_in_training": 0,
        "not_scored_by_all": 100,
        "without_forecast": 0,
        "of_other_models": {},
    }
    # The same bundle twice: what differs between the two would be a difference of rows.
    same = [{**m, "model_version": ""} for n, m in result["models"].items() if n != "baseline"]
    assert same[0] == same[1]
    assert result["models"]["champion"]["source"] == "stream"
    assert result["models"]["baseline"]["source"] == "feature rows"
    assert result["models"]["baseline"]["model_version"] == "2"
    assert result["parity"] == {"rows": 2 * SECONDS - 1_500, "differ": 0, "without_a_row": 0}
    for measure_of in ("qlike", "pr_auc"):
        versus = result["versus_baseline"]["champion"][measure_of]
        models = result["models"]
        assert versus["difference"] == pytest.approx(
            models["champion"][measure_of] - models["baseline"][measure_of]
        )
        low, high = versus["interval"]
        assert low < versus["difference"] < high


def test_the_loss_is_that_of_the_streamed_forecasts(champion) -> None:
    rows = rows_of()
    table = said(rows, champion)
    twice = pa.array(2.0 * table.column("volatility_bps_60s").to_numpy())
    place = table.schema.get_field_index("volatility_bps_60s")
    doubled = table.set_column(place, table.schema.field(place), twice)
    result = found([rows], {"BTC-USD": [doubled]}, champion)
    right = found([rows], {"BTC-USD": [table]}, champion)
    # log (2 v)^2 + RV / (2 v)^2
    share = right["models"]["champion"]["qlike"] - 2 * np.mean(
        np.log(table.column("volatility_bps_60s").to_numpy()[:-60:GRID])
    )
    expected = right["models"]["champion"]["qlike"] + 2 * np.log(2.0) - 0.75 * share
    assert result["models"]["champion"]["qlike"] == pytest.approx(expected)
    assert result["models"]["champion"]["horizons"]["60s"]["qlike"] == pytest.approx(expected)
    longer = result["models"]["champion"]["horizons"]["900s"]
    assert longer == right["models"]["champion"]["horizons"]["900s"]
    assert longer["rows"] == ROWS - 900 // GRID
    assert result["parity"]["differ"] == SECONDS
    assert result["models"]["champion"]["pr_auc"] == right["models"]["champion"]["pr_auc"]


def test_rows_that_a_compared_model_was_trained_near_are_left_out(champion, challenger) -> None:
    rows = rows_of()
    start, middle = int(rows.time[0]), int(rows.time[3_000])
    margin = 900 + LONGEST_WINDOW_SECONDS
    before = trained_on(champion, start - 3_600 * SECOND, middle)
    result = found([rows], {"BTC-USD": [said(rows, before)]}, before)
    seen = (3_000 + margin) // GRID + 1
    assert result["left_out"]["seen_in_training"] == seen
    assert result["rows_labelled"] == ROWS - LAST - seen
    first = middle + (margin // GRID * GRID + GRID) * SECOND
    assert result["start"] == datetime.fromtimestamp(first / 1e9, UTC).isoformat()
    # A challenger's own training counts for all models that are compared.
    both = {"BTC-USD": [said(rows, champion), said(rows, challenger)]}
    later = trained_on(challenger, start - 3_600 * SECOND, start)
    result = found([rows], both, champion, later)
    assert set(result["models"]) == {"champion", "challenger", "baseline"}
    assert result["left_out"]["seen_in_training"] == margin // GRID + 1
    # One that has seen most of the rows waits, and costs the champion none.
    newer = trained_on(challenger, start - 3_600 * SECOND, int(rows.time[5_000]))
    result = found([rows], both, champion, newer)
    assert set(result["models"]) == {"champion", "baseline"}
    assert result["left_out"]["seen_in_training"] == 0
    assert result["rows_labelled"] == ROWS - LAST


def test_rows_before_a_model_s_training_are_not_seen_either(champion) -> None:
    rows = rows_of()
    after = trained_on(champion, int(rows.time[-1]) + 10_000 * SECOND, 2 * int(rows.time[-1]))
    result = measured([rows], {"BTC-USD": [said(rows, after)]}, after)
    assert result.report.left_out is not None
    assert result.report.left_out.seen_in_training == 0
    assert result.gains is None  # but a demotion asks for what came after the training


def test_a_challenger_of_a_minute_ago_does_not_cut_the_window_short(champion, challenger) -> None:
    rows = rows_of()
    tables = [said(rows, champion), said(rows, challenger, slice(-600, None))]
    result = found([rows], {"BTC-USD": tables}, champion, challenger)
    assert set(result["models"]) == {"champion", "baseline"}
    assert result["rows_labelled"] == ROWS - LAST
    assert result["waiting"] == {"model": "challenger", "model_version": "3", "rows": 36}
    assert "scored 36 of these rows" in " ".join(performance_page(typed(result)).split())


def test_versions_and_variants_that_are_not_live_now_are_counted(champion, bundle) -> None:
    rows = rows_of()
    before = Live("champion", "1", bundle)
    unpromoted = Live("baseline", "2", bundle.as_variant("baseline"))
    tables = [
        said(rows, before, slice(0, 100)),
        said(rows, unpromoted, slice(100, 300)),
        said(rows, champion, slice(300, None)),
    ]
    result = found([rows], {"BTC-USD": tables}, champion)
    assert result["left_out"]["of_other_models"] == {
        "version 1 as ml": 100,
        "version 2 as baseline": 200,
    }
    assert result["rows_labelled"] == ROWS - LAST - 20


def test_where_no_version_is_champion_the_baseline_is_measured(bundle) -> None:
    rows = rows_of()
    serving = Live("baseline", "1", bundle.as_variant("baseline"))
    result = measured([rows], {"BTC-USD": [said(rows, serving)]}, serving)
    assert result.gains is None
    report = plain(result.report)
    assert set(report["models"]) == {"baseline"}
    assert report["models"]["baseline"]["source"] == "stream"
    assert report["models"]["baseline"]["threshold"] == bundle.specification.thresholds["baseline"]
    assert report["versus_baseline"] == {}
    assert verdict(result.report).sentence.startswith("The best simple forecast serves: live QLIKE")


def test_the_shipped_prior_is_measured_like_any_other_model() -> None:
    rows = rows_of()
    prior = Live("prior", "prior-1", shipped().bundle)
    prior = trained_on(prior, 0, int(rows.time[0]) - 86_400 * SECOND)
    result = found([rows], {"BTC-USD": [said(rows, prior)]}, prior)
    assert set(result["models"]) == {"prior"}
    assert result["rows_labelled"] == ROWS - LAST
    assert result["models"]["prior"]["qlike"] > 0.0
    told = verdict(
        typed(result)
    ).sentence  # this market may be too quiet for the prior's spike level
    assert told.startswith(("The prior serves: live QLIKE", "Nothing to evaluate yet: no spike"))
    assert "nan" not in performance_page(typed(result)).lower()
    seen = trained_on(prior, 0, int(rows.time[-1]))
    assert found([rows], {"BTC-USD": [said(rows, seen)]}, seen)["rows_labelled"] == 0


def test_symbols_are_pooled_and_count_alike(champion) -> None:
    frames = [rows_of("BTC-USD"), rows_of("ETH-USD", 12), rows_of("SOL-USD", 13)]
    alone = [found([f], {f.symbol: [said(f, champion)]}, champion) for f in frames[:2]]
    tables = {f.symbol: [said(f, champion)] for f in frames[:2]}
    result = found(frames, tables, champion)
    assert result["symbols"] == ["BTC-USD", "ETH-USD"]
    assert result["rows_labelled"] == sum(one["rows_labelled"] for one in alone)
    part = {**tables, "ETH-USD": [said(frames[1], champion, slice(3_600, None))]}
    uneven = found(frames, part, champion)["models"]["champion"]["qlike"]
    later = FeatureFrame("ETH-USD", frames[1].time[3_600:], frames[1].rows[3_600:])
    half = found([later], {"ETH-USD": [said(later, champion)]}, champion)
    both = (alone[0]["models"]["champion"]["qlike"] + half["models"]["champion"]["qlike"]) / 2
    assert uneven == pytest.approx(both)


def test_no_outcome_known_yet_is_said_and_is_not_zero(champion) -> None:
    rows = rows_of(count=405)
    result = found([rows], {"BTC-USD": [said(rows, champion, slice(-45, None))]}, champion)
    assert (result["rows_labelled"], result["models"], result["base_rate"]) == (0, {}, None)
    assert result["reason"] == "no prediction of champion version 2 has an outcome yet"
    assert result["left_out"]["outcome_not_known"] == 3
    assert "Nothing to evaluate yet" in performance_page(typed(result))


def test_without_a_spike_skill_at_spikes_is_undefined_and_not_zero(champion) -> None:
    rows = rows_of()
    spikes = found([rows], {"BTC-USD": [said(rows, champion)]}, champion)
    assert spikes["base_rate"] > 0
    calm = FeatureFrame(rows.symbol, rows.time, rows.rows.copy())
    calm.column("log_return_1s")[:] = 1e-9
    result = found([calm], {"BTC-USD": [said(calm, champion)]}, champion)
    model = result["models"]["champion"]
    assert (model["pr_auc"], model["recall"], model["roc_auc"]) == (None, None, None)
    assert model["brier"] > 0
    assert model["qlike"] is not None
    assert None not in result["versus_baseline"]["champion"]["qlike"]["interval"]
    assert result["versus_baseline"]["champion"]["pr_auc"]["interval"] == [None, None]
    assert result["base_rate"] == 0.0
    assert result["reason"] == "no spike has happened yet"
    assert verdict(typed(result)).state == "unknown"
    assert "nan" not in performance_page(typed(result)).lower()
    assert "None" not in lines(typed(result))


def test_forecasts_that_are_not_those_of_the_rows_are_counted_and_come_first(champion) -> None:
    rows = rows_of()
    table = said(rows, champion)
    for number, name in ((7, "score"), (9, "volatility_bps_300s")):
        wrong = table.column(name).to_numpy().copy()
        wrong[number] = np.nextafter(wrong[number], 1)
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(wrong))
    outside = [
        said(rows, champion, slice(0, 1), shift=-5),
        said(rows, champion, slice(-15, -14), shift=15),
    ]
    result = found([rows], {"BTC-USD": [table, *outside]}, champion)
    assert result["parity"] == {"rows": SECONDS, "differ": 2, "without_a_row": 1}
    assert result["left_out"]["outcome_not_known"] == LAST + 1  # one is newer than all rows
    assert verdict(typed(result)).state == "worse"
    assert verdict(typed(result)).sentence.startswith("2 of 7,200 live forecasts differ")


def test_predictions_of_before_forecasts_were_written_are_not_measured(champion) -> None:
    rows = rows_of()
    old = said(rows, champion, slice(0, 3_000))
    nulls = pa.array(np.full(3_000, np.nan))
    for horizon in HORIZONS:
        place = old.schema.get_field_index(f"volatility_bps_{horizon}s")
        old = old.set_column(place, old.schema.field(place), nulls)
    new = said(rows, champion, slice(3_000, None))
    result = found([rows], {"BTC-USD": [old, new]}, champion)
    assert result["left_out"]["without_forecast"] == 3_000
    assert result["rows_labelled"] == ROWS - LAST - 200
    assert "3,000 predictions, at any step" in " ".join(performance_page(typed(result)).split())


def test_rows_built_under_other_rules_than_the_model_s_are_not_measured(champion) -> None:
    rows = rows_of()
    spec = msgspec.structs.replace(champion.bundle.specification, features=Features(gap_seconds=30))
    other = replace(champion, bundle=replace(champion.bundle, specification=spec))
    result = found([rows], {"BTC-USD": [said(rows, other)]}, other)
    assert result["models"] == {}
    assert "feature settings that differ" in result["reason"]
    assert "feature settings that differ" in performance_page(typed(result))


def test_gains_are_those_of_whole_blocks_since_the_training(champion) -> None:
    rows = rows_of()
    gains = measured([rows], {"BTC-USD": [said(rows, champion)]}, champion).gains
    assert gains is not None
    assert (gains.version, gains.recipe) == ("2", champion.bundle.specification.recipe)
    block_ns = SETTINGS.evaluate.block_seconds * SECOND
    first, last = int(rows.time[0]), int(rows.time[-1])
    assert gains.end_ns.tolist() == list(
        range(first - first % block_ns + block_ns, last + 1, block_ns)
    )
    assert np.isfinite(gains.gain).all()
    # A block whose predictions have not all been captured yet is not over.
    cut = measured([rows], {"BTC-USD": [said(rows, champion, slice(0, 4_000))]}, champion).gains
    assert cut is not None
    newest = int(rows.time[3_999])
    assert cut.end_ns.tolist() == [end for end in gains.end_ns.tolist() if end <= newest]
    assert cut.gain.tolist() == gains.gain[: len(cut.gain)].tolist()


def test_skill_over_time_ends_with_the_newest_rows(champion) -> None:
    rows = rows_of()
    result = found([rows], {"BTC-USD": [said(rows, champion)]}, champion)
    assert result["rolling"][-1]["time"] == result["stop"]
    assert all(point["rows"] > 110 for point in result["rolling"])
    for measure_of in ("qlike", "pr_auc"):
        assert set(result["rolling"][0][measure_of]) == {"champion", "baseline"}


def test_the_hours_end_with_the_newest_row() -> None:
    assert window_start(10_000 * SECOND, 1.0) == (10_000 - 3_600 + 1) * SECOND


def test_captured_predictions_are_read_by_symbol_from_a_time_on(tmp_path: Path) -> None:
    lake = Lake(tmp_path, PREDICTION_SCHEMA)
    assert not lake.exists()
    made = [prediction(n * SECOND) for n in range(9)]
    made[7] = without_forecasts(made[7])
    forecasts = made[8].forecasts
    assert forecasts is not None
    made[8] = msgspec.structs.replace(made[8], forecasts={"300s": forecasts["300s"]})
    lake.write(to_table(made, 0, range(9)), "predictions.a", 0)
    assert lake.exists()
    frames = [rows_of("BTC-USD"), rows_of("ETH-USD", 12)]
    held = read_captured(tmp_path, frames, 5 * SECOND, (60, 300))
    assert held["ETH-USD"].num_rows == 0
    table = held["BTC-USD"]
    assert table.schema == captured_schema((60, 300))
    assert table.column("score").to_pylist() == [0.5] * 4
    nan = float("nan")
    one, five = (table.column(f"volatility_bps_{h}s").to_numpy() for h in (60, 300))
    np.testing.assert_array_equal(one, [3.0, 3.0, nan, nan])
    np.testing.assert_array_equal(five, [4.0, 4.0, nan, 4.0])


@pytest.mark.slow
def test_live_models_are_those_that_score_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names() -> list[tuple[str, str, str]]:
        return [(m.name, m.version, m.bundle.variant) for m in live_models()]

    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    assert names() == [("prior", f"prior-{shipped().digest[:12]}", "prior")]
    register_small(tmp_path, 0)
    assert names() == [("baseline", "1", "baseline")]
    registry.promote("1", evidence={})
    assert names() == [("champion", "1", "ml")]
    register_small(tmp_path, 1)
    assert names() == [("champion", "1", "ml"), ("challenger", "2", "ml")]
    monkeypatch.setenv("MODEL_VARIANT", "baseline")
    assert names() == [("baseline", "1", "baseline"), ("challenger", "2", "ml")]


def test_without_any_prediction_it_says_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    result = measure_and_judge(SETTINGS, tmp_path / "f", tmp_path / "predictions")
    assert result.reason == "no prediction has been captured yet"
    assert (result.models, result.base_rate) == ({}, None)
    assert (result.demotion, result.live_evidence) == (None, None)


def test_a_demotion_comes_first_in_the_report() -> None:
    demotion = Demotion("4", "live predictions refute it", time_ns=1, e_value=31.5)
    evidence = Judgement("4", blocks=48, mean=-0.1234, e_value_against=31.5)
    told = LivePerformance(hours=24.0, reason="not yet", demotion=demotion, live_evidence=evidence)
    assert verdict(told).sentence == "Version 4 was demoted: live predictions refute it."
    page = " ".join(performance_page(told).split())
    assert "of version 4 differed by +0.123 from" in page
    assert "31.50. At 20 the champion is demoted" in page


def test_each_run_is_kept_under_its_time(tmp_path: Path, champion) -> None:
    written = write_performance(LivePerformance(hours=24.0, reason="not yet"), tmp_path, NOON)
    assert [p.relative_to(tmp_path).as_posix() for p in written] == [
        "performance/20260404T120000Z.json",
        "performance.html",
        "performance/latest.json",
    ]
    assert json.loads(written[2].read_text())["checked"] == "2026-04-04T12:00:00+00:00"
    rows = rows_of()
    result = found([rows], {"BTC-USD": [said(rows, champion)]}, champion)
    page = write_performance(typed(result), tmp_path, NOON)[1].read_text()
    assert not re.search(r"(?:src|href)=[\"']?https?:", page)
    assert "<script" not in page
    assert page.count("data:image/svg+xml") == 1
    assert len(lines(typed(result)).splitlines()) == 3
