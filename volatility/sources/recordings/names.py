"""List what people call the columns of a recording, and the layouts of known venues, as data.

Names are compared in lower case without punctuation; single letters as they are written.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from volatility.records import COINBASE

NAMES: dict[str, tuple[str, ...]] = {
    "symbol": (
        "symbol", "productid", "product", "pair", "currencypair", "tradingpair", "instid",
        "instrumentname", "instrumentid", "instrument", "market", "sym", "s", "ticker", "code",
    ),
    "time": (
        "time", "exchangetime", "exchangetimestamp", "exchangets", "eventtime", "eventtimestamp",
        "tsevent", "timestamp", "transactiontime", "transacttime", "tradetime", "T", "E", "ts",
        "timestampns", "timestampus", "timestampms", "timens", "timeus", "timems", "tsns", "tsus",
        "tsms", "createdtime", "createdat", "tradedat", "datetime", "datetimeutc", "utctime",
        "unixtime", "unixtimestamp", "unix", "epoch", "epochms", "epochns", "dt", "tradetimems",
        "t", "date", "indexlevel0",
    ),
    "received": (
        "received", "receivedat", "receivedtime", "receivetime", "receivetimestamp", "receivets",
        "recvtime", "recvtimestamp", "recvts", "recv", "tsrecv", "localtimestamp", "localtime",
        "localts", "tsinit", "ingesttime", "ingesttimestamp", "ingestedat", "ingestts", "arrival",
        "arrivaltime", "arrivalts", "arrivedat", "captured", "capturedat", "capturetime",
        "loggedat",
    ),
    "price": (
        "price", "last", "lastprice", "lasttradeprice", "lasttradedprice", "tradeprice", "lastpx",
        "px", "p",
    ),
    "bid": (
        "bid", "bestbid", "bidprice", "bestbidprice", "bidpx", "bestbidpx", "bid1price", "bid1",
        "bidpx00", "bids0price", "bidprice0", "bidprice1", "bid0price", "bidp", "bp", "b",
    ),
    "ask": (
        "ask", "bestask", "askprice", "bestaskprice", "askpx", "bestaskpx", "ask1price", "ask1",
        "askpx00", "asks0price", "askprice0", "askprice1", "ask0price", "askp", "ap", "offer",
        "bestoffer", "offerprice", "a",
    ),
    "bid_size": (
        "bidsize", "bestbidsize", "bidqty", "bestbidqty", "bidquantity", "bestbidquantity",
        "bidamount", "bestbidamount", "bidvolume", "bidsz", "bidsz00", "bids0amount", "bids0size",
        "bidsize0", "bidsize1", "bid1size", "bid1qty", "bidvol", "bs", "B",
    ),
    "ask_size": (
        "asksize", "bestasksize", "askqty", "bestaskqty", "askquantity", "bestaskquantity",
        "askamount", "bestaskamount", "askvolume", "asksz", "asksz00", "asks0amount", "asks0size",
        "asksize0", "asksize1", "ask1size", "ask1qty", "askvol", "as", "A",
    ),
    "size": ("size", "lastsize", "lastqty", "lastsz", "lasttradesize", "tradesize"),
    "side": (
        "side", "takerside", "tradeside", "aggressorside", "aggressor", "direction", "S",
    ),
    "maker": ("isbuyermaker", "buyermaker", "m"),
    "sequence": ("sequence", "sequencenum", "sequencenumber", "seqnum", "seq", "updateid", "u"),
    "trade_id": ("tradeid", "lasttradeid"),
    "venue": ("venue", "exchange", "exchangeid"),
    "recording": ("recording",),
    "time_kind": ("timekind",),
}  # fmt: skip

# In a recording of trades these are what they seem; beside quotes they mean something else, such
# as the volume of a day or the number of a database row.
TRADE_NAMES: dict[str, tuple[str, ...]] = {
    "size": ("qty", "quantity", "amount", "volume", "vol", "sz", "q", "v"),
    "side": ("type",),
    "trade_id": ("id", "tid", "aggid", "aggtradeid", "trdmatchid", "matchid", "t", "a", "i"),
}

CANDLE = ("open", "high", "low", "close")

SIDES = {
    "buy": "buy", "b": "buy", "buyer": "buy", "bid": "buy", "0": "buy",
    "sell": "sell", "s": "sell", "seller": "sell", "ask": "sell", "a": "sell", "1": "sell",
}  # fmt: skip

Shape = Literal["time", "integer", "number", "bool", "side", "text"]


class Known(msgspec.Struct, frozen=True):
    """Represent the layout of a known export.

    Parameters
    ----------
    title : str
    columns : tuple of str
        Names of the columns; of a file without a header, these are given to it.
    shapes : tuple of str
        What the cells of a row without a header look like; empty where a header is always there.
    fields : dict of str to str
        Columns whose meaning differs from the usual one; an empty text leaves a field out.
    venue, short_venue : str
        The venue, and that of a file without the optional columns where it is another.
    sides : dict of str to str
        How the side is written, where it differs.
    scale : float
        What the integers of prices are to be multiplied by.
    optional : int
        How many of the last columns a file may lack.
    """

    title: str
    columns: tuple[str, ...]
    shapes: tuple[Shape, ...] = ()
    fields: dict[str, str] = {}
    venue: str = ""
    short_venue: str = ""
    sides: dict[str, str] = {}
    scale: float = 1.0
    optional: int = 0


BINANCE, FUTURES = "BINANCE", "BINANCE-FUTURES"
KNOWN: tuple[Known, ...] = (
    Known(
        "Binance aggTrades",
        ("agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id", "transact_time",
         "is_buyer_maker", "is_best_match"),
        ("integer", "number", "number", "integer", "integer", "time", "bool", "bool"),
        {"trade_id": "agg_trade_id"}, BINANCE, FUTURES, optional=1,
    ),
    Known(
        "Binance trades",
        ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker", "is_best_match"),
        ("integer", "number", "number", "number", "time", "bool", "bool"),
        {}, BINANCE, FUTURES, optional=1,
    ),
    Known(
        "Binance bookTicker",
        ("update_id", "best_bid_price", "best_bid_qty", "best_ask_price", "best_ask_qty",
         "transaction_time", "event_time"),
        ("integer", "number", "number", "number", "number", "time", "time"),
        {"time": "transaction_time"}, FUTURES,
    ),
    Known(
        "Binance klines",
        ("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume",
         "count", "taker_buy_volume", "taker_buy_quote_volume", "ignore"),
        ("time", "number", "number", "number", "number", "number", "time", "number", "integer",
         "number", "number", "number"),
        {"time": "close_time"}, BINANCE,
    ),
    Known(
        "Binance 24hrTicker",
        ("e", "E", "s", "p", "P", "c", "b", "B", "a", "A"),
        (), {"price": "c", "size": "Q"}, BINANCE,
    ),
    Known(
        "Binance aggTrade",
        ("e", "s", "a", "p", "q", "f", "l", "T", "m"),
        (), {"trade_id": "a", "time": "T"}, BINANCE,
    ),
    Known("Binance trade", ("e", "s", "t", "p", "q", "T", "m"), (), {"trade_id": "t"}, BINANCE),
    Known("Binance bookTicker", ("u", "s", "b", "B", "a", "A"), (), {}, BINANCE),
    Known(
        "Kraken trades of the REST interface",
        ("price", "volume", "time", "side", "ordertype", "misc", "trade_id"),
        ("number", "number", "time", "side", "text", "text", "integer"),
        {}, "KRAKEN", optional=1,
    ),
    Known(
        "Kraken and Bitcoincharts trades (time, price, volume)",
        ("time", "price", "volume"),
        ("time", "number", "number"),
    ),
    Known(
        "Bitstamp transactions", ("date", "tid", "price", "amount", "type"), (),
        {"time": "date", "side": "type"}, "BITSTAMP",
    ),
    Known(
        "Bybit trades",
        ("timestamp", "symbol", "side", "size", "price", "tickDirection", "trdMatchID"),
        (), {}, "BYBIT",
    ),
    Known("Bybit publicTrade", ("T", "s", "S", "v", "p", "L", "i"), (), {"side": "S"}, "BYBIT"),
    Known("Bybit tickers", ("symbol", "bid1Price", "ask1Price", "lastPrice"), (), {}, "BYBIT"),
    Known("OKX tickers", ("instId", "askPx", "bidPx", "ts"), (), {}, "OKX"),
    Known("OKX trades", ("instId", "tradeId", "px", "sz", "side", "ts"), (), {}, "OKX"),
    Known(
        "OKX trades", ("instrument_name", "trade_id", "side", "price", "size", "created_time"),
        (), {}, "OKX",
    ),
    Known(
        "Deribit quote",
        ("instrument_name", "best_bid_price", "best_ask_price", "best_bid_amount"),
        (), {}, "DERIBIT",
    ),
    Known(
        "Deribit trades", ("trade_seq", "trade_id", "timestamp", "instrument_name", "direction"),
        (), {"sequence": "trade_seq"}, "DERIBIT",
    ),
    Known(
        "databento quotes",
        ("ts_event", "bid_px_00", "ask_px_00", "bid_sz_00", "ask_sz_00"),
        (), {"price": "", "size": "", "side": "", "sequence": ""}, scale=1e-9,
    ),
    Known(
        "databento trades", ("ts_event", "publisher_id", "action", "side", "price", "size"),
        (), {"sequence": ""}, sides={"a": "sell", "b": "buy"}, scale=1e-9,
    ),
    Known(
        "nautilus_trader QuoteTick",
        ("bid_price", "ask_price", "bid_size", "ask_size", "ts_event", "ts_init"),
    ),
    Known(
        "nautilus_trader TradeTick",
        ("price", "size", "aggressor_side", "trade_id", "ts_event", "ts_init"),
        sides={"1": "buy", "2": "sell"},
    ),
    Known(
        "Tardis quotes and book_ticker",
        ("exchange", "symbol", "timestamp", "local_timestamp", "ask_amount", "ask_price",
         "bid_price", "bid_amount"),
    ),
    Known(
        "Tardis trades",
        ("exchange", "symbol", "timestamp", "local_timestamp", "id", "side", "price", "amount"),
    ),
    Known(
        "Tardis book_snapshot",
        ("exchange", "symbol", "timestamp", "local_timestamp", "asks[0].price", "asks[0].amount",
         "bids[0].price", "bids[0].amount"),
    ),
    Known(
        "Coinbase ticker, flattened", ("product_id", "best_bid", "best_ask"), (), {}, COINBASE,
    ),
)  # fmt: skip
