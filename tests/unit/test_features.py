from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.slow_features import Windows, read
from tests.streams import START, random_records, seeds, to_batch
from volatility.features.derive import derive
from volatility.features.engine import (
    FeatureEngine,
    FeatureFrame,
    FeatureRow,
    feature_batches,
)
from volatility.features.table import FEATURE_NAMES, FEATURES, INDEX, MODEL_INPUTS
from volatility.records.columns import to_records
from volatility.records.tick import Heartbeat, Record, Tick, validate
from volatility.settings import Features
from volatility.simulation.simulator import simulate
from volatility.units import SECOND

SYMBOL = "BTC-USD"
BASELINE = "realised_volatility_900s"
# 2**-59 of a squared return is rounded away, and a baseline divides what that leaves.
ROUNDING, ROUNDING_OF_RATIOS, RELATIVE_ROUNDING = 2e-9, 1e-4, 1e-5
SPREAD_ROUNDING = 2e-3  # a spread of 0.0015 basis points is kept in steps of 2**-18 of them


def tick(second: float, middle: float = 100.0, **fields: float | int) -> Tick:
    bid, ask = middle * 0.9999, middle * 1.0001
    time = START + round(second * 1e9)
    return Tick(SYMBOL, time, price=middle, **{"bid": bid, "ask": ask, **fields})  # type: ignore[arg-type]


def beat(second: float) -> Heartbeat:
    return Heartbeat(SYMBOL, START + round(second * 1e9))


def run(records: Sequence[Record]) -> tuple[list[FeatureRow], dict[str, int]]:
    engine = FeatureEngine()
    return [row for record in records for row in engine.update(record)], engine.counts(SYMBOL)


def steps(rows: list[FeatureRow]) -> list[int]:
    return [(row.time - START) // SECOND for row in rows]


def at(rows: list[FeatureRow], second: int) -> FeatureRow:
    return next(row for row in rows if row.time == START + second * SECOND)


def walk(first: int, last: int, seed: int = 0) -> list[Record]:
    """One tick in the middle of each second ``first..last``; the price moves at each."""
    random = np.random.default_rng(seed)
    prices = 100.0 * np.exp(np.cumsum(random.normal(0.0, 3e-5, last - first + 1)))
    return [tick(s - 0.5, p) for s, p in zip(range(first, last + 1), prices, strict=True)]


def assert_as_slow(records: list[Record], least_rows: int, stride: int = 5) -> None:
    rows, counts = run(records)
    stream = read(records)
    assert [row.time // SECOND for row in rows] == stream.seconds()
    assert counts == {"late": stream.late, "duplicates": stream.duplicates}
    windows = Windows(stream)
    chosen = rows[::stride]
    assert len(chosen) >= least_rows
    fast = np.array([row.values for row in chosen])
    plain = [windows.row(row.time // SECOND) for row in chosen]
    for feature in FEATURES:
        a, b = fast[:, INDEX[feature.name]], np.array([row[feature.name] for row in plain])
        assert np.array_equal(np.isnan(a), np.isnan(b)), feature.name
        relative = SPREAD_ROUNDING if feature.name.startswith("spread_") else RELATIVE_ROUNDING
        allowed = relative * np.abs(b) + (ROUNDING_OF_RATIOS if feature.model_input else ROUNDING)
        assert not (np.abs(a - b) > allowed).any(), feature.name


@pytest.mark.slow
@settings(max_examples=12)
@given(seeds)
def test_every_feature_is_what_its_window_says(seed: int) -> None:
    assert_as_slow(random_records(seed, 3000), least_rows=1)


@pytest.mark.slow
def test_every_feature_of_a_market_with_faults_is_what_its_window_says() -> None:
    market = simulate(SYMBOL, START, 2.0, 5, gaps=True, late=True, duplicates=True)
    records = [record for batch in market for record in to_records(batch)]
    stream = read(records)
    assert stream.late > 20
    assert stream.duplicates > 20
    assert len(set(stream.gap)) > 2
    assert_as_slow(records, least_rows=300, stride=17)


def covered_seconds(feature: str) -> int:
    """Read the declared warm-up: the covered seconds after which the feature is there."""
    declared = FEATURES[INDEX[feature]]
    words = declared.warm_up.split()
    if declared.warm_up == "none":
        return 1
    if declared.warm_up.startswith("0.8 of the window"):
        least = round(0.8 * declared.window_seconds)
        # Of a feature of a feature, the inner one has its own window to fill first.
        return least + (12 - 1 if declared.warm_up.endswith("realised_volatility_15s") else 0)
    assert words[1] == "s"
    return int(words[0])


@pytest.mark.parametrize("feature", FEATURE_NAMES)
def test_a_feature_is_missing_exactly_until_its_declared_warm_up(feature: str) -> None:
    records = [tick(s - 0.5, m, bid_size=2.0, ask_size=1.0) for s, m in enumerate(moves(400), 1)]
    rows, _ = run([*records, beat(402)])
    values = np.array([row.value(feature) for row in rows[:400]])
    ready = covered_seconds(feature) - 1
    assert np.isnan(values[:ready]).all()
    assert not np.isnan(values[ready:]).any()


def moves(count: int) -> list[float]:
    random = np.random.default_rng(3)
    return list(100.0 * np.exp(np.cumsum(random.normal(0.0, 3e-5, count))))


@pytest.mark.parametrize(("silence", "is_gap"), [(14.9, False), (15.0, False), (15.1, True)])
def test_a_silence_is_a_gap_above_fifteen_seconds(silence: float, is_gap: bool) -> None:
    resumed = 100 - 0.5 + silence
    records = [*walk(1, 100), tick(resumed, 101.0), tick(resumed + 1, 101.0), beat(130)]
    rows, _ = run(records)
    row = at(rows, math.ceil(resumed))
    assert math.isnan(row.value("log_return_1s")) == is_gap
    assert row.value("seconds_since_gap") == (0.0 if is_gap else math.ceil(resumed) - 1)
    assert at(rows, math.ceil(resumed) + 1).value("log_return_1s") == 0.0
    # A silence that is no gap is a stretch of seconds without a move; a gap is nothing at all.
    last = at(rows, math.ceil(resumed) + 1)
    if is_gap:
        # 44 of the 60 seconds are covered: 48 are needed.
        assert math.isnan(last.value("realised_volatility_60s"))
    else:
        assert last.value("realised_volatility_60s") > 0.0012


def test_the_price_change_across_a_gap_is_no_return() -> None:
    records = [*walk(1, 900), tick(919.5, 150.0), *walk(921, 1000), beat(1001)]
    calm, _ = run([*walk(1, 900), *walk(921, 1000), beat(1001)])
    rows, _ = run([r for r in records if r.time < START + 920 * SECOND] + [tick(940.5, 150.0)])
    assert max(np.nan_to_num(row.value(BASELINE)) for row in rows) < 4e-5
    assert max(np.nan_to_num(row.value(BASELINE)) for row in calm) < 4e-5
    assert math.isnan(at(calm, 921).value("log_return_1s"))


def test_a_reconnect_does_not_blind_the_baseline() -> None:
    rows, _ = run([*walk(1, 299), *walk(320, 620), beat(621)])
    before = [row for row in rows if row.time < START + 315 * SECOND]
    # The silent seconds 300.. count as long as nobody can know that they are a gap.
    assert steps([row for row in before if row.value(BASELINE) > 0.0]) == list(range(300, 314))
    # With hindsight they do not: 299 seconds are covered before, and one more suffices.
    assert at(rows, 320).value(BASELINE) > 0.0
    assert math.isnan(at(run([*walk(1, 298), *walk(320, 620)])[0], 320).value(BASELINE))
    assert at(run([*walk(1, 298), *walk(320, 620)])[0], 321).value(BASELINE) > 0.0


def test_the_baseline_needs_three_hundred_covered_seconds_of_its_window() -> None:
    rows, _ = run([*walk(1, 600), *walk(1301, 1700), beat(1701)])
    warm = [s for s in steps(rows) if s > 1300 and at(rows, s).value(BASELINE) > 0.0]
    # At s, the seconds s-899..600 and 1301..s are covered: 199+... falls as fast as it grows
    # until the first stretch has left the window, at 1500.
    assert warm[0] == 1600
    assert len(warm) == 101


def test_heartbeats_keep_the_clock_of_a_quiet_market() -> None:
    rows, _ = run([*walk(1, 60), *(beat(s + 0.2) for s in range(61, 160)), tick(160.5, 101.0)])
    assert steps(rows) == list(range(1, 161))
    quiet = [at(rows, s) for s in range(61, 160)]
    assert all(row.value("log_return_1s") == 0.0 for row in quiet)
    assert all(row.value("trade_intensity") == 0.0 for row in quiet)
    assert at(rows, 160).value("seconds_since_gap") == 159.0
    # Without them the same silence is a gap: fifteen rows, then none until it ends.
    alone, _ = run([*walk(1, 60), tick(160.5, 101.0), beat(162)])
    assert steps(alone) == [*range(1, 75), 161]


def test_an_old_quote_is_not_known_any_more() -> None:
    rows, _ = run([*walk(1, 60), *(beat(float(s)) for s in range(60, 700))])
    assert steps(rows)[-1] == 359  # the last tick came at 59.5


def test_late_ticks_are_dropped_and_counted() -> None:
    records = walk(1, 100)
    late: list[Record] = [tick(49.9, 200.0), tick(50.0, 200.0), beat(30.0)]
    rows, counts = run([*records[:51], *late, *records[51:]])
    assert counts == {"late": 2, "duplicates": 0}
    assert same_rows(rows, run(records)[0])


def test_ticks_out_of_order_within_the_open_second_are_not_late() -> None:
    rows, counts = run([tick(1.8, 100.0), tick(1.2, 102.0), beat(4)])
    assert counts == {"late": 0, "duplicates": 0}
    assert at(rows, 2).value("trade_intensity") == 2.0
    assert at(rows, 2).value("midprice") == pytest.approx(102.0)  # what arrived last stands


@pytest.mark.parametrize("identifier", ["trade_id", "sequence"])
def test_duplicates_are_dropped_and_counted(identifier: str) -> None:
    once = [tick(s / 3, 100.0 + s / 100, **{identifier: s}) for s in range(1, 300)]
    twice = [t for a, b in pairwise(once) for t in (a, b, a)] + [once[-1]]
    # Each tick but the ends comes three times; what is late besides is counted as late.
    rows, counts = run(twice)
    assert same_rows(rows, run(once)[0])
    assert counts["late"] + counts["duplicates"] == len(twice) - len(once)
    assert counts["duplicates"] > 300


def test_equal_ticks_without_an_identifier_are_all_counted() -> None:
    rows, counts = run([tick(0.5), tick(0.5), tick(0.5), beat(2)])
    assert counts == {"late": 0, "duplicates": 0}
    assert at(rows, 1).value("trade_intensity") == 3.0


def test_a_tick_exactly_on_a_step_belongs_to_it() -> None:
    after = Tick(SYMBOL, START + SECOND + 1, price=3.0, bid=3.0, ask=3.0)
    rows, _ = run([tick(0.5, 1.0), tick(1.0, 2.0), after, beat(3)])
    assert [row.value("midprice") for row in rows] == pytest.approx([2.0, 3.0])
    assert [row.value("trade_intensity") for row in rows] == [2.0, 1.0]


def test_a_row_appears_when_its_step_is_closed_and_not_before() -> None:
    engine = FeatureEngine()
    assert engine.update(tick(0.5)) == []
    assert engine.update(tick(1.0)) == []
    assert steps(engine.update(beat(3.0))) == [1, 2]


@pytest.mark.parametrize("given", [{}, {"bid_size": 2.0}, {"ask_size": 2.0}])
def test_a_size_that_is_absent_is_not_zero(given: dict[str, float]) -> None:
    both, _ = run([tick(0.5, bid_size=2.0, ask_size=0.0), beat(2)])
    assert at(both, 1).value("quote_imbalance") == 1.0
    rows, _ = run([tick(0.5, **given), beat(2)])
    assert math.isnan(at(rows, 1).value("quote_imbalance"))
    assert math.isnan(at(rows, 1).value("microprice_distance_bps"))
    later, _ = run([tick(0.5, bid_size=2.0, ask_size=2.0), tick(1.5, **given), beat(3)])
    assert math.isnan(at(later, 2).value("quote_imbalance"))


prices = st.floats(math.log(1e-12), math.log(9e11)).map(math.exp)


@pytest.mark.slow
@settings(max_examples=30)
@given(prices, seeds, st.floats(0.0, 0.5), st.floats(1.0, 9.9))
def test_extreme_prices_stay_finite(start: float, seed: int, jump: float, width: float) -> None:
    random = np.random.default_rng(seed)
    records: list[Record] = []
    middle = start
    for second in range(1, 1000):
        middle *= 1.0 + random.choice([-jump, jump])
        middle = min(max(middle, 2e-12), 1e11)
        bid, ask = middle / math.sqrt(width), middle * math.sqrt(width)
        bid = max(bid, 1e-12)
        sizes = {"bid_size": random.choice([0.0, 1e-300, 1e300]), "ask_size": 0.0}
        time = START + second * SECOND - int(random.integers(0, SECOND))
        records.append(validate(Tick(SYMBOL, time, price=middle, bid=bid, ask=ask, **sizes)))
    rows, _ = run(sorted(records, key=lambda record: record.time))
    values = np.array([row.values for row in rows])
    assert not np.isinf(values).any()
    for name in FEATURE_NAMES:
        if "volatility" in name or name.startswith(("range", "parkinson", "spread", "momentum")):
            assert not (values[:, INDEX[name]] < 0.0).any(), name
    assert np.nanmax(values[:, INDEX[BASELINE]], initial=0.0) <= 0.125


def test_fifteen_minutes_of_saturated_returns_do_not_overflow() -> None:
    records = [tick(s - 0.5, 100.0 if s % 2 else 150.0) for s in range(1, 1500)]
    rows, _ = run(records)
    assert rows[-1].value(BASELINE) == 0.125
    assert rows[-1].value("volatility_ratio_60s") == 1.0
    assert rows[-1].value("bipower_ratio_300s") == pytest.approx(math.sqrt(math.pi / 2))
    assert abs(rows[-1].value("log_return_1s")) == pytest.approx(math.log(1.5))


def same_rows(first: list[FeatureRow], second: list[FeatureRow]) -> bool:
    return [(r.time, r.values.tobytes()) for r in first] == [
        (r.time, r.values.tobytes()) for r in second
    ]


@pytest.mark.slow
@settings(max_examples=20)
@given(seeds)
def test_derive_fills_what_the_kernel_would_have_written(seed: int) -> None:
    rows, _ = run(random_records(seed, 1200, gaps=False))
    row = rows[-1].values
    derived = [*(n for n in MODEL_INPUTS if n.startswith(("volatility_ratio", "ewma_ratio")))]
    derived += ["spread_bps", "intensity_ratio_1s", "microprice_distance_bps"]
    bare = row.copy()
    bare[[INDEX[name] for name in derived]] = np.nan
    derive(bare[None])
    assert bare.tobytes() == row.tobytes()
    changed = row.copy()
    changed[INDEX["volatility_ratio_60s"]] = 7.0
    derive(changed[None])
    assert changed[INDEX["volatility_ratio_60s"]] == 7.0  # what was sent is not overruled


def test_derive_leaves_the_undetermined_missing() -> None:
    row = np.full(len(FEATURE_NAMES), np.nan)
    derive(row[None])
    assert np.isnan(row).all()
    row[INDEX["realised_volatility_60s"]], row[INDEX[BASELINE]] = 1e-5, 0.0
    derive(row[None])
    assert math.isnan(row[INDEX["volatility_ratio_60s"]])


def test_several_symbols_do_not_mix() -> None:
    both = FeatureEngine()
    alone = FeatureEngine()
    expected, found = [], []
    for a, b in zip(walk(1, 200, 1), walk(1, 200, 2), strict=True):
        other = msgspec.structs.replace(b, symbol="ETH-USD")
        found += [row for row in both.update(a) + both.update(other) if row.symbol == SYMBOL]
        expected += alone.update(a)
    assert same_rows(found, expected)
    assert both.counts("DOGE-USD") == {"late": 0, "duplicates": 0}


@pytest.mark.slow
def test_the_gap_and_coverage_rules_are_settings() -> None:
    rules = Features(gap_seconds=5, min_baseline_seconds=60)
    records = [*walk(1, 100), tick(107.5), beat(110)]
    parts = [(t.copy(), r.copy()) for t, r in feature_batches([to_batch(records)], rules)]
    frame = FeatureFrame(SYMBOL, np.concatenate([p[0] for p in parts]), parts[0][1])
    assert frame.column("seconds_since_gap")[-1] == 1.0
    assert frame.column(BASELINE)[59] > 0.0
    assert np.isnan(frame.column(BASELINE)[:59]).all()
