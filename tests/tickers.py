"""Tickers as Coinbase wrote them, recorded or made up in the same shape, for the stand-in."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zstandard

from volatility.units import SECOND

Contents = dict[str, list[dict[str, Any]]]  # of tickers, by product


def stamp(time: int) -> str:
    """Write nanoseconds as Coinbase does."""
    seconds, rest = divmod(time, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def nanoseconds(text: str) -> int:
    moment = datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    return int(moment.timestamp()) * SECOND + int(text[20:-1])


def recorded(folder: Path, protocol: str = "advanced-trade") -> Contents:
    """Read the recorded tickers of two products; ``folder`` is the recordings' ``wire``."""
    contents: Contents = {}
    if protocol == "exchange":
        text = gzip.decompress((folder / "exchange-2021.txt.gz").read_bytes()).decode()
        for line in re.findall(r'\{"type":"ticker".*', text):
            entry = json.loads(line)
            contents.setdefault(entry["product_id"], []).append(entry)
        return {symbol: contents[symbol] for symbol in ("SKL-USD", "DASH-BTC")}
    text = gzip.decompress((folder / "advanced-trade-ticker.ndjson.gz").read_bytes()).decode()
    messages = [json.loads(line) for line in text.splitlines()]
    with (folder / "advanced-trade-all-channels.jsonl.zst").open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        lines = [json.loads(line) for line in io.TextIOWrapper(reader)]
    messages += [json.loads(line["data"]) for line in lines if line["t"] == "recv"]
    for message in messages:
        if message["channel"] == "ticker":
            for event in message["events"]:
                for entry in event["tickers"]:
                    contents.setdefault(entry["product_id"], []).append(entry)
    return contents


def synthetic(protocol: str = "advanced-trade", count: int = 500, seed: int = 0) -> Contents:
    """Make tickers of two products in exactly the recorded shape."""
    generator = random.Random(seed)
    contents: Contents = {}
    for symbol, start in (("BTC-USD", 6_722_350), ("ETH-USD", 191_941)):
        entries, cents = contents.setdefault(symbol, []), start
        for _ in range(count):
            cents += generator.randint(-300, 300)
            bid, ask = f"{cents / 100:.2f}", f"{(cents + 1) / 100:.2f}"
            sizes = [f"{generator.random():.8f}" for _ in range(3)]
            price = generator.choice([bid, ask])
            day = {"price": price, "best_bid": bid, "best_ask": ask}
            if protocol == "exchange":
                more = {"open_24h": "1", "volume_24h": "2", "low_24h": "1", "high_24h": "2"}
                more |= {"volume_30d": "3", "side": "buy", "last_size": sizes[2]}
            else:
                more = {"volume_24_h": "2401.16", "low_24_h": "1", "high_24_h": "2"}
                more |= {"low_52_w": "1", "high_52_w": "2", "price_percent_chg_24_h": "0.5"}
                more |= {"best_bid_quantity": sizes[0], "best_ask_quantity": sizes[1]}
            entries.append({"type": "ticker", "product_id": symbol, **day, **more})
    return contents
