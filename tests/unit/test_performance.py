from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.examples import SMALL, frame, trained
from tests.registries import make_registry, register_small
from volatility import registry, stages
from volatility.bundle import Bundle
from volatility.features import FeatureFrame
from volatility.kernel_state import SECOND
from volatility.lake import Lake
from volatility.performance import (
    COLUMNS,
    Live,
    captured,
    live_models,
    measure,
    nothing,
    read_captured,
    window_start,
)
from volatility.performance_report import lines, performance_page, verdict, write_performance
from volatility.prediction import PREDICTION_SCHEMA, Prediction, to_table

NOON = datetime(2026, 4, 4, 12, tzinfo=UTC)
ROWS = 7_200
SCHEMA = pa.schema([PREDICTION_SCHEMA.field(name) for name in COLUMNS])


def rows_of(symbol: str = "BTC-USD", seed: int = 11, count: int = ROWS) -> FeatureFrame:
    """Give rows of a market that the small model has not seen, from its first warm one on."""
    whole = frame(3.0, seed, symbol)
    return FeatureFrame(symbol, whole.time[900 : 900 + count], whole.rows[900 : 900 + count])


def scored(
    rows: FeatureFrame, model: Live, chosen: slice = slice(None), shift: int = 0
) -> list[pa.Table]:
    """Give what the stream would have said of some rows."""
    time, scores = rows.time[chosen] + shift * SECOND, model.bundle.score(rows.rows[chosen])
    columns = [
        pa.array(time).cast(SCHEMA.field("time").type),
        pa.array(scores),
        pa.array([model.version] * len(time)),
        pa.array([model.bundle.variant] * len(time)),
    ]
    return [pa.Table.from_arrays(columns, schema=SCHEMA)]


def found(
    frames: list[FeatureFrame], predictions: dict[str, list[pa.Table]], *models: Live
) -> dict[str, Any]:
    tables = {
        f.symbol: pa.concat_tables([SCHEMA.empty_table(), *predictions.get(f.symbol, [])])
        for f in frames
    }
    return measure(frames, tables, models, SMALL.label, SMALL)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return trained().bundle


@pytest.fixture(scope="module")
def champion(bundle: Bundle) -> Live:
    return Live("champion", "2", bundle)


@pytest.fixture(scope="module")
def challenger(bundle: Bundle) -> Live:
    return Live("challenger", "3", bundle)


def test_all_models_are_measured_on_the_rows_that_all_have_scored(champion, challenger) -> None:
    rows = rows_of()
    said = scored(rows, champion) + scored(rows, challenger, slice(1_000, None))
    result = found([rows], {"BTC-USD": said}, champion, challenger)
    assert set(result["models"]) == {"champion", "challenger", "baseline"}
    assert result["rows_labelled"] == ROWS - 60 - 1_000
    assert result["left_out"]["not_scored_by_all"] == 1_000
    assert result["left_out"]["outcome_not_known"] == 60
    # The same bundle twice: what differs between the two would be a difference of rows.
    same = [{**m, "model_version": ""} for n, m in result["models"].items() if n != "baseline"]
    assert same[0] == same[1]
    assert result["models"]["champion"]["source"] == "stream"
    assert result["models"]["baseline"]["source"] == "feature rows"
    assert result["models"]["baseline"]["model_version"] == "2"
    assert result["parity"] == {"rows": 2 * ROWS - 1_000, "differ": 0, "without_a_row": 0}
    low, high = result["versus_baseline"]["champion"]["interval"]
    assert low < result["versus_baseline"]["champion"]["difference"] < high


def test_a_challenger_of_a_minute_ago_does_not_cut_the_window_short(champion, challenger) -> None:
    rows = rows_of()
    said = scored(rows, champion) + scored(rows, challenger, slice(-500, None))
    result = found([rows], {"BTC-USD": said}, champion, challenger)
    assert set(result["models"]) == {"champion", "baseline"}
    assert result["rows_labelled"] == ROWS - 60
    assert result["waiting"] == {"model": "challenger", "model_version": "3", "rows": 440}
    assert "waits: it has scored 440 of these rows" in " ".join(performance_page(result).split())


def test_versions_and_variants_that_are_not_live_now_are_counted(champion, bundle) -> None:
    rows = rows_of()
    before = Live("champion", "1", bundle)
    unpromoted = Live("baseline", "2", bundle.as_variant("baseline"))
    said = scored(rows, before, slice(0, 100)) + scored(rows, unpromoted, slice(100, 250))
    result = found([rows], {"BTC-USD": said + scored(rows, champion, slice(250, None))}, champion)
    assert result["left_out"]["of_other_models"] == {
        "version 1 as ml": 100,
        "version 2 as baseline": 150,
    }
    assert result["rows_labelled"] == ROWS - 60 - 250


def test_where_no_version_is_champion_the_baseline_is_measured(bundle) -> None:
    rows = rows_of()
    serving = Live("baseline", "1", bundle.as_variant("baseline"))
    result = found([rows], {"BTC-USD": scored(rows, serving)}, serving)
    assert set(result["models"]) == {"baseline"}
    assert result["models"]["baseline"]["source"] == "stream"
    assert result["models"]["baseline"]["threshold"] == bundle.specification.baseline_threshold
    assert result["versus_baseline"] == {}
    assert verdict(result).sentence.startswith("The baseline serves: live PR-AUC 0.")


def test_symbols_are_pooled_and_one_without_predictions_is_left_out(champion) -> None:
    frames = [rows_of("BTC-USD"), rows_of("ETH-USD", 12), rows_of("SOL-USD", 13)]
    said = {f.symbol: scored(f, champion) for f in frames[:2]}
    result = found(frames, said, champion)
    assert result["symbols"] == ["BTC-USD", "ETH-USD"]
    assert result["rows_labelled"] == 2 * (ROWS - 60)


def test_no_outcome_known_yet_is_said_and_is_not_zero(champion) -> None:
    rows = rows_of(count=400)
    result = found([rows], {"BTC-USD": scored(rows, champion, slice(-50, None))}, champion)
    assert (result["rows_labelled"], result["models"], result["base_rate"]) == (0, {}, None)
    assert result["reason"] == "no prediction of champion version 2 has an outcome yet"
    assert result["left_out"]["outcome_not_known"] == 50
    assert "Nothing to judge yet" in performance_page(result)


def test_without_a_spike_skill_is_undefined_and_not_zero(champion) -> None:
    rows = rows_of()
    spikes = found([rows], {"BTC-USD": scored(rows, champion)}, champion)
    assert spikes["base_rate"] > 0
    calm = FeatureFrame(rows.symbol, rows.time[:600], rows.rows[:600].copy())
    calm.column("log_return_1s")[:] = 1e-9
    result = found([calm], {"BTC-USD": scored(calm, champion)}, champion)
    model = result["models"]["champion"]
    assert (model["pr_auc"], model["recall"], model["roc_auc"]) == (None, None, None)
    assert model["brier"] > 0
    assert result["base_rate"] == 0.0
    assert result["reason"] == "no spike has happened yet"
    assert verdict(result).state == "unknown"
    assert "nan" not in performance_page(result).lower()
    assert "None" not in lines(result)


def test_scores_that_are_not_those_of_the_rows_are_counted_and_come_first(champion) -> None:
    rows = rows_of()
    (said,) = scored(rows, champion)
    wrong = said.column("score").to_numpy().copy()
    wrong[7] = np.nextafter(wrong[7], 1)
    said = said.set_column(1, SCHEMA.field("score"), pa.array(wrong))
    outside = scored(rows, champion, slice(0, 1), shift=-5) + scored(
        rows, champion, slice(-1, None), shift=5
    )
    result = found([rows], {"BTC-USD": [said, *outside]}, champion)
    assert result["parity"] == {"rows": ROWS, "differ": 1, "without_a_row": 1}
    assert result["left_out"]["outcome_not_known"] == 61  # one is newer than all rows
    assert verdict(result).state == "worse"
    assert verdict(result).sentence.startswith("1 of 7,200 live scores are not those")


def test_skill_over_time_ends_with_the_newest_rows(champion) -> None:
    rows = rows_of()
    result = found([rows], {"BTC-USD": scored(rows, champion)}, champion)
    assert result["rolling"][-1]["time"] == result["stop"]
    assert all(point["rows"] > 1_700 for point in result["rolling"])
    assert set(result["rolling"][0]["pr_auc"]) == {"champion", "baseline"}


def test_the_hours_end_with_the_newest_row() -> None:
    assert window_start(10_000 * SECOND, 1.0) == (10_000 - 3_600 + 1) * SECOND


def test_captured_predictions_are_read_by_symbol_from_a_time_on(tmp_path: Path) -> None:
    assert not captured(tmp_path)
    lake = Lake(tmp_path, PREDICTION_SCHEMA)
    made = [Prediction("BTC-USD", n * SECOND, 0.5, 0.4, True, "m", "1", "ml") for n in range(9)]
    lake.write(to_table(made, 0, range(9)), "predictions.a", 0)
    assert captured(tmp_path)
    frames = [rows_of("BTC-USD"), rows_of("ETH-USD", 12)]
    held = read_captured(tmp_path, frames, 5 * SECOND)
    assert {symbol: table.num_rows for symbol, table in held.items()} == {
        "BTC-USD": 4,
        "ETH-USD": 0,
    }


def test_live_models_are_those_that_score_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names() -> list[tuple[str, str, str]]:
        return [(m.name, m.version, m.bundle.variant) for m in live_models()]

    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    with pytest.raises(registry.RegistryError, match="run `volatility train`"):
        live_models()
    register_small(tmp_path, 0)
    assert names() == [("baseline", "1", "baseline")]
    registry.promote("1", evidence={})
    assert names() == [("champion", "1", "ml")]
    register_small(tmp_path, 1)
    assert names() == [("champion", "1", "ml"), ("challenger", "2", "ml")]
    monkeypatch.setenv("MODEL_VARIANT", "baseline")
    assert names() == [("baseline", "1", "baseline"), ("challenger", "2", "ml")]


def test_the_stage_without_any_prediction_writes_that_there_is_none(tmp_path: Path) -> None:
    paths = stages.Paths(reports=tmp_path / "r", features=tmp_path / "f")
    result = stages.performance(SMALL, paths, tmp_path / "predictions")
    latest = json.loads((tmp_path / "r" / "performance" / "latest.json").read_text())
    assert latest["reason"] == result["reason"] == "no prediction has been captured yet"
    assert latest["models"] == {}
    assert latest["base_rate"] is None
    assert "no prediction has been captured yet" in (tmp_path / "r" / "index.html").read_text()


def test_each_run_is_kept_under_its_time(tmp_path: Path, champion) -> None:
    written = write_performance(nothing(24.0, "not yet"), tmp_path, NOON)
    assert [p.relative_to(tmp_path).as_posix() for p in written] == [
        "performance/20260404T120000Z.json",
        "performance.html",
        "performance/latest.json",
    ]
    assert json.loads(written[2].read_text())["checked"] == "2026-04-04T12:00:00+00:00"
    rows = rows_of()
    result = found([rows], {"BTC-USD": scored(rows, champion)}, champion)
    page = write_performance(result, tmp_path, NOON)[1].read_text()
    assert not re.search(r"(?:src|href)=[\"']?https?:", page)
    assert "<script" not in page
    assert page.count("data:image/svg+xml") == 1
    assert len(lines(result).splitlines()) == 3
