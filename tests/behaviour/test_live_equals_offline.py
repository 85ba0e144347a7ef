"""DESIGN 6.8, after the fact: what live predictions were worth is what evaluation says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from streaming.capture import capture_topic
from streaming.log import PREDICTIONS, TICKS
from streaming.memory_log import MemoryLog
from streaming.models import Models
from streaming.score import Scorer
from tests.examples import SMALL, dataset, trained
from tests.registries import make_registry
from volatility import registry, stages
from volatility.bundle import Bundle
from volatility.columns import to_records
from volatility.dataset import assemble
from volatility.evaluation import evaluate_bundle
from volatility.features import read_features
from volatility.kernel_state import SECOND
from volatility.metrics import scorecard
from volatility.model import fit_bundle
from volatility.simulate import simulate
from volatility.tick import encode

START_NS = 1_775_337_223 * SECOND
HOURS = 3.0


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
    """Train two models, let a champion and its challenger score a market live, capture it all."""
    folder = tmp_path_factory.mktemp("lived")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", make_registry(folder))
        champion = trained().bundle
        challenger = fit_bundle(dataset().take(np.arange(8_000)), SMALL)
        registry.promote(register(champion, folder / "one"), evidence={})
        register(challenger, folder / "two")
        log = MemoryLog()
        log.create(TICKS, 2)
        scorer = Scorer(log, Models(), SMALL.features, group=None)
        for symbol, seed in (("BTC-USD", 1), ("ETH-USD", 2)):
            stream(log, scorer, symbol, seed, HOURS)
        scorer.close()
        paths = stages.Paths(folder / "ticks", folder / "features", folder / "m", folder / "r")
        capture_topic(log, TICKS, paths.ticks)
        capture_topic(log, PREDICTIONS, folder / "predictions")
        stages.make_features(SMALL, paths, progress=False)
        result = stages.performance(SMALL, paths, folder / "predictions")
        yield folder, result, {"champion": champion, "challenger": challenger}


def test_live_skill_is_exactly_the_offline_evaluation_of_the_same_rows(lived) -> None:
    folder, live, bundles = lived
    offline = {}
    data = assemble(read_features(folder / "features"), SMALL.label)
    spikes = data.values >= bundles["champion"].specification.tau
    for name, bundle in bundles.items():
        offline[name] = scorecard(spikes, bundle.score(data.rows))
        assert live["rows_labelled"] == len(data) > 10_000
        assert live["base_rate"] == float(spikes.mean())
    baseline = bundles["champion"].as_variant("baseline")
    offline["baseline"] = scorecard(spikes, baseline.score(data.rows))
    assert set(live["models"]) == set(offline)
    for name, expected in offline.items():
        found = live["models"][name]
        for measure in ("pr_auc", "roc_auc", "brier", "calibration_error"):
            assert found[measure] == getattr(expected, measure)

    whole = evaluate_bundle(bundles["champion"], data, SMALL)
    assert whole["rows"] == live["rows_labelled"]
    for measure in ("pr_auc", "brier", "precision", "recall", "alerts_per_hour", "event_recall"):
        assert live["models"]["champion"][measure] == whole["models"]["ml"][measure]
    best = bundles["champion"].specification.best_baseline
    assert live["models"]["baseline"]["pr_auc"] == whole["models"][best]["pr_auc"]


def test_the_stream_s_scores_are_those_of_the_rebuilt_rows(lived) -> None:
    _, live, _ = lived
    assert live["parity"]["rows"] > 2 * live["rows_labelled"]
    assert (live["parity"]["differ"], live["parity"]["without_a_row"]) == (0, 0)
    assert live["left_out"]["not_scored_by_all"] == 0
    assert live["left_out"]["of_other_models"] == {}
    # A gap, or the end of the market, lies in the minute after these.
    assert 120 <= live["left_out"]["outcome_not_known"] < 0.2 * live["rows_labelled"]


def test_the_report_says_what_was_measured(lived) -> None:
    folder, live, _ = lived
    latest = json.loads((folder / "r" / "performance" / "latest.json").read_text())
    (run,) = (folder / "r" / "performance").glob("*Z.json")
    assert json.loads(run.read_text()) == latest
    assert latest["models"] == live["models"]
    assert latest["symbols"] == ["BTC-USD", "ETH-USD"]
    assert "performance.html" in (folder / "r" / "index.html").read_text()
    page = (folder / "r" / "performance.html").read_text()
    assert f"{latest['rows_labelled']:,}" in page
