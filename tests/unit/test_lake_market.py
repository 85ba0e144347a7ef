"""A lake and a topic take one kind of market, real or simulated, and never both."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.chaos import market as sample
from tests.chaos.checks import read_all
from volatility.cli import main as cli
from volatility.cli import streaming as commands
from volatility.dev import standing_market
from volatility.lake import (
    REAL,
    SIMULATED,
    Lake,
    LakeError,
    Market,
    check_market,
    claim_market,
    market_of,
)
from volatility.streaming import VENUES, ingest
from volatility.streaming.log.interface import TICKS, LogError
from volatility.streaming.log.memory_log import MemoryLog
from volatility.streaming.sources.events import Arrived, Event

OTHER: dict[Market, Market] = {REAL: SIMULATED, SIMULATED: REAL}
BOTH = pytest.mark.parametrize("market", OTHER)


def part(root: Path, topic: str) -> None:
    """Add a part by its name; nothing here reads its content."""
    path = root / "symbol=BTC-USD" / "date=2026-04-04" / f"part-{topic}-0-0000000000000000.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


async def records(count: int) -> AsyncIterator[list[Event]]:
    yield [Arrived(record) for record in islice(sample.records(0), count)]


def run(log: MemoryLog, root: Path, market: Market | None, count: int = 20) -> int:
    return ingest.run(log, records(count), Lake(root), partitions=3, market=market)


def volatility(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.main, arguments)
    return result.exit_code, result.output


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    """Return the log of the commands, which run in an empty folder."""
    log = MemoryLog()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "_start", lambda _port: log)
    monkeypatch.setattr(commands, "stopping", lambda: lambda: False)
    return log


@BOTH
def test_a_lake_takes_the_kind_that_came_first(tmp_path: Path, market: Market) -> None:
    root = tmp_path / "data" / "ticks"
    assert market_of(root) is None
    claim_market(root, market)
    claim_market(root, market)
    check_market(root, market)
    assert market_of(root) == market
    for refuse in (check_market, claim_market):
        with pytest.raises(LakeError, match=f"holds a {market} market") as caught:
            refuse(root, OTHER[market])
        assert "docs/runbook.md" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert market_of(root) == market


@pytest.mark.parametrize(
    ("topic", "market"),
    [
        ("simulate.BTC-USD.2026-01-05.24h.7", SIMULATED),
        ("import.0123456789ab", REAL),
        ("ticks.AbCdEfGh", None),
    ],
)
def test_a_lake_of_an_earlier_release_is_judged_by_its_parts(
    tmp_path: Path, topic: str, market: Market | None
) -> None:
    part(tmp_path, topic)
    assert market_of(tmp_path) == market
    for kind in OTHER if market is None else [market]:
        check_market(tmp_path, kind)
    claim_market(tmp_path, market or SIMULATED)


def test_a_lake_with_the_standing_market_of_an_earlier_release_is_simulated(tmp_path: Path) -> None:
    market = standing_market.standing(tmp_path, 10**18)
    (tmp_path / "market.json").unlink()
    with pytest.raises(LakeError, match="holds a simulated market"):
        claim_market(tmp_path, REAL)
    assert standing_market.standing(tmp_path, 2 * 10**18) == market


def test_the_standing_market_leaves_a_real_lake_alone(tmp_path: Path) -> None:
    claim_market(tmp_path, REAL)
    with pytest.raises(LakeError, match="holds a real market"):
        standing_market.standing(tmp_path, 10**18)
    assert not (tmp_path / standing_market.FILE).exists()


def test_who_knows_better_may_write_the_note(tmp_path: Path) -> None:
    part(tmp_path, "simulate.X")
    (tmp_path / "market.json").write_text('{"market": "real"}')
    claim_market(tmp_path, REAL)


@pytest.mark.parametrize("content", ["", '{"market": "an imaginary one"}'])
def test_a_damaged_note_is_an_error_that_says_what_to_write(tmp_path: Path, content: str) -> None:
    (tmp_path / "market.json").write_text(content)
    with pytest.raises(LakeError, match=r"write .*real.* or the name of a venue"):
        claim_market(tmp_path, REAL)


def test_a_lake_that_cannot_be_written_is_an_error_of_the_lake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LakeError, match="Not a directory"):
        claim_market(tmp_path / "file", REAL)


def test_of_two_that_start_at_once_one_is_refused(tmp_path: Path) -> None:
    for turn in range(20):
        root, refused = tmp_path / str(turn), list[str]()
        start = threading.Barrier(2)

        def claim(market: Market, root: Path = root, refused: list[str] = refused) -> None:
            start.wait()  # noqa: B023  joined below
            try:
                claim_market(root, market)
            except LakeError:
                refused.append(market)

        both = [threading.Thread(target=claim, args=(market,)) for market in OTHER]
        for one in both:
            one.start()
        for one in both:
            one.join()
        held = market_of(root)
        assert held is not None
        assert refused == [OTHER[held]]
        assert [path.name for path in root.iterdir()] == ["market.json"]


@BOTH
def test_a_topic_takes_one_kind_whatever_the_lakes(tmp_path: Path, market: Market) -> None:
    log = MemoryLog()
    run(log, tmp_path / "one", market, count=4_000)
    before = read_all(log, TICKS)
    with pytest.raises(LogError, match=f"topic ticks holds a {market} market"):
        run(log, tmp_path / "two", OTHER[market])
    assert read_all(log, TICKS) == before
    assert market_of(tmp_path / "two") is None, "it may yet be used for another topic"
    run(log, tmp_path / "two", market)


@BOTH
def test_a_lake_takes_one_kind_whatever_the_topics(tmp_path: Path, market: Market) -> None:
    run(MemoryLog(), tmp_path, market)
    log = MemoryLog()
    with pytest.raises(LakeError, match=f"holds a {market} market"):
        run(log, tmp_path, OTHER[market])
    assert log.partitions(TICKS) == ()


@BOTH
def test_a_lake_claimed_while_ingest_starts_takes_no_record(tmp_path: Path, market: Market) -> None:
    log = MemoryLog()

    async def late() -> AsyncIterator[list[Event]]:
        claim_market(tmp_path, OTHER[market])
        async for batch in records(20):
            yield batch

    with pytest.raises(LakeError, match=f"holds a {OTHER[market]} market"):
        ingest.run(log, late(), Lake(tmp_path), partitions=3, market=market)
    assert read_all(log, TICKS) == []


@pytest.mark.parametrize("count", [1, 30_000])
def test_the_end_of_a_topic_tells_its_kind(tmp_path: Path, count: int) -> None:
    log = MemoryLog()
    run(log, tmp_path, REAL, count=count)
    with pytest.raises(LogError, match="holds a real market"):
        ingest.check_topic(log, SIMULATED)
    marked = [message for message in read_all(log, TICKS) if message.headers]
    assert len(marked) == -(-count // ingest.MARK_EVERY), "a header costs time"
    assert ingest.MARK_EVERY <= ingest.LAST_RECORDS


def test_a_topic_of_an_earlier_release_is_accepted(tmp_path: Path) -> None:
    log = MemoryLog()
    run(log, tmp_path / "old", None)
    assert run(log, tmp_path / "new", SIMULATED) == 20
    with pytest.raises(LogError, match="holds a simulated market"):
        run(log, tmp_path / "other", REAL)


def test_the_command_refuses_a_live_market_after_a_simulated_one(log: MemoryLog) -> None:
    code, said = volatility("ingest", "--source", "simulate", "--hours", "0.01", "--speed", "max")
    assert (code, said.endswith(" records\n")) == (0, True)
    count = log.end_offsets(TICKS)
    code, said = volatility("ingest", "--source", "coinbase")
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("Error: the lake data/ticks holds a simulated market")
    assert log.end_offsets(TICKS) == count


@pytest.mark.parametrize(
    ("held", "taken"),
    [("real", {"real", "coinbase"}), ("simulated", {"simulated"})]
    + [(venue, {venue, "real"}) for venue in ("coinbase", "binance", "kraken")],
)
def test_a_lake_and_a_topic_take_one_venue_and_recordings(
    tmp_path: Path, held: Market, taken: set[Market]
) -> None:
    log = MemoryLog()
    run(log, tmp_path, held)
    for market in ("real", "simulated", "coinbase", "binance", "kraken"):
        if market in taken:
            check_market(tmp_path, market)
            ingest.check_topic(log, market)
            continue
        with pytest.raises(LakeError, match=f"holds a {held} market, and a {market} one"):
            claim_market(tmp_path, market)
        with pytest.raises(LogError, match=f"holds a {held} market"):
            ingest.check_topic(log, market)


def test_the_command_refuses_another_venue(log: MemoryLog) -> None:
    claim_market(Path("data/ticks"), "kraken")
    code, said = volatility("ingest", "--source", "binance")
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("Error: the lake data/ticks holds a kraken market")
    assert log.partitions(TICKS) == ()


def test_the_command_refuses_a_simulated_market_after_a_live_one(log: MemoryLog) -> None:
    claim_market(Path("data/ticks"), REAL)
    code, said = volatility("ingest", "--source", "simulate", "--hours", "0.01", "--speed", "max")
    assert code == 1
    assert said.startswith("Error: the lake data/ticks holds a real market")
    assert log.partitions(TICKS) == ()


def test_a_replayed_lake_passes_its_kind_on(log: MemoryLog) -> None:
    code, said = volatility("simulate", "--lake", "past", "--hours", "0.1")
    assert (code, market_of(Path("past"))) == (0, SIMULATED), said
    replay = ("ingest", "--source", "replay", "--path", "past", "--speed", "max")
    assert volatility(*replay, "--symbols", "no such symbol")[0] == 1
    assert market_of(Path("data/ticks")) is None, "a source that fails claims nothing"
    code, said = volatility(*replay, "--symbols", "BTC-USD")
    assert (code, market_of(Path("data/ticks"))) == (0, SIMULATED), said


def test_recordings_are_taken_for_real(tmp_path: Path) -> None:
    (tmp_path / "recording.parquet").touch()
    for path in (tmp_path, tmp_path / "recording.parquet"):
        assert ingest.market_from("replay", path) == REAL
    for venue in VENUES:
        assert ingest.market_from(venue) == venue
    assert ingest.market_from("simulate") == SIMULATED


def test_neither_simulate_nor_import_mixes_a_lake(log: MemoryLog, tmp_path: Path) -> None:
    claim_market(tmp_path / "real", REAL)
    code, said = volatility("simulate", "--lake", "real", "--hours", "0.1")
    assert (code, "holds a real market" in said) == (1, True)
    code, said = volatility("simulate", "--lake", "other", "--hours", "0.1")
    assert code == 0
    (tmp_path / "ticks.json").write_text("{}")
    code, said = volatility("import", "ticks.json", "--lake", "other")
    assert (code, "holds a simulated market" in said) == (1, True)
