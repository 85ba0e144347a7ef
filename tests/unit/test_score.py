from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import count as counting
from itertools import islice

import msgspec
import pytest

from tests.bundles import OTHER_RULES, under
from tests.chaos import market
from tests.chaos.checks import bundle, check_predictions, expected_scores, read_all
from tests.short_log import ShortLog
from volatility.records.prediction import Prediction
from volatility.records.tick import Record, encode
from volatility.settings import Features
from volatility.streaming import metrics
from volatility.streaming import score as module
from volatility.streaming.log.interface import PREDICTIONS, TICKS, LogError, Message
from volatility.streaming.log.memory_log import MemoryLog
from volatility.streaming.models import Model
from volatility.streaming.score import Scorer
from volatility.units import SECOND


class Given:
    """Provide the models that a test chooses: version to seed, the champion first."""

    def __init__(self, **versions: int) -> None:
        self.put(**versions)

    def put(self, **versions: int) -> None:
        self.models = tuple(Model("m", v[1:], bundle(seed)) for v, seed in versions.items())

    def adopt(self, rules: Features) -> None:
        """Replace the models by ones trained with other feature settings."""
        self.models = tuple(
            replace(model, bundle=under(model.bundle, rules)) for model in self.models
        )

    def current(self) -> tuple[Model, ...]:
        return self.models


@pytest.fixture
def stream() -> Iterator[Record]:
    return market.records(0, step_ns=SECOND // 5)


@pytest.fixture
def log() -> MemoryLog:
    made = MemoryLog()
    made.create(TICKS, 2)
    return made


def append(log: MemoryLog, records: Iterator[Record], count: int) -> None:
    writer = log.writer()
    for record in islice(records, count):
        writer.append(TICKS, record.symbol.encode(), encode(record))


def run(log: MemoryLog, models: object, group: str | None = None) -> int:
    scorer = Scorer(log, models, group=group)  # type: ignore[arg-type]
    try:
        return scorer.run(follow=False)
    finally:
        scorer.close()


def told(log: MemoryLog) -> Counter[tuple[str, int, str]]:
    ones = [json.loads(message.value) for message in read_all(log, PREDICTIONS)]
    return Counter((one["symbol"], one["time"], one["model_version"]) for one in ones)


def resumes(log: MemoryLog) -> list[tuple[Message, int, int]]:
    found = []
    for message in read_all(log, PREDICTIONS):
        headers = dict(message.headers)
        found.append((message, int(headers["closed"]), int(headers["resume"])))
    return found


@pytest.mark.slow
def test_every_warm_step_is_scored_once(log: MemoryLog, stream: Iterator[Record]) -> None:
    append(log, stream, 12_000)
    assert run(log, Given(v1=0)) > 3_000
    assert check_predictions(log) == {**check_predictions(log), "repeated": 0}


def test_the_metrics_name_the_models_that_score(log: MemoryLog, stream: Iterator[Record]) -> None:
    append(log, stream, 100)
    for models in (Given(v1=0, v2=1), Given(v2=1)):
        run(log, models)
        shown = {
            sample.labels["model_version"]
            for family in metrics.registry.collect()
            for sample in family.samples
            if sample.name == "volatility_model_info" and sample.value == 1.0
        }
        assert shown == {model.version for model in models.current()}


@pytest.mark.slow
@pytest.mark.parametrize("group", [None, "score"])
def test_a_restart_skips_nothing_repeats_nothing_and_is_never_cold(
    log: MemoryLog, stream: Iterator[Record], group: str | None
) -> None:
    for count in (5_000, 3_000, 17, 1, 1, 4_000):
        append(log, stream, count)
        run(log, Given(v1=0), group)
    assert check_predictions(log)["repeated"] == 0


@pytest.mark.slow
def test_a_process_that_ends_amid_its_writes_is_followed_without_a_seam(
    log: MemoryLog, stream: Iterator[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of several predictions may be cut between any two of them."""
    append(log, stream, 12_000)
    both = {"v1": 0, "v2": 1}
    for survived in (1_000, 1, 501, 250, 2, 3):
        scorer = Scorer(log, Given(**both), group=None)  # type: ignore[arg-type]
        inner, left = scorer._writer.append, iter(range(survived))

        def append_some(*arguments: object, inner=inner, left=left) -> None:
            if next(left, None) is not None:
                inner(*arguments)

        monkeypatch.setattr(scorer._writer, "append", append_some)
        scorer.run(follow=False)
        scorer.close()
    run(log, Given(**both))
    counts = check_predictions(log, {"1": 0, "2": 1})
    assert counts["repeated"] == 0


@pytest.mark.slow
def test_whatever_the_size_of_a_poll_a_successor_has_all_that_it_needs(
    log: MemoryLog, stream: Iterator[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One poll may bring more of the market's time than the windows are long."""
    monkeypatch.setattr(module, "POLL_RECORDS", 50_000)
    sparse = (record for number, record in enumerate(stream) if number % 12 < 3)
    append(log, sparse, 8_000)
    scorer = Scorer(log, Given(v1=0), group=None)  # type: ignore[arg-type]
    inner, left = scorer._writer.append, iter(range(400))
    monkeypatch.setattr(
        scorer._writer, "append", lambda *a: next(left, None) is not None and inner(*a)
    )
    scorer.run(follow=False)
    scorer.close()
    run(log, Given(v1=0))
    check_predictions(log)


@pytest.mark.slow
def test_a_successor_reads_no_further_back_than_the_memory(
    log: MemoryLog, stream: Iterator[Record]
) -> None:
    append(log, stream, 40_000)
    run(log, Given(v1=0))
    times = {(m.partition, m.offset): json.loads(m.value)["time"] for m in read_all(log, TICKS)}
    memory_ns = (Features().memory_seconds + 60) * SECOND
    late = [entry for entry in resumes(log) if entry[1] > 12_000]
    assert late
    for message, closed, resume in late:
        span = times[message.partition, closed] - times[message.partition, resume]
        assert memory_ns - 120 * SECOND < span < memory_ns
    _, closed, resume = resumes(log)[-1]
    assert resume > closed / 4


@pytest.mark.slow
def test_a_silent_symbol_does_not_hold_the_resume_offset_back(log: MemoryLog) -> None:
    everyone, fewer = (
        market.records(0),
        market.records(1, ("BTC-USD", "ETH-USD"), market.START_NS + 400 * SECOND),
    )
    append(log, everyone, 900)
    append(log, fewer, 60_000)
    run(log, Given(v1=0))
    for partition in (0, 1):
        mine = [entry for entry in resumes(log) if entry[0].partition == partition]
        if mine:
            assert mine[-1][2] > 900


@pytest.mark.slow
def test_a_champion_swapped_live_scores_from_the_next_step(
    log: MemoryLog, stream: Iterator[Record]
) -> None:
    given = Given(v1=0)
    scorer = Scorer(log, given, group=None)  # type: ignore[arg-type]
    append(log, stream, 8_000)
    scorer.run(follow=False)
    before = told(log)
    given.put(v2=1)
    append(log, stream, 4_000)
    scorer.run(follow=False)
    scorer.close()
    after = told(log) - before
    assert {version for *_, version in before} == {"1"}
    assert {version for *_, version in after} == {"2"}
    steps = {(symbol, time) for symbol, time, _ in told(log)}
    assert steps == expected_scores(log).keys()
    assert not {key[:2] for key in before} & {key[:2] for key in after}


@pytest.mark.slow
def test_a_challenger_scores_each_step_in_the_shadow(
    log: MemoryLog, stream: Iterator[Record]
) -> None:
    append(log, stream, 8_000)
    run(log, Given(v1=0, v2=1))
    append(log, stream, 2_000)
    run(log, Given(v1=0, v2=1))
    assert check_predictions(log, {"1": 0, "2": 1})["repeated"] == 0


@pytest.mark.slow
def test_features_are_built_under_the_rules_of_the_model_that_serves(
    log: MemoryLog, stream: Iterator[Record]
) -> None:
    given = Given(v1=0)
    given.adopt(OTHER_RULES)
    append(log, stream, 12_000)
    run(log, given)
    assert check_predictions(log, rules=OTHER_RULES)["repeated"] == 0
    assert expected_scores(log, rules=OTHER_RULES).keys() != expected_scores(log).keys()


@pytest.mark.slow
@pytest.mark.parametrize("group", [None, "score"])
def test_a_new_champion_with_other_rules_scores_as_if_it_had_always_been_there(
    log: MemoryLog, stream: Iterator[Record], group: str | None
) -> None:
    given = Given(v1=0)
    scorer = Scorer(log, given, group=group)  # type: ignore[arg-type]
    append(log, stream, 8_000)
    scorer.run(follow=False)
    before = told(log)
    given.put(v2=1)
    given.adopt(OTHER_RULES)
    append(log, stream, 6_000)
    scorer.run(follow=False)
    scorer.close()
    after = told(log) - before
    assert {version for *_, version in after} == {"2"}
    assert all(count == 1 for count in told(log).values())
    expected = expected_scores(log, 1, OTHER_RULES)
    found = {
        (one["symbol"], one["time"]): one["score"]
        for one in (json.loads(m.value) for m in read_all(log, PREDICTIONS))
        if one["model_version"] == "2"
    }
    assert found.items() <= expected.items()
    begin = min(time for _, time in found)
    skipped = {key for key in expected.keys() - found.keys() if key[1] > begin}
    assert not {key for key in skipped if (*key, "1") not in before}


def test_a_prediction_says_what_the_model_forecasts(
    log: MemoryLog, stream: Iterator[Record]
) -> None:
    append(log, stream, 9_000)
    began = time.time_ns()
    run(log, Given(v1=0))
    spec = bundle(0).specification
    assert spec.symbols == ("BTC-USD",)
    levels = dict(zip(("BTC-USD", "ETH-USD"), spec.spike_levels_bps, strict=True))
    seen = set()
    for message in read_all(log, PREDICTIONS):
        one = msgspec.json.decode(message.value, type=Prediction)
        assert one.forecasts is not None
        assert one.said_at is not None
        assert one.midprice is not None
        assert began <= one.said_at <= time.time_ns()
        assert 90.0 < one.midprice < 110.0
        assert list(one.forecasts) == ["60s", "300s", "900s"]
        for place, forecast in enumerate(one.forecasts.values()):
            quantiles = msgspec.structs.astuple(forecast.quantiles_bps)
            assert list(quantiles) == sorted(quantiles)
            assert forecast.volatility_bps > 0.0
            known = levels.get(one.symbol, spec.spike_levels_bps[-1])
            assert forecast.spike_level_bps == known[place]
        assert one.spike == (one.score >= one.threshold)
        seen.add(one.symbol)
    assert seen == set(market.SYMBOLS)


def test_a_last_prediction_of_before_forecasts_were_written_is_gone_on_from(
    log: MemoryLog, stream: Iterator[Record]
) -> None:
    append(log, stream, 8_000)
    run(log, Given(v1=0))
    messages = read_all(log, PREDICTIONS)
    log.delete(PREDICTIONS)
    log.create(PREDICTIONS, 2)
    writer = log.writer()
    for message in messages:
        old = json.loads(message.value)
        for name in ("midprice", "forecasts", "said_at"):
            del old[name]
        writer.append(
            PREDICTIONS, old["symbol"].encode(), json.dumps(old).encode(), message.headers
        )
    append(log, stream, 2_000)
    run(log, Given(v1=0))
    assert check_predictions(log)["repeated"] == 0


@pytest.mark.slow
def test_a_topic_created_anew_is_scored_from_its_beginning(
    log: MemoryLog, stream: Iterator[Record]
) -> None:
    append(log, stream, 8_000)
    run(log, Given(v1=0))
    log.delete(TICKS)
    log.create(TICKS, 2)
    append(log, stream, 9_000)
    run(log, Given(v1=0))
    assert expected_scores(log).keys() <= {key[:2] for key in told(log)}


@pytest.mark.slow
@pytest.mark.parametrize("group", [None, "score"])
def test_a_topic_created_anew_amid_a_run_is_followed(
    log: MemoryLog, stream: Iterator[Record], group: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    append(log, stream, 8_000)
    scorer = Scorer(log, Given(v1=0), group=group)  # type: ignore[arg-type]
    polls = iter(range(10_000))

    def stopped() -> bool:
        number = next(polls)
        if number == 20:
            log.delete(TICKS)
        if number == 23:
            log.create(TICKS, 2)
            append(log, stream, 9_000)
        return number == 60

    scorer.run(follow=True, stopped=stopped)
    scorer.close()
    assert "restarting scorer" in caplog.text
    assert expected_scores(log).keys() <= {key[:2] for key in told(log)}


def test_two_members_and_a_rebalance_score_each_step(
    log: MemoryLog, stream: Iterator[Record]
) -> None:
    def scorer() -> Scorer:
        return Scorer(log, Given(v1=0))  # type: ignore[arg-type]

    append(log, stream, 8_000)
    one = scorer()
    while not one._reader.assignment():
        one.step()
    one.step()
    two = scorer()
    for _ in range(6):  # one continues in the middle of the replay, the other joins
        two.step()
        one.step()
    assert len(one._partitions) == len(two._partitions) == 1
    append(log, stream, 2_000)
    one.close()
    two.step()
    assert len(two._partitions) == 2
    two.run(follow=False)
    two.close()
    check_predictions(log)


def test_what_does_not_parse_is_left_to_capture(log: MemoryLog, stream: Iterator[Record]) -> None:
    append(log, stream, 3_000)
    log.writer().append(TICKS, b"BTC-USD", b"not json")
    append(log, stream, 3_000)
    run(log, Given(v1=0))
    values = [json.loads(m.value) for m in read_all(log, PREDICTIONS)]
    assert max(v["time"] for v in values) > market.START_NS + 500 * SECOND


def test_what_is_not_scored_yet_is_shown_for_the_partitions_of_this_process(
    log: MemoryLog, stream: Iterator[Record]
) -> None:
    one = Scorer(log, Given(v1=0))  # type: ignore[arg-type]
    append(log, stream, 500)
    one.step()
    read = sum(one._reader.position(p) for p in (0, 1))
    append(log, stream, 300)
    one.measure_lag()
    assert lag("0") + lag("1") == 800 - read > 0

    two = Scorer(log, Given(v1=0))  # type: ignore[arg-type]
    two.step()
    one.step()
    one.measure_lag()
    (mine,) = one._reader.assignment()
    assert lag(str(mine)) >= 0
    assert metrics.registry.get_sample_value(LAG, {"partition": str(1 - mine)}) is None
    one.close()
    two.run(follow=False)
    two.measure_lag()
    assert lag("0") == lag("1") == 0
    two.close()


LAG = "volatility_score_lag_offsets"


def lag(partition: str) -> float:
    found = metrics.registry.get_sample_value(LAG, {"partition": partition})
    assert found is not None
    return found


def test_errors_say_what_to_do(log: MemoryLog) -> None:
    with pytest.raises(LogError, match="volatility ingest"):
        Scorer(MemoryLog(), Given(v1=0))  # type: ignore[arg-type]
    log.create(PREDICTIONS, 3)
    with pytest.raises(LogError, match="add partitions to ticks"):
        Scorer(log, Given(v1=0))  # type: ignore[arg-type]


def halve(log: MemoryLog) -> None:
    """Lose the newest records, as a broker does that did not sync its disk."""
    for kept in log._topics[TICKS].records:
        del kept[len(kept) // 2 :]


@pytest.mark.slow
@pytest.mark.parametrize("regrown", [0, 12_000])
def test_ticks_that_were_scored_and_lost_stop_the_scorer(
    log: MemoryLog, stream: Iterator[Record], regrown: int
) -> None:
    append(log, stream, 12_000)
    run(log, Given(v1=0))
    halve(log)
    append(log, stream, regrown)
    what = "has another record" if regrown else "ends at offset"
    with pytest.raises(LogError, match=rf"scored through .* {what} .* section LogRewritten"):
        Scorer(log, Given(v1=0), group=None)  # type: ignore[arg-type]
    polls = counting()
    member = Scorer(log, Given(v1=0))  # type: ignore[arg-type]
    with pytest.raises(LogError, match=rf"scored through .* {what} .* section LogRewritten"):
        member.run(follow=True, stopped=lambda: next(polls) == 20)
    member.close()


def test_ticks_that_are_lost_while_it_runs_stop_the_scorer(
    log: MemoryLog, stream: Iterator[Record]
) -> None:
    append(log, stream, 12_000)
    polls = counting()

    def stopped() -> bool:
        number = next(polls)
        if number == 20:
            halve(log)
        return number == 40

    scorer = Scorer(log, Given(v1=0), group=None)  # type: ignore[arg-type]
    with pytest.raises(LogError, match=r"scored through .* ends at offset .* LogRewritten"):
        scorer.run(follow=True, stopped=stopped)
    scorer.close()


def scored(log: MemoryLog) -> dict[tuple[str, int], float]:
    ones = [json.loads(message.value) for message in read_all(log, PREDICTIONS)]
    return {(one["symbol"], one["time"]): one["score"] for one in ones}


@pytest.mark.slow
@pytest.mark.parametrize("deleted", [1, 700])
def test_windows_that_the_log_no_longer_fills_hold_predictions_back(
    log: MemoryLog, deleted: int, caplog: pytest.LogCaptureFixture
) -> None:
    append(log, market.records(0, step_ns=SECOND // 5), 15_000)
    run(log, Given(v1=0))
    whole = scored(log)
    short = ShortLog()
    short.create(TICKS, 2)
    append(short, market.records(0, step_ns=SECOND // 5), 15_000)
    short.kept = dict.fromkeys(short.partitions(TICKS), deleted)
    run(short, Given(v1=0))
    found, memory = scored(short), Features().memory_seconds * SECOND
    assert 0 < len(found) < len(whole)
    assert found == {key: whole[key] for key in found}, "the same as with all of the log"
    begin = min(time for _, time in whole) - 300 * SECOND
    assert min(time for _, time in found) >= begin + memory
    assert any("holding predictions for" in record.message for record in caplog.records)
    assert metrics.held_predictions._value.get() > 0


def test_a_log_from_its_beginning_holds_nothing_back(log: MemoryLog) -> None:
    append(log, market.records(0, step_ns=SECOND // 5), 6_000)
    before = metrics.held_predictions._value.get()
    assert run(log, Given(v1=0)) > 0
    assert metrics.held_predictions._value.get() == before
