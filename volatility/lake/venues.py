"""Keep venues apart: note whose ticks a symbol of the lake contains, and under which names.

The note is ``symbols.json`` in the lake's folder. The first venue of a symbol has it as it is;
another venue's ticks become ``SYMBOL@VENUE``. A recording that does not name its venue joins the
symbol as it is.

>>> import tempfile
>>> venues = Venues(Path(tempfile.mkdtemp()))
>>> venues.resolve("btcusdt", "binance"), venues.resolve("BTC/USDT", "kraken")
('BTC-USDT', 'BTC-USDT@KRAKEN')
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from volatility.files import locked, make_folder, write_json
from volatility.lake.market import REAL, SIMULATED, market_of
from volatility.lake.merging import IMPORTED
from volatility.lake.parts import LakeError, parse_name
from volatility.records import COINBASE, at_venue, normalise, venue_name

FILE = "symbols.json"
VERSION = 1
MAX_NAMES = 16  # spellings that are kept of one symbol


class Known(msgspec.Struct, frozen=True):
    """Represent a symbol's venue, empty where no recording named it, and its original names."""

    venue: str = ""
    names: tuple[str, ...] = ()


class Note(msgspec.Struct, frozen=True):
    """Represent the content of the note."""

    symbols: dict[str, Known]
    version: int = VERSION


class Venues:
    """Decide the symbol of each name in the recordings that are being imported.

    Parameters
    ----------
    root : Path
        Folder of the lake.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._symbols = _read(root)
        self._changed = False
        self.apart: dict[str, str] = {}

    def resolve(self, name: str, venue: str) -> str:
        """Return the symbol under which the lake keeps the ticks of a venue's name.

        Raises
        ------
        TickError
            When the name cannot be a symbol.
        """
        named = normalise(name)
        venue = venue_name(venue) or named.venue
        symbol = named.symbol
        if "@" in name:  # of another lake, where it was kept apart already
            symbol = at_venue(symbol, named.venue)
        elif venue and not self._joins(symbol, venue):
            apart = at_venue(symbol, venue)
            owner = self._owner(symbol)
            self.apart[apart] = f"{apart} is kept apart from {symbol} of {owner or 'unknown venue'}"
            symbol = apart
        self._note(symbol, venue, name)
        return symbol

    def _joins(self, symbol: str, venue: str) -> bool:
        owner = self._owner(symbol)
        return owner is None or owner == venue or (owner == "" and venue == COINBASE)

    def _owner(self, symbol: str) -> str | None:
        """Return the venue of a symbol's ticks; None if the lake has none, "" if unknown."""
        if symbol in self._symbols:
            return self._symbols[symbol].venue
        folders = (self._root / f"symbol={symbol}", self._root / "trades" / f"symbol={symbol}")
        parts = [
            name for folder in folders for p in folder.glob("date=*/*") if (name := parse_name(p))
        ]
        if not parts:
            return None
        # What capture wrote comes from the live source.
        if all(topic.startswith(IMPORTED) for topic, *_ in parts):
            return ""
        market = market_of(self._root)
        return COINBASE if market in {None, REAL, SIMULATED} else venue_name(market or "")

    def _note(self, symbol: str, venue: str, name: str) -> None:
        known = self._symbols.get(symbol)
        if known is None:
            owner = self._owner(symbol)
            self._symbols[symbol] = Known(venue if owner is None else owner, (name,))
        elif name not in known.names and len(known.names) < MAX_NAMES:
            self._symbols[symbol] = Known(known.venue or venue, (*known.names, name))
        elif venue and not known.venue:
            self._symbols[symbol] = Known(venue, known.names)
        else:
            return
        self._changed = True

    def save(self) -> None:
        """Write the note, together with what another process has noted meanwhile."""
        if not self._changed:
            return
        make_folder(self._root)
        with locked(self._root):
            held = _read(self._root)
            write_json(self._root / FILE, Note({**self._symbols, **held, **self._symbols}))
        self._changed = False


def _read(root: Path) -> dict[str, Known]:
    path = root / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Note).symbols
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise LakeError(
            f"{path} cannot be read ({error}); restore it, or delete it: then venues of recordings "
            "imported before are not known"
        ) from error
