"""Repeat the study on days that anyone may fetch: ``python -m benchmarks.prediction.public``.

It fetches the quotes of the first day of some months from Tardis, which need no key (about 2 GB,
once), prints the results and writes ``reports/study-public.html``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

from benchmarks.prediction import page
from benchmarks.prediction.study import study
from volatility.features import FeatureFrame, build_features, read_features
from volatility.fetch import FetchError, Pace, Request, fetch
from volatility.lake import Lake
from volatility.settings import Settings

DAYS = (date(2025, 9, 1), date(2025, 10, 1), date(2025, 11, 1), date(2025, 12, 1))
VENUES = {
    "Coinbase BTC-USD": ("coinbase", "BTC-USD"),
    "Binance BTC-USDT": ("binance", "BTC-USDT"),
    "Kraken BTC-USD": ("kraken", "BTC-USD"),
    "BitMEX XBT-USD": ("bitmex", "XBTUSD"),
}
FOLDER = Path("data/public")
PAGE = Path("reports/study-public.html")


def fetch_all(folder: Path, url: str | None = None, pace: Pace | None = None) -> None:
    """Fetch the days of every venue into its own lake; those that are there stay."""
    for exchange, symbol in VENUES.values():
        for day in DAYS:
            fetch(Request("tardis", symbol, day, day, exchange, url), folder / exchange, pace=pace)


def read_all(folder: Path, settings: Settings) -> list[FeatureFrame]:
    """Build the feature rows of every venue, with one symbol per venue."""
    frames = []
    for name, (exchange, _) in VENUES.items():
        root = folder / exchange
        build_features(Lake(root), root / "features", settings.features)
        frames += [replace(frame, symbol=name) for frame in read_features(root / "features")]
    return frames


def main() -> None:
    """Fetch, study, print and write the page; without a network, one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--url", help="Address of a mirror of Tardis's files.")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    try:
        fetch_all(options.folder, options.url)
    except FetchError as error:
        sys.exit(f"study-public: {error}")
    settings = Settings()
    rows, venues = study(read_all(options.folder, settings), settings, options.jobs)
    page.write(rows, venues, PAGE)
    print("\n".join(row.text() for row in rows))


if __name__ == "__main__":
    main()
