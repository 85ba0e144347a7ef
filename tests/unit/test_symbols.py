from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volatility.records import SYMBOL, TickError, at_venue, normalise, venue_name


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("BTC-USD", "BTC-USD"),
        ("BTC-USD ", "BTC-USD"),
        ("BTC/USD", "BTC-USD"),
        ("btc_usd", "BTC-USD"),
        ("BTC:USD", "BTC-USD"),
        ("BTC USD", "BTC-USD"),
        ("btcusd", "BTC-USD"),
        ("btcusdt", "BTC-USDT"),
        ("BTCFDUSD", "BTC-FDUSD"),
        ("BATUSD", "BAT-USD"),
        ("DOTUSDT", "DOT-USDT"),
        ("ETHBTC", "ETH-BTC"),
        ("1000PEPEUSDT", "1000PEPE-USDT"),
        ("XBT/USD", "BTC-USD"),
        ("XBTUSD", "BTC-USD"),
        ("XXBTZUSD", "BTC-USD"),
        ("XETHXXBT", "ETH-BTC"),
        ("XDGUSD", "DOGE-USD"),
        ("tBTCUSD", "BTC-USD"),
        ("TUSDT", "T-USDT"),
        ("TAOUSDT", "TAO-USDT"),
        ("BTC-USD-PERP", "BTC-USD-PERP"),
        ("BTC-USDT-SWAP", "BTC-USDT-PERP"),
        ("BTCUSD_PERP", "BTC-USD-PERP"),
        ("BTC-PERPETUAL", "BTC-USD-PERP"),
        ("BTC/USDT:USDT", "BTC-USDT-PERP"),
        ("PI_XBTUSD", "BTC-USD-PERP"),
        ("BTC-PERP-INTX", "BTC-PERP-INTX"),
        ("BTC-27JUN25", "BTC-27JUN25"),
        ("BTC-USD.STANDX", "BTC-USD.STANDX"),
        ("XBT-USD.BITMEX", "XBT-USD.BITMEX"),
        ("1INCH-USD", "1INCH-USD"),
        ("00-USD", "00-USD"),
    ],
)
def test_a_name_of_any_venue_becomes_one_symbol(name, symbol):
    assert normalise(name).symbol == symbol
    assert normalise(name).venue == ""


@pytest.mark.parametrize(
    ("name", "symbol", "venue"),
    [
        ("BTCUSDT.BINANCE", "BTC-USDT", "BINANCE"),
        ("BTCUSDT-PERP.BINANCE", "BTC-USDT-PERP", "BINANCE"),
        ("BTC-USD@KRAKEN", "BTC-USD", "KRAKEN"),
        ("btc-usdt@okex", "BTC-USDT", "OKX"),
    ],
)
def test_a_name_may_name_its_venue(name, symbol, venue):
    found = normalise(name)
    assert (found.symbol, found.venue) == (symbol, venue)


@pytest.mark.parametrize("name", ["", " ", "../up", "BTC\\USD", "β-USD", "A" * 40, "BTC//USD"])
def test_what_cannot_be_a_symbol_is_quoted_with_the_rule(name):
    with pytest.raises(TickError, match="is not understood: a symbol is BASE-QUOTE"):
        normalise(name)


def test_venues_are_told_apart_under_one_spelling():
    assert at_venue("BTC-USD", "Kraken") == "BTC-USD@KRAKEN"
    assert venue_name("Coinbase_Pro") == venue_name("GDAX") == "COINBASE"
    with pytest.raises(TickError, match="longer than 32"):
        at_venue("BTC-USDT-PERP", "a venue with a very long name")


@pytest.mark.slow
@given(st.from_regex(SYMBOL, fullmatch=True))
def test_a_symbol_stays_a_symbol_and_normalising_again_changes_nothing(symbol):
    once = normalise(symbol)
    assert SYMBOL.fullmatch(once.symbol)
    assert normalise(once.symbol).symbol == once.symbol
