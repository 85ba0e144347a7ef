"""What live predictions were worth is, to the bit, what an evaluation says of the same rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.live import SETTINGS, START_NS, live_bundle
from tests.registries import make_registry
from volatility import registry, stages
from volatility.dataset import assemble
from volatility.evaluation import evaluate_bundle
from volatility.features.engine import read_features
from volatility.files import plain
from volatility.models.bundle import Bundle
from volatility.records.columns import to_records
from volatility.records.tick import encode
from volatility.simulation.simulator import simulate
from volatility.streaming.capture import capture_topic
from volatility.streaming.log.interface import PREDICTIONS, TICKS
from volatility.streaming.log.memory_log import MemoryLog
from volatility.streaming.models import Models
from volatility.streaming.score import Scorer
from volatility.units import SECOND

HOURS = 3.0
MEASURES = (
    "qlike",
    "pr_auc",
    "roc_auc",
    "brier",
    "calibration_error",
    "precision",
    "recall",
    "alerts_per_hour",
    "event_recall",
    "lead_seconds",
    "threshold",
)


def stream(log: MemoryLog, scorer: Scorer, symbol: str, seed: int, hours: float) -> None:
    """Append a market in pieces; the scorer takes each as it comes."""
    writer = log.writer()
    for batch in simulate(symbol, START_NS, hours, seed, gaps=True, late=True, duplicates=True):
        for record in to_records(batch):
            writer.append(TICKS, symbol.encode(), encode(record))
        scorer.run(follow=False)


def register(bundle: Bundle, folder: Path) -> str:
    bundle.save(folder)
    return registry.register(folder, parameters={}, metrics={}).version


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory):
    """Score a market live with a champion and a challenger, capture everything and measure."""
    folder = tmp_path_factory.mktemp("lived")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", make_registry(folder))
        bundles = {"champion": live_bundle(0), "challenger": live_bundle(1)}
        registry.promote(register(bundles["champion"], folder / "one"), evidence={})
        register(bundles["challenger"], folder / "two")
        log = MemoryLog()
        log.create(TICKS, 2)
        scorer = Scorer(log, Models(), group=None)
        for symbol, seed in (("BTC-USD", 1), ("ETH-USD", 2)):
            stream(log, scorer, symbol, seed, HOURS)
        scorer.close()
        paths = stages.Paths(folder / "ticks", folder / "features", folder / "m", folder / "r")
        capture_topic(log, TICKS, paths.ticks)
        capture_topic(log, PREDICTIONS, folder / "predictions")
        stages.make_features(SETTINGS, paths, progress=False)
        result = stages.performance(SETTINGS, paths, folder / "predictions")
        yield folder, plain(result), bundles


def test_live_skill_is_exactly_the_offline_evaluation_of_the_same_rows(lived) -> None:
    folder, live, bundles = lived
    data = assemble(read_features(folder / "features"), SETTINGS)
    assert live["rows_labelled"] == len(data) > 800
    offline = {
        name: plain(evaluate_bundle(bundle, data, SETTINGS).models)
        for name, bundle in bundles.items()
    }
    whole = plain(evaluate_bundle(bundles["champion"], data, SETTINGS))
    assert live["base_rate"] == whole["base_rate"]
    assert live["effective_windows"] == whole["effective_windows"]
    assert live["spike_levels_bps"] == whole["spike_levels_bps"]
    expected = {
        "champion": offline["champion"]["ml"],
        "challenger": offline["challenger"]["ml"],
        "baseline": offline["champion"]["baseline"],
    }
    assert set(live["models"]) == set(expected)
    for name, figures in expected.items():
        found = live["models"][name]
        for measure in MEASURES:
            assert found[measure] == figures[measure], (name, measure)
        for horizon, figure in figures["horizons"].items():
            assert found["horizons"][horizon]["qlike"] == figure["qlike"]
    for measure in ("qlike", "pr_auc"):
        difference = whole["ml_vs_best_simple"][measure]["difference"]
        assert live["versus_baseline"]["champion"][measure]["difference"] == pytest.approx(
            difference, abs=1e-12
        )


def test_the_stream_s_forecasts_are_those_of_the_rebuilt_rows(lived) -> None:
    _, live, _ = lived
    stride = SETTINGS.train.stride_seconds
    assert live["parity"]["rows"] > 2 * stride * live["rows_labelled"]
    assert (live["parity"]["differ"], live["parity"]["without_a_row"]) == (0, 0)
    assert live["left_out"]["not_scored_by_all"] == 0
    assert live["left_out"]["seen_in_training"] == 0
    assert live["left_out"]["of_other_models"] == {}
    # A gap, or the end of the market, lies in the minute after these.
    assert 120 // stride <= live["left_out"]["outcome_not_known"] < 0.2 * live["rows_labelled"]


def test_the_report_shows_what_was_measured(lived) -> None:
    folder, live, _ = lived
    latest = json.loads((folder / "r" / "performance" / "latest.json").read_text())
    (run,) = (folder / "r" / "performance").glob("*Z.json")
    assert json.loads(run.read_text()) == latest
    assert latest["models"] == live["models"]
    assert latest["symbols"] == ["BTC-USD", "ETH-USD"]
    assert "performance.html" in (folder / "r" / "index.html").read_text()
    page = (folder / "r" / "performance.html").read_text()
    assert f"{latest['rows_labelled']:,}" in page


def test_the_champion_is_judged_by_what_it_said_live(lived) -> None:
    folder, live, bundles = lived
    champion = bundles["champion"]
    evidence = live["live_evidence"]
    assert evidence["version"] == "1"
    assert live["demotion"] is None
    data = assemble(read_features(folder / "features"), SETTINGS)
    block = np.unique(data.time // (SETTINGS.evaluate.block_seconds * SECOND))
    assert evidence["blocks"] in (len(block) - 1, len(block))
    assert registry.read_live_evidence(champion.specification.recipe) is not None
    # The same predictions again are not new evidence.
    paths = stages.Paths(features=folder / "features", reports=folder / "again")
    again = stages.performance(SETTINGS, paths, folder / "predictions")
    assert plain(again.live_evidence) == evidence
