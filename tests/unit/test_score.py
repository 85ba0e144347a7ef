from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest

from streaming import metrics
from streaming import models as models_module
from streaming import score as module
from streaming.log import PREDICTIONS, TICKS, LogError, Message
from streaming.memory_log import MemoryLog
from streaming.models import Model, Models
from streaming.score import Scorer
from tests.chaos import market
from tests.chaos.checks import bundle, check_predictions, expected_scores, read_all
from tests.registries import make_registry, register_small
from volatility import registry
from volatility.settings import Features
from volatility.tick import Record, encode


class Given:
    """Give the models that a test puts there: version to seed, the champion first."""

    def __init__(self, **versions: int) -> None:
        self.put(**versions)

    def put(self, **versions: int) -> None:
        self.models = tuple(Model("m", v[1:], bundle(seed)) for v, seed in versions.items())

    def current(self) -> tuple[Model, ...]:
        return self.models


@pytest.fixture
def stream() -> Iterator[Record]:
    return market.records(0, step_ns=market.SECOND_NS // 5)


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
    scorer = Scorer(log, models, Features(), group=group)  # type: ignore[arg-type]
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


def test_every_warm_step_is_scored_once(log: MemoryLog, stream: Iterator[Record]) -> None:
    append(log, stream, 12_000)
    assert run(log, Given(v1=0)) > 3_000
    assert check_predictions(log) == {**check_predictions(log), "repeated": 0}


@pytest.mark.parametrize("group", [None, "score"])
def test_a_restart_skips_nothing_repeats_nothing_and_is_never_cold(
    log: MemoryLog, stream: Iterator[Record], group: str | None
) -> None:
    for count in (5_000, 3_000, 17, 1, 1, 4_000):
        append(log, stream, count)
        run(log, Given(v1=0), group)
    assert check_predictions(log)["repeated"] == 0


def test_a_process_that_ends_amid_its_writes_is_followed_without_a_seam(
    log: MemoryLog, stream: Iterator[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of several predictions may be cut between any two of them."""
    append(log, stream, 12_000)
    both = {"v1": 0, "v2": 1}
    for survived in (1_000, 1, 501, 250, 2, 3):
        scorer = Scorer(log, Given(**both), Features(), group=None)  # type: ignore[arg-type]
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


def test_whatever_the_size_of_a_poll_a_successor_has_all_that_it_needs(
    log: MemoryLog, stream: Iterator[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One poll may bring more of the market's time than the windows are long."""
    monkeypatch.setattr(module, "POLL_RECORDS", 50_000)
    sparse = (record for number, record in enumerate(stream) if number % 12 < 3)
    append(log, sparse, 8_000)
    scorer = Scorer(log, Given(v1=0), Features(), group=None)  # type: ignore[arg-type]
    inner, left = scorer._writer.append, iter(range(400))
    monkeypatch.setattr(
        scorer._writer, "append", lambda *a: next(left, None) is not None and inner(*a)
    )
    scorer.run(follow=False)
    scorer.close()
    run(log, Given(v1=0))
    check_predictions(log)


def test_a_successor_reads_no_further_back_than_the_memory(
    log: MemoryLog, stream: Iterator[Record]
) -> None:
    append(log, stream, 40_000)
    run(log, Given(v1=0))
    times = {(m.partition, m.offset): json.loads(m.value)["time"] for m in read_all(log, TICKS)}
    memory_ns = (Features().memory_seconds + 60) * market.SECOND_NS
    late = [entry for entry in resumes(log) if entry[1] > 12_000]
    assert late
    for message, closed, resume in late:
        span = times[message.partition, closed] - times[message.partition, resume]
        assert memory_ns - 120 * market.SECOND_NS < span < memory_ns
    _, closed, resume = resumes(log)[-1]
    assert resume > closed / 4


def test_a_silent_symbol_does_not_hold_the_resume_offset_back(log: MemoryLog) -> None:
    everyone, fewer = (
        market.records(0),
        market.records(1, ("BTC-USD", "ETH-USD"), market.START_NS + 400 * market.SECOND_NS),
    )
    append(log, everyone, 900)
    append(log, fewer, 60_000)
    run(log, Given(v1=0))
    for partition in (0, 1):
        mine = [entry for entry in resumes(log) if entry[0].partition == partition]
        if mine:
            assert mine[-1][2] > 900


def test_a_champion_swapped_live_scores_from_the_next_step(
    log: MemoryLog, stream: Iterator[Record]
) -> None:
    given = Given(v1=0)
    scorer = Scorer(log, given, Features(), group=None)  # type: ignore[arg-type]
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


def test_a_challenger_scores_each_step_in_the_shadow(
    log: MemoryLog, stream: Iterator[Record]
) -> None:
    append(log, stream, 8_000)
    run(log, Given(v1=0, v2=1))
    append(log, stream, 2_000)
    run(log, Given(v1=0, v2=1))
    assert check_predictions(log, {"1": 0, "2": 1})["repeated"] == 0


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


@pytest.mark.parametrize("group", [None, "score"])
def test_a_topic_created_anew_amid_a_run_is_followed(
    log: MemoryLog, stream: Iterator[Record], group: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    append(log, stream, 8_000)
    scorer = Scorer(log, Given(v1=0), Features(), group=group)  # type: ignore[arg-type]
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
    assert "score starts anew" in caplog.text
    assert expected_scores(log).keys() <= {key[:2] for key in told(log)}


def test_two_members_and_a_rebalance_score_each_step(
    log: MemoryLog, stream: Iterator[Record]
) -> None:
    def scorer() -> Scorer:
        return Scorer(log, Given(v1=0), Features())  # type: ignore[arg-type]

    append(log, stream, 8_000)
    one = scorer()
    while not one._reader.assignment():
        one.step()
    one.step()
    two = scorer()
    for _ in range(6):  # the one goes on amid the replay, the other joins
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
    assert max(v["time"] for v in values) > market.START_NS + 500 * market.SECOND_NS


def test_what_is_not_scored_yet_is_shown_for_the_partitions_of_this_process(
    log: MemoryLog, stream: Iterator[Record]
) -> None:
    one = Scorer(log, Given(v1=0), Features())  # type: ignore[arg-type]
    append(log, stream, 500)
    one.step()
    read = sum(one._reader.position(p) for p in (0, 1))
    append(log, stream, 300)
    one.measure_lag()
    assert lag("0") + lag("1") == 800 - read > 0

    two = Scorer(log, Given(v1=0), Features())  # type: ignore[arg-type]
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
        Scorer(MemoryLog(), Given(v1=0), Features())  # type: ignore[arg-type]
    log.create(PREDICTIONS, 3)
    with pytest.raises(LogError, match="delete the topic predictions"):
        Scorer(log, Given(v1=0), Features())  # type: ignore[arg-type]


def test_models_follow_the_aliases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    register_small(tmp_path, 0)
    models = Models()
    assert [(m.version, m.bundle.variant) for m in models.current()] == [("1", "baseline")]
    registry.promote("1", evidence={"test": True})
    register_small(tmp_path, 1)
    models._current = models._load()
    assert [(m.version, m.bundle.variant) for m in models.current()] == [("1", "ml"), ("2", "ml")]
    registry.promote("2", evidence={"test": True})
    models._current = models._load()
    assert [m.version for m in models.current()] == ["2"]


def test_models_stay_when_the_registry_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(10))

    def sleep(_: float) -> None:
        if next(calls) == 3:
            raise SystemExit

    broken = SimpleNamespace(versions_by_alias=_away)
    monkeypatch.setattr(models_module, "registry", broken)
    monkeypatch.setattr(models_module, "time", SimpleNamespace(sleep=sleep))
    models = Models.__new__(Models)
    models._variant, models._loaded, models._current = "ml", {}, Given(v1=0).current()
    with pytest.raises(SystemExit):
        models._watch()
    assert [m.version for m in models.current()] == ["1"]


def _away() -> str:
    raise registry.RegistryError("away")
