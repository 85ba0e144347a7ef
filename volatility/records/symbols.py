"""Read the symbols of any venue as symbols of this service, by one table.

A symbol is ``BASE-QUOTE``, as Coinbase writes it, with ``-PERP`` for a perpetual contract. Where
two venues would mix under one symbol, ``at_venue`` tells them apart: ``BTC-USDT@BINANCE``.

>>> normalise("btcusdt").symbol, normalise("XBT/USD").symbol, normalise("XXBTZEUR").symbol
('BTC-USDT', 'BTC-USD', 'BTC-EUR')
>>> normalise("BTCUSDT-PERP.BINANCE")
Named(symbol='BTC-USDT-PERP', venue='BINANCE')
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from volatility.records.tick import SYMBOL, TickError

SYMBOL_RULE = (
    "a symbol is BASE-QUOTE, such as BTC-USD; BTC/USD, btcusd, XBT/USD, tBTCUSD and BTC-USDT-SWAP "
    "are understood, too"
)
COINBASE = "COINBASE"

# The same asset under another name; Kraken also writes X before a coin and Z before a currency.
ASSETS = {"XBT": "BTC", "XDG": "DOGE", "BCHABC": "BCH"}
KRAKEN = {"XXBT": "BTC", "XXDG": "DOGE"}
KRAKEN |= {f"X{n}": n for n in ("ETH", "LTC", "XRP", "XLM", "ETC", "ZEC", "XMR", "REP", "MLN")}
KRAKEN |= {f"Z{n}": n for n in ("USD", "EUR", "GBP", "JPY", "CAD", "AUD")}

# What may end a symbol without a separator; among several that fit, the first one counts.
QUOTES = (
    "USDT", "USDC", "FDUSD", "PYUSD", "RLUSD", "USDP", "USDE", "BUSD", "USD1", "USD", "EURC",
    "EURT", "EURI", "EUR", "GBP", "JPY", "KRW", "TRY", "BRL", "AUD", "CAD", "CHF", "SGD", "HKD",
    "MXN", "ARS", "COP", "PLN", "CZK", "RON", "UAH", "RUB", "ZAR", "NGN", "INR", "IDR", "THB",
    "VND", "PHP", "AED", "DAI", "BTC", "XBT", "ETH", "BNB", "SOL",
)  # fmt: skip
# TUSD as a quote is confused with a base in T (BATUSD, DOTUSD), so it needs a known base.
RARE_QUOTES = ("TUSD", "TRX", "XRP", "DOGE", "UST")
SHORT = ("USDT", "USDC")  # the quotes of bases of one letter, such as TUSDT
BASES = frozenset((
    "BTC", "XBT", "ETH", "BNB", "SOL", "XRP", "ADA", "DOGE", "LTC", "BCH", "DOT", "LINK",
    "AVAX", "MATIC", "POL", "TRX", "XLM", "ETC", "UNI", "ATOM", "FIL", "NEAR", "APT", "ARB",
    "OP", "AAVE", "SUI", "TON", "SHIB", "PEPE",
))  # fmt: skip

# What marks a perpetual contract: a suffix after the pair, in any of these spellings.
PERPETUAL = frozenset({"PERP", "SWAP", "PERPETUAL"})
_FUTURES = re.compile(r"(?:PI|PF|FI|FF)_([A-Z0-9]+)")  # Kraken Futures
_LINEAR = re.compile(r"([A-Z0-9]+)/([A-Z0-9]+):[A-Z0-9]+")  # ccxt: BTC/USDT:USDT
_SEPARATED = re.compile(r"([A-Z0-9]+)[-/_: ]([A-Z0-9]+)(?:[-/_ ]([A-Z0-9]+))?")
_PLAIN = re.compile(r"[A-Z0-9]+")
_AT = re.compile(r"(.+)[.@]([A-Z][A-Z0-9_-]*)")
_BITFINEX = re.compile(r"t([A-Z0-9]{6,})")

VENUES = {
    "GDAX": COINBASE,
    "COINBASE-PRO": COINBASE,
    "COINBASEPRO": COINBASE,
    "COINBASE-EXCHANGE": COINBASE,
    "COINBASE-ADVANCED": COINBASE,
    "COINBASE-ADVANCED-TRADE": COINBASE,
    "CBSE": COINBASE,
    "OKEX": "OKX",
    "HUOBI": "HTX",
    "XBTMEX": "BITMEX",
    "BINANCE-SPOT": "BINANCE",
    "BINANCE-UM": "BINANCE-FUTURES",
    "BINANCE-USDM": "BINANCE-FUTURES",
}


class Named(msgspec.Struct, frozen=True):
    """Represent the symbol that a name stands for, and the venue where the name has it.

    >>> Named("BTC-USD", "")
    Named(symbol='BTC-USD', venue='')
    """

    symbol: str
    venue: str = ""


@lru_cache(maxsize=4096)
def normalise(name: str) -> Named:
    """Return the symbol that a venue's name stands for.

    A name that is a symbol already, and not another venue's spelling, stays as it is.

    Raises
    ------
    TickError
        When the name cannot become a symbol; the message quotes it.
    """
    text = name.strip()
    bitfinex = _BITFINEX.fullmatch(text)
    text = (bitfinex[1] if bitfinex else text).upper()
    found = _named(text)
    if not SYMBOL.fullmatch(found.symbol):
        raise TickError(f"symbol {name[:40]!r} is not understood: {SYMBOL_RULE}")
    return found


def venue_name(text: str) -> str:
    """Return the one spelling of a venue's name.

    >>> venue_name("coinbase pro"), venue_name("binance-futures"), venue_name("")
    ('COINBASE', 'BINANCE-FUTURES', '')
    """
    name = re.sub(r"[^A-Z0-9.-]+", "-", text.strip().upper()).strip("-.")
    return VENUES.get(name, name)


def at_venue(symbol: str, venue: str) -> str:
    """Return the symbol that keeps one venue's ticks apart from another's.

    >>> at_venue("BTC-USDT", "binance")
    'BTC-USDT@BINANCE'

    Raises
    ------
    TickError
        When the two are too long to be one symbol.
    """
    joined = f"{symbol}@{venue_name(venue)}"
    if not SYMBOL.fullmatch(joined):
        raise TickError(f"symbol {joined[:60]!r} is longer than 32 characters")
    return joined


def _named(text: str) -> Named:
    if futures := _FUTURES.fullmatch(text):
        return Named(f"{_pair(futures[1])}-PERP")
    if linear := _LINEAR.fullmatch(text):
        return Named(f"{_asset(linear[1])}-{_asset(linear[2])}-PERP")
    if parts := _SEPARATED.fullmatch(text):
        return Named(_of_parts(parts[1], parts[2], parts[3]))
    if _PLAIN.fullmatch(text):
        return Named(_pair(text))
    if at := _AT.fullmatch(text):
        pair, venue = _SEPARATED.fullmatch(at[1]), venue_name(at[2])
        if _PLAIN.fullmatch(at[1]):
            return Named(_pair(at[1]), venue)
        # BTC-USD.VENUE is a symbol as it stands, and lakes contain such symbols.
        if pair is not None and ("@" in text or pair[2] in PERPETUAL):
            return Named(_of_parts(pair[1], pair[2], pair[3]), venue)
    return Named(text)


def _of_parts(first: str, second: str, third: str | None) -> str:
    if second in PERPETUAL and third in {None, "INTX"}:  # BTCUSDT_PERP, BTC-PERPETUAL
        if third:  # Coinbase's BTC-PERP-INTX is a product's name
            return f"{first}-{second}-{third}"
        pair = _pair(first)
        return f"{pair}-PERP" if "-" in pair else f"{_asset(first)}-USD-PERP"
    pair = f"{_asset(first)}-{_asset(second)}"
    if third is None:
        return pair
    return f"{pair}-{'PERP' if third in PERPETUAL else third}"


def _pair(text: str) -> str:
    """Split a name without a separator; one whose quote is unknown stays whole.

    >>> _pair("BATUSD"), _pair("BTCTUSD"), _pair("XETHZEUR"), _pair("SPX")
    ('BAT-USD', 'BTC-TUSD', 'ETH-EUR', 'SPX')
    """
    for length in (4, 3):
        if text[:-length] in KRAKEN and text[-length:] in KRAKEN | dict.fromkeys(QUOTES):
            return f"{KRAKEN[text[:-length]]}-{_asset(text[-length:])}"
    for quote in RARE_QUOTES:
        if text.endswith(quote) and text[: -len(quote)] in BASES:
            return f"{_asset(text[: -len(quote)])}-{_asset(quote)}"
    for quote in QUOTES:
        if text.endswith(quote) and len(text) - len(quote) >= (1 if quote in SHORT else 2):
            return f"{_asset(text[: -len(quote)])}-{_asset(quote)}"
    return text


def _asset(name: str) -> str:
    return KRAKEN.get(name) or ASSETS.get(name, name)
