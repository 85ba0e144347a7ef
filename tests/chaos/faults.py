"""Make the stand-in exchange fail at random: each message is in the lake once, or in a gap."""

from __future__ import annotations

import asyncio
import random
from contextlib import closing
from functools import partial
from pathlib import Path

from tests.chaos.checks import check_lake
from tests.chaos.place import clear
from tests.chaos.processes import Child, capture, command, running
from tests.exchange import Exchange
from tests.journal import check
from tests.live_sources import faults
from tests.tickers import synthetic
from tests.waiting import until_async
from volatility.lake.lake import Lake
from volatility.records.tick import Tick
from volatility.streaming.capture import capture_topic
from volatility.streaming.log.interface import TICKS
from volatility.streaming.log.kafka_log import KafkaLog

TICK_SECONDS = 0.005
FEED = "advanced-trade"


def exchange_faults(
    servers: str, folder: Path, count: int, kills: int, protocol: str = FEED, seed: int = 0
) -> dict[str, int]:
    """Go through faults of the exchange and ``kill -9`` of ingest, in a random order."""
    clear(servers)
    with closing(KafkaLog(servers)) as log:
        log.create(TICKS, 2)
        work = partial(capture, servers, str(folder / "lake"), 200, 0.5, None)
        with running(folder / "capture.txt", work) as captured:
            exchange = asyncio.run(_market(log, servers, folder, count, kills, protocol, seed))
            captured.stop()
        capture_topic(log, TICKS, folder / "lake")
        records = check_lake(log, folder / "lake")
    lake = Lake(folder / "lake")
    counts = check(exchange.journal, ticks(lake), lake.gaps(), exchange.ended_by_client)
    assert counts["arrived"] > 10 * count, "too little arrived to mean anything"
    assert counts["withheld"] > count, "too little was withheld to mean anything"
    assert len(exchange.sessions) > kills, "it has not reconnected"
    gaps = {"gaps": len(lake.gaps()), "connections": len(exchange.sessions)}
    return {"faults": count, "kills": kills, "records": records, **counts, **gaps}


def ticks(lake: Lake) -> list[Tick]:
    """Read all of a lake's ticks."""
    found = []
    for symbol in lake.symbols():
        for batch in lake.scan(symbol):
            for row in batch.to_pylist():
                if row["price"] is not None:
                    times = {name: row[name].value for name in ("time", "received")}
                    fields = {name: row[name] for name in Tick.__struct_fields__}
                    found.append(Tick(**fields | times))
    return found


async def _market(
    log: KafkaLog,
    servers: str,
    folder: Path,
    count: int,
    kills: int,
    protocol: str,
    seed: int,
) -> Exchange:
    chance = random.Random(seed)
    contents = synthetic(protocol)
    async with Exchange(contents, protocol, tick_seconds=TICK_SECONDS, seed=seed) as exchange:
        arguments: tuple[str, ...] = (
            "--source",
            "coinbase",
            "--protocol",
            protocol,
            "--url",
            exchange.url,
        )
        arguments += ("--symbols", ",".join(exchange.symbols), "--lake", str(folder / "lake"))
        work = partial(command, servers, "ingest", *arguments)

        async def start() -> Child:
            return await asyncio.to_thread(Child, folder / "ingest.txt", work)

        ingest = await start()
        try:
            # Of what came before the first record in the log nobody can know.
            await until_async(lambda: _logged(log) >= 4, "the first ticks in the log", 0.1)
            killed_before = set(chance.sample(range(count), kills))
            for number, fault in zip(range(count), faults(exchange, chance), strict=False):
                await _flowing(exchange, chance.randint(0, 8))
                if number in killed_before:
                    await asyncio.to_thread(ingest.kill)
                    await until_async(lambda: not exchange.live(), "the end of its connection")
                    ingest = await start()
                    await _flowing(exchange, chance.randint(0, 8))
                await exchange.do(fault)
            await _flowing(exchange, 10)
            await exchange.do(exchange.pause)
            paused = len(exchange.journal)
            last = next(entry for entry in reversed(exchange.journal) if entry.sent)
            lake = Lake(folder / "lake")
            await until_async(lambda: lake.span(last.symbol)[1] >= last.time, "the last tick", 0.3)
            await asyncio.to_thread(ingest.stop)
            # A silent market makes ingest reconnect. If it is stopped meanwhile, the snapshot that
            # it was about to get says nothing new, and no gap can follow.
            exchange.journal[paused:] = [e for e in exchange.journal[paused:] if e.sent]
        finally:
            if ingest.process.is_alive():
                await asyncio.to_thread(ingest.kill)
        return exchange


def _logged(log: KafkaLog) -> int:
    return min(log.end_offsets(TICKS).values())


async def _flowing(exchange: Exchange, count: int) -> None:
    """Wait until a live connection has been sent so many tickers of every symbol."""
    await until_async(exchange.live, "a connection")
    start = len(exchange.journal)

    def enough() -> bool:
        live = {session.number for session in exchange.live()}
        sent = [e.symbol for e in exchange.journal[start:] if e.sent and e.connection in live]
        return bool(live) and all(sent.count(symbol) >= count for symbol in exchange.symbols)

    await until_async(enough, "ticks")
