from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import msgspec
import numpy as np
import pytest

from tests import bundles
from tests.bundles import random_rows
from tests.examples import SMALL
from volatility.baselines import NAMES
from volatility.bundle import Bundle
from volatility.dataset import Dataset
from volatility.feature_table import LONGEST_WINDOW_SECONDS
from volatility.promotion import LEAST_WINDOWS, gate
from volatility.training import Predictions

SECOND = 1_000_000_000
small_bundle = cache(bundles.small_bundle)
START = 1_775_337_223
COUNT = 12_000
SETTINGS = msgspec.structs.replace(
    SMALL, evaluate=msgspec.structs.replace(SMALL.evaluate, resamples=300)
)


def bundle(seed: int = 0, start: int = START - 40_000, stop: int = START - 20_000) -> Bundle:
    """Give a model that was trained long before the held-out rows."""
    found = small_bundle(seed)
    window = {"train_start": start * SECOND, "train_stop": stop * SECOND}
    return replace(found, specification=msgspec.structs.replace(found.specification, **window))


def held_out(
    skill: float, *, baselines: float = 1.0, count: int = COUNT, champion: Bundle | None = None
) -> Predictions:
    """Make rows with spikes in minutes, and scores that know them more or less well."""
    random = np.random.default_rng(1)
    hidden = np.repeat(random.normal(0.0, 1.0, count // 60), 60)
    rows = random_rows(len(hidden), 2)

    def scores(weight: float) -> np.ndarray:
        noise = np.repeat(random.normal(0.0, 1.0, count // 60), 60)
        return 1.0 / (1.0 + np.exp(-(weight * hidden + noise)))

    data = Dataset(
        symbols=("BTC-USD",),
        symbol=np.zeros(len(hidden), dtype=np.int64),
        time=(START + np.arange(len(hidden))) * SECOND,
        rows=rows,
        values=hidden + 2.0,
        frames=(),
        frame_row=np.arange(len(hidden)),
    )
    ml = champion.score(rows) if champion else scores(skill)
    return Predictions(
        data=data,
        fold=np.full(len(hidden), 2),
        tau=np.full(len(hidden), 3.0),
        threshold=np.full(len(hidden), 0.5),
        scores={"ml": ml, **{name: scores(baselines) for name in NAMES}},
    )


def test_a_better_challenger_earns_it() -> None:
    found = gate(bundle(), held_out(5.0), SETTINGS, None)
    assert found["earned"]
    assert found["reasons"] == []
    assert found["ml_vs_best_baseline"]["interval"][0] > 0.0
    assert found["ml_vs_champion"] is None
    assert found["rows"] == COUNT
    assert found["effective_windows"] == pytest.approx(COUNT / 60, abs=1)
    assert set(found["models"]) == {"ml", *NAMES}
    json.dumps(found, allow_nan=False)


def test_an_equal_challenger_does_not() -> None:
    found = gate(bundle(), held_out(1.0), SETTINGS, None)
    assert not found["earned"]
    baseline = found["ml_vs_best_baseline"]["baseline"]
    assert found["reasons"] == [f"does not beat {baseline} beyond doubt"]


def test_a_score_that_is_the_baseline_s_does_not() -> None:
    same = held_out(1.0)
    same.scores.update(dict.fromkeys(same.scores, same.scores["har"]))
    found = gate(bundle(), same, SETTINGS, None)
    assert found["ml_vs_best_baseline"]["interval"] == [0.0, 0.0]
    assert not found["earned"]


def test_a_few_windows_prove_nothing() -> None:
    few = held_out(5.0, count=60 * (LEAST_WINDOWS - 2))
    found = gate(bundle(), few, SETTINGS, None)
    assert not found["earned"]
    assert "too few" in found["reasons"][0]
    assert found["ml_vs_best_baseline"] is None
    enough = gate(bundle(), held_out(5.0, count=60 * (LEAST_WINDOWS + 30)), SETTINGS, None)
    assert enough["effective_windows"] >= LEAST_WINDOWS
    assert enough["ml_vs_best_baseline"] is not None


def test_rows_without_spikes_prove_nothing() -> None:
    rows = held_out(5.0)
    found = gate(bundle(), replace(rows, tau=np.full(COUNT, 1e9)), SETTINGS, None)
    assert not found["earned"]
    assert "without spikes" in found["reasons"][0]
    json.dumps(found, allow_nan=False)


def test_it_must_beat_the_champion_too() -> None:
    found = gate(bundle(), held_out(5.0), SETTINGS, ("3", bundle(1)))
    assert found["earned"]  # the champion knows nothing of these rows
    assert found["ml_vs_champion"]["champion"] == "3"
    assert found["ml_vs_champion"]["interval"][0] > 0.0


def test_the_champion_s_equal_does_not_replace_it() -> None:
    champion = bundle(1)
    rows = held_out(0.0, baselines=-3.0, champion=champion)  # and the baselines are hopeless
    found = gate(bundle(), rows, SETTINGS, ("3", champion))
    assert found["ml_vs_champion"]["difference"] == 0.0
    assert found["ml_vs_best_baseline"]["interval"][0] > 0.0
    assert found["reasons"] == ["does not beat champion 3 beyond doubt"]
    assert not found["earned"]


def test_the_champion_is_scored_as_ml_even_where_its_baseline_serves() -> None:
    champion = bundle(1)
    rows = held_out(0.0, champion=champion)
    found = gate(bundle(), rows, SETTINGS, ("3", champion.as_variant("baseline")))
    assert found["ml_vs_champion"]["difference"] == 0.0


def test_rows_that_the_champion_was_trained_on_are_left_out() -> None:
    margin = 60 + LONGEST_WINDOW_SECONDS
    champion = bundle(1, stop=START + 3000)
    found = gate(bundle(), held_out(5.0), SETTINGS, ("3", champion))
    assert found["rows"] == COUNT - (3000 + margin + 1)
    everything = bundle(1, stop=START + COUNT)
    found = gate(bundle(), held_out(5.0), SETTINGS, ("3", everything))
    assert (found["rows"], found["effective_windows"], found["earned"]) == (0, 0, False)
    assert "no compared model has seen" in found["reasons"][0]
