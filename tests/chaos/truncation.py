"""Cut the end off the log, as a power cut does: capture and score stop, and say what to do."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

from tests.brokers import RunningBroker
from tests.chaos import kills, market
from tests.chaos.checks import check_lake, held_of
from tests.chaos.place import clear
from tests.chaos.processes import running
from tests.waiting import until
from volatility.lake.lake import Lake
from volatility.streaming.capture import capture_topic
from volatility.streaming.log.interface import PREDICTIONS, TICKS
from volatility.streaming.log.kafka_log import KafkaLog

ADVICE = "docs/runbook.md, section LogRewritten"


def truncation(broker: RunningBroker, folder: Path) -> dict[str, int]:
    """Cut the log under capture and score that run, and again before they start.

    Then do what the runbook says, and go on.
    """
    servers = broker.servers
    clear(servers)
    with closing(KafkaLog(servers)) as log:
        log.create(TICKS, market.PARTITIONS)
        source = f"{TICKS}.{log.generation(TICKS)}"
        with running(folder / "load.txt", kills.loading(servers, folder, 400)) as ticks:
            with (
                running(folder / "capture.txt", kills.capturing(servers, folder)) as captured,
                running(folder / "score.txt", kills.scoring(servers)) as scored,
            ):
                until(lambda: kills.total(log, PREDICTIONS) > 500, "predictions")
                broker.kill()
                whole = held_of(folder / "lake", source)
                lost = cut(broker)
                broker.start()
                told = [captured.fail(), scored.fail()]
            assert whole.items() <= held_of(folder / "lake", source).items(), "the lake lost some"
            reached = dict.fromkeys(log.partitions(TICKS), 0)
            for partition, offset in held_of(folder / "lake", source):
                reached[partition] = max(reached[partition], offset)
            until(
                lambda: all(log.end_offsets(TICKS)[p] > reached[p] + 1_000 for p in reached),
                "the log is longer than it was, and ingest goes on",
            )
            with (
                running(folder / "again.txt", kills.capturing(servers, folder)) as captured,
                running(folder / "score-again.txt", kills.scoring(servers)) as scored,
            ):
                told += [captured.fail(), scored.fail()]
            ticks.stop()
        for words in told:
            assert "the broker has lost records that it had acknowledged" in words, words
            assert re.search(r"offsets? \{?\d+", words), words
            assert ADVICE in words, words
            assert "Traceback" not in words, words
        entries = [gap for gap in Lake(folder / "lake").gaps() if gap.reason == "log rewritten"]
        assert entries, "the ledger does not say so"
        assert len(entries) == len({(gap.symbol, gap.detail["through"]) for gap in entries})
        capture_topic(log, TICKS, folder / "rescued")  # what the runbook says, from here on
        rescued = check_lake(log, folder / "rescued")
        before = held_of(folder / "lake", source)
        clear(servers, TICKS, PREDICTIONS)
        with running(folder / "new.txt", kills.loading(servers, folder, 400)) as ticks:
            until(lambda: kills.total(log) > 500, "ticks in the new topic")
            with (
                running(folder / "capture.txt", kills.capturing(servers, folder)) as captured,
                running(folder / "score.txt", kills.scoring(servers)) as scored,
            ):
                until(lambda: kills.total(log, PREDICTIONS) > 500, "predictions again")
                for child in (ticks, captured, scored):
                    child.stop()
        capture_topic(log, TICKS, folder / "lake")
        new = held_of(folder / "lake", f"{TICKS}.{log.generation(TICKS)}")
        records = check_lake(log, folder / "lake", rows=new)
        assert held_of(folder / "lake", source) == before, "the old rows have changed"
        return {
            "bytes cut": lost,
            "rescued": rescued,
            "records": records,
            **kills.finish_predictions(log),
        }


def cut(broker: RunningBroker) -> int:
    """Lose the last third of every partition of ticks on the disk; return the bytes."""
    lost = 0
    for file in broker.broker.data.glob(f"log/{TICKS}-[0-9]*/*.log"):
        size = file.stat().st_size
        with file.open("r+b") as log:
            log.truncate(size - size // 3)
        lost += size // 3
    assert lost, "there was nothing to lose"
    return lost
