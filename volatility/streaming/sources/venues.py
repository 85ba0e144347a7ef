"""Name the venues that can be streamed live.

>>> sorted(VENUES)
['binance', 'coinbase', 'kraken']
"""

from __future__ import annotations

from volatility.streaming.sources.binance import BINANCE
from volatility.streaming.sources.coinbase import ADVANCED_TRADE
from volatility.streaming.sources.kraken import KRAKEN

VENUES = {venue.name: venue for venue in (ADVANCED_TRADE, BINANCE, KRAKEN)}
