"""Track which of the requested products arrive, under which name, and which never do.

A venue may have one order book for several quote currencies, as Coinbase has for USD and USDC:
whoever subscribes to ``BTC-USDC`` may receive the ticks of ``BTC-USD``. A product is recorded under
the name that its messages carry, so the same ticks have one name, however they were requested.

An exchange may refuse a whole subscription because of one product, or leave that product out of
its answer. The others continue without it.

>>> products = Products(["BTC-USDC", "ETH-USD"], frozenset({"USD", "USDC"}))
>>> products.accept("BTC-USD"), products.accept("DOGE-USD")
(True, False)
>>> products.names
('BTC-USD', 'ETH-USD')
"""

from __future__ import annotations

import logging
import re
from collections.abc import Container, Sequence

from volatility.streaming.sources.events import SourceError

logger = logging.getLogger(__name__)

_PRODUCT = re.compile(r"[A-Z0-9]+(?:[-_.][A-Z0-9]+)+")


class Products:
    """Decide, for each connection, what to request and what to do without.

    Parameters
    ----------
    requested : sequence of str
        Symbols as the user named them.
    one_book : frozenset of str
        Quote currencies that share an order book.
    refuses_one : bool
        Whether a refusal concerns the product that it names, and not the whole request.
    example : sequence of str
        Symbols that the venue lists, for the error.

    Attributes
    ----------
    missing : set of str
        Requested symbols that the exchange does not deliver under any name.
    apart : bool
        Whether each symbol has its own request, because a shared one was refused.
    """

    def __init__(
        self,
        requested: Sequence[str],
        one_book: frozenset[str] = frozenset(),
        refuses_one: bool = False,
        example: Sequence[str] = ("BTC-USD", "ETH-USD"),
    ) -> None:
        self._one_book, self._refuses_one, self._example = one_book, refuses_one, example
        self.requested = tuple(dict.fromkeys(requested))
        self.missing: set[str] = set()
        self.apart = False
        self._aliases: dict[str, str] = {}  # requested symbol -> name of its messages
        self._refused: set[str] = set()
        self._ticked: set[str] = set()
        self._served = False
        self._covered: set[str] = set()
        self._answered: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names under which the requested symbols arrive, as far as known."""
        return tuple(dict.fromkeys(self.name_of(s) for s in self.requested))

    def name_of(self, symbol: str) -> str:
        """Return the name under which a requested symbol arrives, as far as known."""
        return self._aliases.get(symbol, symbol)

    @property
    def covered(self) -> tuple[str, ...]:
        """Return the names whose ticker is known to be subscribed on this connection."""
        return tuple(name for name in self.names if name in self._covered)

    @property
    def complete(self) -> bool:
        """Return whether every name is subscribed, apart from those given up."""
        given_up = self.missing | self._refused
        return all(name in self._covered or name in given_up for name in self.names)

    @property
    def requests(self) -> tuple[tuple[str, ...], ...]:
        """Return the symbols of each request of a new connection."""
        active = tuple(s for s in self.requested if s not in self._refused) or self.requested
        return tuple((symbol,) for symbol in active) if self.apart else (active,)

    def connected(self) -> None:
        """Begin a new connection; what the exchange refused earlier is requested once more."""
        if self._covered:
            self._refused.clear()
        self._covered, self._answered = set(), set()

    def answer(self, symbols: Sequence[str]) -> str | None:
        """Take an answer that lists what is subscribed; return why it is not acceptable, if so."""
        answered = set(symbols)
        ended = sorted(self._answered - answered)
        self._answered = answered
        for name in symbols:
            if name not in self.names:
                self._adopt(name, self._requested_as(name, stated=True))
        self._cover(answered)
        return f"the exchange ended the subscription of {', '.join(ended)}" if ended else None

    def accept(self, name: str) -> bool:
        """Take the name of a record; return whether it was requested under this or another name."""
        if name in self.requested:
            self._aliases.pop(name, None)
        elif name not in self.names:
            self._adopt(name, self._requested_as(name, stated=False))
        return name in self.names

    def ticked(self, name: str) -> None:
        """Take the name of a tick: its product is subscribed."""
        if self.accept(name):
            self._ticked.add(name)
            self._cover({name})

    def refuse(self, text: str) -> str | None:
        """Take an error sent before all was subscribed; return it if a new connection is needed.

        Raises
        ------
        SourceError
            When the exchange has refused every symbol by name, and never delivered one.
        """
        active = [s for s in self.requested if s not in self._refused]
        found = set(_PRODUCT.findall(text))
        named = [symbol for symbol in active if symbol in found]
        if not named and found & self._refused:
            return None  # it was given up already
        if named and (len(named) < len(active) or len(active) == 1):
            self._refused.update(named)
            if len(self._refused) == len(self.requested) and not self._served:
                raise SourceError(
                    f"the exchange refuses {', '.join(self.requested)} ({text}); "
                    f"use symbols that it lists, such as {','.join(self._example)}"
                )
            self._miss(named, f"the exchange refuses it: {text}")
            return None if self.apart or self._refuses_one else text
        if self.apart:
            return None  # this request failed, the others may succeed
        self.apart = True
        return text

    def settle(self, known: Container[str] = ()) -> None:
        """Do without what is not subscribed by now, and name it once.

        ``known`` has the names of which any tick has ever been seen.
        """
        for symbol in self.requested:
            twin = next(
                (n for n in self.covered if n in known and self._same_book(n, symbol)), None
            )
            if twin and symbol not in self._aliases and symbol not in known:
                self._adopt(twin, symbol)
        lacking = [name for name in self.names if name not in self._covered]
        self._miss(lacking, "the exchange does not subscribe it")
        self.apart &= bool(lacking)

    def _cover(self, names: set[str]) -> None:
        self._covered |= names.intersection(self.names)
        self._served |= bool(self._covered)
        for symbol in sorted(self.missing.intersection(self._covered)):
            self.missing.discard(symbol)
            logger.warning("%s arrives now", symbol)

    def _miss(self, symbols: Sequence[str], reason: str) -> None:
        for symbol in symbols:
            if symbol not in self.missing:
                self.missing.add(symbol)
                logger.error(
                    "no ticks of %s: %s; check its spelling, or remove it from --symbols",
                    symbol,
                    reason,
                )

    def _adopt(self, name: str, symbol: str | None) -> None:
        if symbol is not None:
            self._aliases[symbol] = name
            self.missing.discard(symbol)
            logger.warning(
                "%s arrives as %s and is recorded under that name; ask for %s", symbol, name, name
            )

    def _requested_as(self, name: str, *, stated: bool) -> str | None:
        """Return the symbol that a product with another name was requested as, or None."""
        own = self._ticked | self._refused | set(self._aliases)
        own |= self._answered if stated else set()
        left = [symbol for symbol in self.requested if symbol not in own]
        kin = sorted(
            (symbol for symbol in left if _base(symbol) == _base(name)),
            key=lambda symbol: not self._same_book(symbol, name),
        )
        if kin:
            return kin[0]
        return left[0] if stated and len(left) == 1 else None

    def _same_book(self, one: str, other: str) -> bool:
        quotes = {one.rpartition("-")[2], other.rpartition("-")[2]}
        return one != other and _base(one) == _base(other) and quotes <= self._one_book


def _base(name: str) -> str:
    return name.rpartition("-")[0]
