"""Run every scenario in full: ``python -m tests.chaos``; exit code 1 when one does not hold."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.brokers import RunningBroker, run_broker
from tests.chaos import (
    astray,
    clocks,
    disk,
    faults,
    foreign,
    growth,
    kills,
    outage,
    parity,
    reload,
    retention,
    storm,
    truncation,
    volumes,
)
from tests.conftest import RECORDINGS
from volatility.dev.broker import BrokerError
from volatility.lake.lake import LakeError
from volatility.streaming.log.interface import LogError

Scenario = Callable[[RunningBroker, Path], dict[str, Any]]
LIMIT_SECONDS = 45 * 60
KILLS = 100


def of(act: Callable[..., Any], *arguments: Any) -> Scenario:
    """Return a scenario that needs only the address of the broker."""
    return lambda broker, folder: act(broker.servers, folder, *arguments)


def apart(act: Callable[[Path], Any]) -> Scenario:
    """Return a scenario that starts a broker of its own."""
    return lambda _, folder: act(folder)


def scenarios(count: int) -> dict[str, Scenario]:
    """Name what is run, with the numbers that the README promises; ``count`` kills in the storm."""
    found: dict[str, Scenario] = {
        "exchange, 50 faults": of(faults.exchange_faults, 50, 5),
        "exchange (older feed), 50 faults": of(faults.exchange_faults, 50, 5, "exchange"),
        "kill capture, 200 instants": of(kills.kill_capture, 200, 5, 1),
        "kill ingest, 20 times": of(kills.kill_ingest, 20, 2),
        "kill score, 20 times": of(kills.kill_score, 20, 3),
        "kill broker, 20 times": partial(kills.kill_broker, kills=20, seed=4),
        "parity, simulated": of(parity.parity),
        "broker away for 60 s": partial(outage.outage, away_seconds=60.0),
        "broker loses the end of the log": truncation.truncation,
        "clock of a symbol jumps": of(clocks.jumps),
        "records on a wrong partition": of(astray.astray, 500),
        "other producers": of(foreign.foreign),
        "partitions added": of(growth.growth),
        "retention shorter than the memory": apart(retention.retention),
        "disk full": of(disk.full_disk),
        "files full": of(disk.full_files),
        "disk full: ledger": of(volumes.full_ledger),
        "disk full: predictions": of(volumes.full_predictions),
        "disk full: temporary files": of(volumes.full_temporary),
        "disk full: broker": apart(volumes.full_broker),
        "random kills": partial(storm.storm, count=count, seed=5),
    }
    found["alias moved 50 times"] = lambda _, folder: reload.reload_under_load(folder, 50, 5, 300.0)
    ticks = RECORDINGS / "ticks"
    if ticks.is_dir():
        found["parity, recorded"] = of(parity.parity, ticks)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the scenarios whose name contains a text; print one line each and a summary."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("name", nargs="?", default="", help="only scenarios with this in the name")
    parser.add_argument(
        "--kills", type=int, default=KILLS, help=f"kills of `random kills` [{KILLS}]"
    )
    options = parser.parse_args(arguments)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    logging.getLogger("volatility.streaming").setLevel(logging.CRITICAL)
    found = scenarios(options.kills)
    chosen = {name: run for name, run in found.items() if options.name in name}
    if not chosen:
        names = "\n  ".join(found)
        parser.error(f"no scenario has {options.name!r} in its name; there are\n  {names}")
    failed, began = [], time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as scratch,
        run_broker(Path(scratch) / "kafka") as broker,
    ):
        for name, run in chosen.items():
            folder, start = (
                Path(scratch) / name.translate(str.maketrans(" ", "-", ",:()")),
                time.monotonic(),
            )
            folder.mkdir()
            try:
                told = ", ".join(f"{key} {value}" for key, value in run(broker, folder).items())
                result = "held"
            except (AssertionError, BrokerError, LakeError, LogError, OSError) as error:
                failed.append(name)
                told, result = str(error)[:2_000], "MISSED"
                if not isinstance(error, AssertionError):
                    traceback.print_exc()
            took = time.monotonic() - start
            print(f"{result:6} {name:34} {took:6.1f} s  {told}", flush=True)
    seconds = time.monotonic() - began
    if len(chosen) == len(found) and seconds > LIMIT_SECONDS:
        failed.append(f"the limit of {LIMIT_SECONDS // 60} minutes")
    print(
        f"{len(chosen)} scenarios in {seconds:.0f} s: "
        + (f"missed: {failed}" if failed else "all held")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
