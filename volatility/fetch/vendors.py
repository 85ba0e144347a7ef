"""Say where each vendor keeps which day of a symbol, and which days are free.

Tardis has the quotes of every venue, without a key on the first day of each month. Binance has the
trades of its spot market, and, for a time, the best quotes of its perpetual contracts, each file
with a checksum. Both documented: https://docs.tardis.dev/downloadable-csv-files and
https://github.com/binance/binance-public-data.

>>> BINANCE.file("BTC-USDT", "", date(2026, 1, 5)).url
'https://data.binance.vision/data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2026-01-05.zip'
>>> TARDIS.file("BTC-USD", "coinbase", date(2026, 1, 1)).url
'https://datasets.tardis.dev/v1/coinbase/quotes/2026/01/01/BTC-USD.csv.gz'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from urllib.parse import quote

PERPETUAL = "-PERP"
# Venues whose names of symbols have no separator.
JOINED = frozenset({"binance", "binance-us", "bybit-spot", "bitmex", "binance-futures", "bybit"})


@dataclass(frozen=True)
class DayFile:
    """Represent the file of one day: its address, its name and whether it has a checksum beside."""

    url: str
    name: str
    has_checksum: bool = False


@dataclass(frozen=True)
class Vendor:
    """Describe a vendor of files.

    Parameters
    ----------
    url : str
        Its public address; what ``--url`` replaces.
    market : callable
        Takes symbol and exchange, and returns the market that the lake then holds.
    locate : callable
        Takes symbol, exchange and day, and returns path, file name and whether it has a checksum.
    is_free : callable
        Whether a day needs no key.
    """

    url: str
    market: Callable[[str, str], str]
    locate: Callable[[str, str, date], tuple[str, str, bool]]
    is_free: Callable[[date], bool] = lambda _day: True

    def file(self, symbol: str, exchange: str, day: date, url: str | None = None) -> DayFile:
        """Return the file of a day."""
        path, name, has_checksum = self.locate(symbol, exchange, day)
        return DayFile(f"{(url or self.url).rstrip('/')}/{path}", name, has_checksum)


def _tardis(symbol: str, exchange: str, day: date) -> tuple[str, str, bool]:
    name = symbol.upper().replace("/", "-").replace(":", "-")
    if exchange in JOINED:
        name = name.removesuffix(PERPETUAL).replace("-", "")
    elif exchange == "kraken" and name.startswith("BTC-"):
        name = f"XBT-{name.removeprefix('BTC-')}"
    file = f"{exchange}_quotes_{day:%Y-%m-%d}_{name}.csv.gz"
    return f"v1/{exchange}/quotes/{day:%Y/%m/%d}/{quote(name, safe='')}.csv.gz", file, False


def _binance(symbol: str, _exchange: str, day: date) -> tuple[str, str, bool]:
    perpetual = symbol.endswith(PERPETUAL)
    name = symbol.removesuffix(PERPETUAL).replace("-", "").replace("/", "").upper()
    market, kind = ("futures/um", "bookTicker") if perpetual else ("spot", "trades")
    file = f"{name}-{kind}-{day:%Y-%m-%d}.zip"
    return f"data/{market}/daily/{kind}/{name}/{file}", file, True


TARDIS = Vendor(
    "https://datasets.tardis.dev",
    lambda _symbol, exchange: exchange,
    _tardis,
    lambda day: day.day == 1,
)
BINANCE = Vendor(
    "https://data.binance.vision",
    lambda symbol, _exchange: "binance-futures" if symbol.endswith(PERPETUAL) else "binance",
    _binance,
)
