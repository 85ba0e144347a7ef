"""Find the symbol and the venue in a path, for files whose content has neither.

>>> symbol_in(Path("spot/BTCUSDT-aggTrades-2024-01-01.csv"))
Named(symbol='BTC-USDT', venue='')
>>> symbol_in(Path("ticks/pair=BTC%2FUSD/exchange=kraken/0.parquet"))
Named(symbol='BTC-USD', venue='KRAKEN')
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from volatility.records import BASES, QUOTES, Named, TickError, normalise, venue_name
from volatility.sources.recordings.names import NAMES

DEPTH = 5  # folders above the file that may name the symbol

_QUOTE = "|".join(sorted((*QUOTES, "TUSD"), key=len, reverse=True))
_PAIR = re.compile(
    rf"(?<![A-Z0-9])(?=([A-Z0-9]{{2,12}}?)([-_]?)({_QUOTE})((?:[-_](?:SWAP|PERP|PERPETUAL))?)"
    r"(?![A-Z0-9])(?:\.([A-Z]{3,})\b)?)"
)
_PERPETUAL = re.compile(r"(?<![A-Z0-9])([A-Z0-9]{2,10}-PERPETUAL)(?![A-Z0-9])")
_CHARTS = re.compile(r"\.?([a-z]{3,})([A-Z]{3})")  # Bitcoincharts: bitstampUSD.csv


def key(name: str) -> str:
    """Return a name as it is compared: single letters as they are, others without punctuation."""
    return name if len(name) == 1 else re.sub(r"[^a-z0-9]", "", name.lower())


def partitions(path: Path) -> dict[str, str]:
    """Return what folders named ``key=value`` say."""
    pairs = (part.partition("=") for part in path.parts[:-1])
    return {key(name): unquote(value) for name, equals, value in pairs if equals}


def symbol_in(path: Path) -> Named | None:
    """Return the symbol, and the venue if there is one, that a path names; None if it does not."""
    named = partitions(path)
    venue = next((venue_name(named[name]) for name in NAMES["venue"] if name in named), "")
    for name in NAMES["symbol"]:
        if name in named:
            try:
                found = normalise(named[name])
            except TickError:
                continue
            return Named(found.symbol, venue or found.venue)
    for part in reversed(path.parts[-DEPTH:]):
        found_here = _in_text(unquote(part))
        if found_here is not None:
            return Named(found_here.symbol, venue or found_here.venue)
    return None


def _in_text(text: str) -> Named | None:
    charts = _CHARTS.match(text)
    if charts and charts[2] in QUOTES and text[charts.end() : charts.end() + 1] in {"", "."}:
        return Named(f"BTC-{charts[2]}", venue_name(charts[1]))
    upper = text.upper()
    ranked: dict[Named, int] = {}
    for match in _PAIR.finditer(upper):
        base, separator, quote, perpetual, venue = match.groups()
        if base.isdigit():
            continue
        found = normalise(f"{base}{separator}{quote}{perpetual}")
        score = 2 * (base in BASES) + (quote not in BASES) + (separator != "_")
        found = Named(found.symbol, venue_name(venue or "") if (venue or "").isalpha() else "")
        found = Named(found.symbol, "" if found.venue in _ENDINGS else found.venue)
        ranked[found] = max(score, ranked.get(found, 0))
    if not ranked:
        perpetual_match = _PERPETUAL.search(upper)
        return normalise(perpetual_match[1]) if perpetual_match else None
    best = max(ranked.values())
    chosen = [found for found, score in ranked.items() if score == best]
    return chosen[0] if len(chosen) == 1 else None


_ENDINGS = frozenset(
    ("CSV", "PARQUET", "JSON", "JSONL", "NDJSON", "TXT", "LOG", "GZ", "ZST", "ARROW", "FEATHER",
     "IPC", "ZIP", "DAT", "TSV", "BZ", "XZ")
)  # fmt: skip
