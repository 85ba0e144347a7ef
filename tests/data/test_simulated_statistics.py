"""Compare the simulated market with the recordings, and the placebo with chance."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score

from benchmarks.simulator_statistics import (
    MIN_RECORDING_SECONDS,
    Segment,
    draw,
    read_recordings,
    segments,
    statistics,
)
from volatility.simulation.simulator import noise, simulate

START_NS = 1_767_571_200_000_000_000  # 2026-01-05
SEEDS = (1, 7, 42)

# Smallest and largest value over the 20 recordings of BTC-USD of at least 10 minutes and the
# 5 days of recordings (2025-12-01, -05, -06, 2026-04-03, -04), measured by `statistics` on
# ticks/btc-usd.parquet; `test_the_ranges_are_those_of_the_recordings` measures them again.
RECORDED = {
    "zeros": (0.283, 0.936),
    "kurtosis": (8.51, 533.4),
    "acf1": (0.0127, 0.1432),
    "acf10": (-0.0412, 0.0968),
    "acf60": (-0.0954, 0.0822),
    "volatility_60s_bps": (0.810, 6.494),
    "ticks_per_second": (1.875, 5.285),
}


def day(market, seed: int) -> list[Segment]:
    batches = list(market("BTC-USD", START_NS, 24, seed))
    return segments(pa.Table.from_batches(batches))


def half_hours(parts: list[Segment]) -> list[list[Segment]]:
    (whole,) = parts
    return [
        [Segment(whole.start_seconds + i, whole.returns[i : i + 1800], whole.counts[i : i + 1800])]
        for i in range(0, len(whole.returns) - 1800, 1800)
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_simulated_day_lies_within_the_recordings(seed):
    found = statistics(day(simulate, seed))
    outside = {
        name: found[name]
        for name, (low, high) in RECORDED.items()
        if not low <= found[name] <= high
    }
    assert not outside


@pytest.mark.parametrize("seed", SEEDS)
def test_the_usual_half_hour_lies_within_the_recordings(seed):
    # Most recordings last 10 to 30 minutes, and clustering looks weaker in a short one.
    found = [statistics(part) for part in half_hours(day(simulate, seed))]
    for name, (low, high) in RECORDED.items():
        assert low <= np.median([each[name] for each in found]) <= high, name


def test_the_ranges_are_those_of_the_recordings(recordings):
    groups = read_recordings(recordings / "ticks" / "btc-usd.parquet")
    assert len(groups["day"]) == 5
    assert len(groups["recording"]) == 20
    for parts in groups["recording"].values():
        assert sum(len(part.counts) for part in parts) >= MIN_RECORDING_SECONDS * 0.9
    measured = [statistics(parts) for group in groups.values() for parts in group.values()]
    for name, (low, high) in RECORDED.items():
        values = [each[name] for each in measured]
        assert min(values) == pytest.approx(low, rel=1e-3, abs=1e-4), name
        assert max(values) == pytest.approx(high, rel=1e-3, abs=1e-4), name


def test_noise_lies_outside_the_recordings():
    found = statistics(day(noise, 7))
    assert found["zeros"] < 1e-4
    assert found["kurtosis"] == pytest.approx(3.0, abs=0.1)
    assert abs(found["acf1"]) < 0.0127


def skill(part: Segment) -> dict[str, float]:
    """PR-AUC of spikes on the last 30 % of a day, from volatility alone and with arrivals."""

    def mean(values, seconds):
        total = np.cumsum(np.concatenate([[0.0], values]))
        found = np.full(len(values), np.nan)
        found[seconds - 1 :] = (total[seconds:] - total[:-seconds]) / seconds
        return found

    squares, counts = part.returns**2, part.counts[1:].astype(float)
    trailing = mean(squares, 900)
    forward = np.full(len(squares), np.nan)
    forward[:-60] = mean(squares, 60)[60:]
    ratio = np.sqrt(forward / trailing)
    volatility = [np.log((mean(squares, s) + 1e-14) / trailing) for s in (15, 60, 300)]
    arrivals = [np.log((mean(counts, s) + 0.01) / mean(counts, 900)) for s in (10, 60)]
    rows = np.flatnonzero(np.isfinite(ratio))[::5]
    cut = int(0.7 * len(rows))
    train, test = rows[:cut], rows[cut + 200 :]  # 1,000 s apart: no window reaches across
    spike = ratio >= np.quantile(ratio[train], 0.9)
    found = {"base_rate": float(spike[test].mean())}
    for name, columns in (("volatility", volatility), ("arrivals", volatility + arrivals)):
        features = np.column_stack(columns)
        model = HistGradientBoostingClassifier(
            max_iter=80, learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=100, random_state=0
        ).fit(features[train], spike[train])
        score = model.predict_proba(features[test])[:, 1]
        found[name] = float(average_precision_score(spike[test], score))
    return found


def test_spikes_can_be_foreseen_but_not_surely():
    days = [skill(day(simulate, seed)[0]) for seed in SEEDS]
    found = {name: np.mean([each[name] for each in days]) for name in days[0]}
    assert found["volatility"] > 1.3 * found["base_rate"]
    assert found["arrivals"] > found["volatility"] + 0.03
    assert 2.0 * found["base_rate"] < found["arrivals"] < 0.6


def test_nothing_can_be_foreseen_in_noise():
    days = [skill(day(noise, seed)[0]) for seed in SEEDS]
    excess = [
        each[name] - each["base_rate"] for each in days for name in ("volatility", "arrivals")
    ]
    # A day's test rows hold about 430 independent windows; single days scatter by 0.015.
    assert abs(np.mean(excess)) < 0.02
    assert np.max(np.abs(excess)) < 0.045


def test_the_plot_is_drawn_with_and_without_recordings(tmp_path):
    simulated = half_hours(day(simulate, 7))[0]
    for days in ({}, {"2026-01-01": half_hours(day(simulate, 8))[0]}):
        path = tmp_path / "reports" / f"{len(days)}.png"
        draw(days, simulated, path)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert list(path.parent.glob("*.tmp*")) == []
