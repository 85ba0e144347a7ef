"""Small recordings of many makers, each with the ticks it must become or the line it must say.

Nearly all hold the same two ticks, so that one glance tells what a layout does to them.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

MS = 1_767_571_200_250  # 2026-01-05T00:00:00.250Z
ISO = ("2026-01-05T00:00:00.250Z", "2026-01-05T00:00:01.250Z")

Tick = tuple[int, float, float, float]  # ms after MS, bid, ask, price
QUOTED: list[Tick] = [(0, 99.5, 100.5, 100.0), (1000, 99.0, 101.0, 100.5)]
MIDDLE: list[Tick] = [(0, 99.5, 100.5, 100.0), (1000, 99.0, 101.0, 100.0)]
TRADED = [(0, 100.0, 0.5, "buy"), (1000, 100.5, 0.25, "sell")]  # ms, price, size, side


class Case(NamedTuple):
    """Represent a file: its name, its content, and what must come of it.

    ``ticks`` are those of ``symbol``; ``trades`` those in the lake of trades; ``says`` is part of
    the one line of an error, or of the notes where ticks are given, too.
    """

    name: str
    content: bytes
    symbol: str = "BTC-USD"
    ticks: Sequence[Tick] | None = None
    trades: Sequence[tuple[Any, ...]] | None = None
    says: str = ""
    rejected: int = 0
    options: str = ""


def quotes(name: str, content: str | bytes, symbol: str = "BTC-USD", **more: Any) -> Case:
    ticks = more.pop("ticks", QUOTED)
    return Case(
        name, content if isinstance(content, bytes) else content.encode(), symbol, ticks, **more
    )


def middles(name: str, content: str | bytes, symbol: str = "BTC-USD", **more: Any) -> Case:
    return quotes(name, content, symbol, ticks=MIDDLE, **more)


def trades(name: str, content: str | bytes, symbol: str = "BTC-USD", **more: Any) -> Case:
    found = more.pop("trades", TRADED)
    return quotes(name, content, symbol, ticks=None, trades=found, **more)


def fails(name: str, content: str | bytes, says: str, options: str = "") -> Case:
    return quotes(name, content, ticks=None, says=says, options=options)


def parquet(columns: dict[str, Any], metadata: dict[str, str] | None = None) -> bytes:
    sink = io.BytesIO()
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata) if metadata else table, sink)
    return sink.getvalue()


def arrow(columns: dict[str, Any], stream: bool = False) -> bytes:
    sink, table = io.BytesIO(), pa.table(columns)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def feathered(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    feather.write_feather(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def zipped(files: dict[str, str | bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return sink.getvalue()


def tarred(name: str, content: str) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content.encode()))
    return sink.getvalue()


def zstd(content: str) -> bytes:
    sink = io.BytesIO()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content.encode())
        stream.flush()
        stream.close()
        return bytes(sink.getvalue()) if not sink.closed else b""


def advanced(second: int) -> dict[str, Any]:
    """Return a message of Coinbase Advanced Trade."""
    _, bid, ask, price = QUOTED[second]
    ticker = {"product_id": "BTC-USD", "price": str(price), "best_bid": str(bid)}
    events = [{"type": "update", "tickers": [ticker | {"best_ask": str(ask)}]}]
    return {"channel": "ticker", "timestamp": ISO[second], "sequence_num": second, "events": events}


def exchange(second: int) -> dict[str, Any]:
    """Return a message of the Coinbase Exchange feed."""
    _, bid, ask, price = QUOTED[second]
    quote = {"price": str(price), "best_bid": str(bid), "best_ask": str(ask), "time": ISO[second]}
    return {"type": "ticker", "product_id": "BTC-USD", "sequence": second, **quote}


def lines(make: Callable[[int], Any]) -> str:
    return "".join(json.dumps(make(i)) + "\n" for i in (0, 1))


def flat(names: str, scale: Callable[[int], Any] = lambda ms: ms, symbol: str = "BTC-USD") -> str:
    """Return records with the names of symbol, time, bid, ask and, if there is one, price."""

    def record(i: int) -> dict[str, Any]:
        ms, bid, ask, price = QUOTED[i]
        values = [symbol, scale(MS + ms), bid, ask, price]
        return dict(zip(names.split(), values, strict=False))

    return lines(record)


def table(header: str, delimiter: str = ",", symbol: str = "BTC-USD", **more: Any) -> str:
    """Return a table of symbol, time, bid, ask and price; without a header if it is empty."""
    rows: list[list[Any]] = [header.split()] if header else []
    for ms, bid, ask, price in QUOTED:
        rows.append([symbol, str(more.get("time", lambda m: m)(MS + ms)), bid, ask, price])
    return "".join(delimiter.join(map(str, row)) + "\n" for row in rows)


def columns(**changes: Any) -> dict[str, Any]:
    """Return the columns of this service, with changes; None drops one."""
    base = {
        "symbol": ["BTC-USD"] * 2,
        "time": [(MS + tick[0]) * 1_000_000 for tick in QUOTED],
        "price": [tick[3] for tick in QUOTED],
        "bid": [tick[1] for tick in QUOTED],
        "ask": [tick[2] for tick in QUOTED],
    }
    return {name: values for name, values in (base | changes).items() if values is not None}


NS = [(MS + tick[0]) * 1_000_000 for tick in QUOTED]
US = [ns // 1000 for ns in NS]
OWN = "symbol time bid ask price"
FIXED = [tick[1] for tick in QUOTED], [tick[2] for tick in QUOTED]


def wide(value: float) -> bytes:
    """Return nautilus_trader's 128-bit fixed-point number."""
    return int(Decimal(str(value)) * 10**16).to_bytes(16, "little", signed=True)


NAUTILUS = {"ts_event": pa.array(NS, pa.uint64()), "ts_init": pa.array(NS, pa.uint64())}
AGG = [
    f"{7 + i},{t[1]},{t[2]},1,2,{{}},{'true' if t[3] == 'sell' else 'false'}"
    for i, t in enumerate(TRADED)
]
PLAIN = [
    f"{7 + i},{t[1]},{t[2]},50,{{}},{'true' if t[3] == 'sell' else 'false'}"
    for i, t in enumerate(TRADED)
]


def dump(rows: Sequence[str], unit: int, end: str = "") -> str:
    """Fill the times of a dump of Binance in."""
    return "".join(
        row.format((MS + t[0]) * unit) + end + "\n" for row, t in zip(rows, TRADED, strict=True)
    )


KLINE = "{open},100,101,99,{close},3.5,{end},350,4,1,100,0\n"


def klines(unit: int, step: int = 1000) -> str:
    """Return candles that end at the two times, less one unit."""
    return "".join(
        KLINE.format(open=(MS + ms - step) * unit, close=price, end=(MS + ms) * unit - 1)
        for ms, price in ((step * 0, 100.0), (step, 100.5))
    )


def tardis(names: str, *cells: str) -> str:
    rows = [f"binance,BTCUSDT,{US[i]},{US[i] + 900},{cells[i]}\n" for i in (0, 1)]
    return f"exchange,symbol,timestamp,local_timestamp,{names}\n" + "".join(rows)


CASES: tuple[Case, ...] = (
    # Coinbase messages, bare and wrapped
    quotes("bare.ndjson", lines(advanced)),
    quotes("exchange.ndjson", lines(exchange)),
    quotes("array.json", json.dumps([advanced(0), advanced(1)])),
    quotes("pretty-array.json", json.dumps([exchange(0), exchange(1)], indent=4)),
    quotes("pretty.json", "\n".join(json.dumps(advanced(i), indent=2) for i in (0, 1))),
    quotes("texts.json", json.dumps([json.dumps(advanced(0)), json.dumps(advanced(1))])),
    quotes("payload.jsonl", lines(lambda i: {"ingest_time": ISO[i], "product_id": "BTC-USD", "payload": advanced(i)})),
    quotes("raw.jsonl", lines(lambda i: {"ts": 1767571200.6 + i, "pair": "BTC-USD", "raw": json.dumps(exchange(i))})),
    quotes("deep.jsonl", lines(lambda i: {"meta": {"n": i}, "kafka": {"value": {"msg": json.dumps(advanced(i))}}})),
    quotes("typed.jsonl", lines(lambda i: {"type": "message", "channel": "ws", "at": MS, "body": advanced(i)})),
    quotes("many.jsonl", json.dumps({"messages": [advanced(0), advanced(1)]})),
    quotes("bom.ndjson", b"\xef\xbb\xbf" + lines(advanced).encode()),
    quotes("bare.gz", gzip.compress(lines(advanced).encode())),
    quotes("misnamed.csv", lines(advanced)),
    quotes("bare.bz2", bz2.compress(lines(advanced).encode())),
    quotes("bare.xz", lzma.compress(lines(advanced).encode())),
    quotes("messages.zip", zipped({"a/0.json": json.dumps(advanced(0)), "a/1.json": json.dumps(advanced(1))})),
    quotes("messages.tar.gz", tarred("x/log.txt", lines(exchange))),
    quotes(
        "capture.0",
        "configuration: {}\nwss://ws-feed.exchange.coinbase.com <-> 1767571200.0\n"
        + "".join(f"{1767571200 + i}.3: {json.dumps(exchange(i))}\n" for i in (0, 1)),
    ),
    trades(
        "matches.ndjson",
        lines(lambda i: {"type": "match", "trade_id": 9 + i, "maker_order_id": "m", "taker_order_id": "t", "side": ("sell", "buy")[i], "size": str(TRADED[i][2]), "price": str(TRADED[i][1]), "product_id": "BTC-USD", "sequence": i, "time": ISO[i]}) + json.dumps({"type": "l2update", "product_id": "BTC-USD", "time": ISO[0], "changes": [["buy", "1", "2"]]}),
        says="Coinbase trades",
    ),
    trades(
        "market_trades.ndjson",
        lines(lambda i: {"channel": "market_trades", "timestamp": ISO[i], "sequence_num": i, "events": [{"type": "update", "trades": [{"trade_id": str(9 + i), "product_id": "BTC-USD", "price": str(TRADED[i][1]), "size": str(TRADED[i][2]), "side": ("SELL", "BUY")[i], "time": ISO[i]}]}]}),
    ),
    quotes("log.txt", "".join(f"2026-01-05 00:00:0{i + 1},123 INFO feed: {json.dumps(exchange(i))}\n" for i in (0, 1))),
    quotes("keyed.txt", "".join(f"BTC-USD\t{json.dumps(advanced(i))}\n" for i in (0, 1))),
    quotes("wrapped.csv", "received,message\n" + "".join('{},"{}"\n'.format(ISO[i], json.dumps(exchange(i)).replace('"', '""')) for i in (0, 1))),
    quotes("wrapped.parquet", parquet({"at": [MS, MS + 1000], "value": [json.dumps(advanced(i)) for i in (0, 1)]})),
    quotes("wrapped.arrow", arrow({"at": [MS, MS + 1000], "value": [json.dumps(exchange(i)).encode() for i in (0, 1)]})),
    # Flat records in JSON
    quotes("own.ndjson", flat("symbol time bid ask price", lambda ms: ms * 1_000_000)),
    quotes("flat.ndjson", flat("product_id timestamp best_bid best_ask price", lambda ms: ISO[ms > MS])),
    quotes("pair.ndjson", flat("pair ts bid_price ask_price last", symbol="BTC/USD")),
    quotes("short.ndjson", flat("s T b a p", symbol="BTCUSD")),
    quotes("event.ndjson", flat("s E b a", symbol="btcusd"), ticks=MIDDLE),
    quotes("seconds.ndjson", flat("symbol exchange_time bid ask price", lambda ms: ms / 1000)),
    quotes("texts.ndjson", flat("symbol time bid ask price", lambda ms: f"{ms / 1000:.3f}")),
    quotes("zoned.ndjson", flat("symbol time bid ask price", lambda ms: ISO[ms > MS].replace("T00", "T02").replace("Z", "+02:00"))),
    quotes("stream.ndjson", lines(lambda i: {"stream": "x", "received_at": ISO[i], "data": {"u": i, "s": "BTCUSD", "b": str(QUOTED[i][1]), "B": "1", "a": str(QUOTED[i][2]), "A": "2"}}), ticks=MIDDLE),
    quotes("kraken.ndjson", lines(lambda i: {"channel": "ticker", "type": "update", "data": [{"symbol": "BTC/USD", "bid": QUOTED[i][1], "bid_qty": 1.5, "ask": QUOTED[i][2], "ask_qty": 2, "last": QUOTED[i][3], "volume": 900, "timestamp": ISO[i]}]})),
    quotes("okx.ndjson", lines(lambda i: {"arg": {"channel": "tickers", "instId": "BTC-USDT"}, "data": [{"instId": "BTC-USDT", "last": str(QUOTED[i][3]), "lastSz": "0.1", "askPx": str(QUOTED[i][2]), "askSz": "1", "bidPx": str(QUOTED[i][1]), "bidSz": "2", "ts": str(MS + QUOTED[i][0])}]}), "BTC-USDT"),
    quotes("bybit.ndjson", lines(lambda i: {"topic": "tickers.BTCUSDT", "ts": MS + QUOTED[i][0], "data": {"symbol": "BTCUSDT", "lastPrice": str(QUOTED[i][3]), "bid1Price": str(QUOTED[i][1]), "ask1Price": str(QUOTED[i][2])}}), "BTC-USDT"),
    middles("deribit.ndjson", lines(lambda i: {"method": "subscription", "params": {"channel": "quote.BTC-PERPETUAL", "data": {"timestamp": MS + QUOTED[i][0], "instrument_name": "BTC-PERPETUAL", "best_bid_price": QUOTED[i][1], "best_bid_amount": 10, "best_ask_price": QUOTED[i][2], "best_ask_amount": 20}}}), "BTC-USD-PERP"),
    middles("ccxt.ndjson", lines(lambda i: {"symbol": "BTC/USDT:USDT", "timestamp": MS + QUOTED[i][0], "datetime": ISO[i], "bids": [[QUOTED[i][1], 3]], "asks": [[QUOTED[i][2], 4]]}), "BTC-USDT-PERP"),
    trades("binance-ws.ndjson", lines(lambda i: {"e": "aggTrade", "E": MS + 1, "s": "BTCUSDT", "a": 7 + i, "p": str(TRADED[i][1]), "q": str(TRADED[i][2]), "f": 1, "l": 2, "T": MS + TRADED[i][0], "m": TRADED[i][3] == "sell", "M": True}), "BTC-USDT"),
    trades("kraken-rest.json", json.dumps({"error": [], "result": {"XXBTZUSD": [[str(t[1]), str(t[2]), (MS + t[0]) / 1000, str(t[3])[0], "l", "", 9 + i] for i, t in enumerate(TRADED)], "last": "1"}})),
    trades("bitstamp-btcusd.json", json.dumps([{"date": f"{(MS + t[0]) / 1000}", "tid": str(5 + i), "price": str(t[1]), "amount": str(t[2]), "type": str(int(t[3] == "sell"))} for i, t in enumerate(TRADED)][::-1]), says="was not in time order"),
    trades("bybit-ws.ndjson", lines(lambda i: {"topic": "publicTrade.BTCUSDT", "ts": MS, "data": [{"T": MS + TRADED[i][0], "s": "BTCUSDT", "S": str(TRADED[i][3]).title(), "v": str(TRADED[i][2]), "p": str(TRADED[i][1]), "L": "PlusTick", "i": "5c0f-uuid"}]}), "BTC-USDT", says="2 values of trade_id are not whole numbers"),
    # Tables of text
    quotes("comma.csv", table("symbol time bid ask price")),
    quotes("semicolon.csv", table("Symbol Timestamp BestBid BestAsk Last", ";")),
    quotes("tab.tsv", table("instrument exchange_ts bid_px ask_px px", "\t")),
    quotes("bar.txt", table("pair ts b a p", "|")),
    quotes("quoted.csv", '"symbol","time","bid","ask","price"\n"BTC-USD","2026-01-05 00:00:00.25","99.5","100.5","100"\n"BTC-USD","2026-01-05 00:00:01.25","99","101","100.5"\n', says="taken for UTC"),
    quotes("decimal-comma.csv", table("symbol time bid ask price", ";").replace(".", ",")),
    quotes("crlf.csv", table("symbol time bid ask price").replace("\n", "\r\n")),
    quotes("utf16.csv", table("symbol time bid ask price").encode("utf-16")),
    quotes("comment.csv", "# recorded by me\n" + table("symbol time bid ask price")),
    quotes("nanoseconds.csv", table("symbol time bid ask price", time=lambda ms: ms * 1_000_000)),
    quotes("exact.csv", table("symbol time bid ask price", time=lambda ms: f"{ms // 1000}.{ms % 1000}00000001"[:20])),
    quotes("day.csv", "symbol,date,time,bid,ask,price\nBTC-USD,2026-01-05,00:00:00.25,99.5,100.5,100\nBTC-USD,2026-01-05,00:00:01.25,99,101,100.5\n"),
    quotes("BTCUSD_quotes.csv", "time,bid,ask,price\n" + "".join(f"{MS + t[0]},{t[1]},{t[2]},{t[3]}\n" for t in QUOTED), says="symbol BTC-USD from the path"),
    quotes("holes.csv", table("symbol time bid ask price") + f"BTC-USD,{MS + 2000},,101,100\nBTC-USD,,99,101,100\nBTC-USD,{MS + 3000},102,101,100\n", rejected=3),
    quotes("torn.csv", table("symbol time bid ask price") + "BTC-USD,17675712\n", says="another number of columns"),
    quotes("mapped.csv", "x,when,bb,aa,pp\n" + table("").replace("BTC-USD", "1"), options="time=when:ms,bid=bb,ask=aa,price=pp,symbol=BTC-USD"),
    quotes("numbered.csv", table(""), options="symbol=1,time=2,bid=3,ask=4,price=5"),
    middles("tardis-quotes.csv.gz", gzip.compress(tardis("ask_amount,ask_price,bid_price,bid_amount", "1,100.5,99.5,2", "1,101,99,2").encode()), "BTC-USDT"),
    middles("book_snapshot_5.csv", tardis("asks[0].price,asks[0].amount,bids[0].price,bids[0].amount,asks[1].price", "100.5,1,99.5,2,101", "101,1,99,2,102"), "BTC-USDT"),
    trades("tardis-trades.csv", tardis("id,side,price,amount", "5,buy,100,0.5", "6,sell,100.5,0.25"), "BTC-USDT"),
    trades("BTCUSDT-aggTrades-2024-01-01.csv", dump(AGG, 1, ",true"), "BTC-USDT", says="Binance aggTrades"),
    trades("BTCUSDT-aggTrades-2026-01-05.csv", dump(AGG, 1000, ",true"), "BTC-USDT", says="time in microseconds"),
    trades("BTCUSDT-aggTrades.csv", "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n" + dump(AGG, 1), "BTC-USDT"),
    trades("BTCUSDT-trades-2026-01-05.zip", zipped({"BTCUSDT-trades-2026-01-05.csv": dump(PLAIN, 1000, ",True")}), "BTC-USDT"),
    trades("ETHUSDT-trades-2024-01.csv", "id,price,qty,quote_qty,time,is_buyer_maker\n" + dump(PLAIN, 1), "ETH-USDT"),
    middles("BTCUSDT-bookTicker-2024-01-01.csv", "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time\n" + "".join(f"{i},{t[1]},1,{t[2]},2,{MS + t[0]},{MS + t[0] + 3}\n" for i, t in enumerate(QUOTED)), "BTC-USDT"),
    middles("BTCUSDT-bookTicker.csv", "".join(f"{i},{t[1]},1,{t[2]},2,{MS + t[0]},{MS + t[0] + 3}\n" for i, t in enumerate(QUOTED)), "BTC-USDT"),
    trades("BTCUSDT-1s-2024-01-01.csv", klines(1), "BTC-USDT", trades=[(-1, 100.0, 3.5, None), (999, 100.5, 3.5, None)]),
    trades("BTCUSDT-1s-2026-01-05.csv", klines(1000), "BTC-USDT", trades=[(-0.001, 100.0, 3.5, None), (999.999, 100.5, 3.5, None)]),
    trades("XBTUSD.csv", f"{MS // 1000},100,0.5\n{MS // 1000 + 1},100.5,0.25\n", trades=[(-250, 100.0, 0.5, None), (750, 100.5, 0.25, None)]),
    trades("bitstampEUR.csv", f"{MS // 1000},100,0.5\n{MS // 1000 + 1},100.5,0.25\n", "BTC-EUR", trades=[(-250, 100.0, 0.5, None), (750, 100.5, 0.25, None)]),
    trades("BTCUSDT2026-01-05.csv", "timestamp,symbol,side,size,price,tickDirection,trdMatchID\n1767571200.25,BTCUSDT,Buy,0.5,100.0,PlusTick,u-1\n1767571201.25,BTCUSDT,Sell,0.25,100.5,PlusTick,u-2\n", "BTC-USDT"),
    trades("BTC-USDT-SWAP-trades-2024-01-01.csv", f"trade_id/撮合id,side/交易方向,size/数量,price/价格,created_time/成交时间\n1,buy,0.5,100.0,{MS}\n2,sell,0.25,100.5,{MS + 1000}\n".encode("gbk"), "BTC-USDT-PERP"),
    trades("deribit.csv", f"trade_seq,trade_id,timestamp,price,instrument_name,direction,amount\n1,11,{MS},100.0,BTC-PERPETUAL,buy,0.5\n2,12,{MS + 1000},100.5,BTC-PERPETUAL,sell,0.25\n", "BTC-USD-PERP"),
    # Parquet, Arrow, Feather
    quotes("own.parquet", parquet(columns())),
    quotes("own.arrow", arrow(columns())),
    quotes("own.arrows", arrow(columns(), stream=True)),
    quotes("own.feather", feathered(columns())),
    quotes("decimals.parquet", parquet(columns(bid=pa.array([Decimal("99.5"), Decimal("99.0")]), ask=pa.array([Decimal("100.50"), Decimal("101.00")])))),
    quotes("unsigned.parquet", parquet(columns(time=pa.array(NS, pa.uint64()), trade_id=pa.array([1, 2**64 - 1], pa.uint64()))), says="1 values of trade_id"),
    quotes("dictionary.parquet", parquet(columns(symbol=pa.array(["btcusd"] * 2).dictionary_encode(), price=["100", "100.5"]))),
    quotes("zoned.parquet", parquet(columns(time=pa.array(US, pa.timestamp("us", "Asia/Tokyo"))))),
    quotes("naive.parquet", parquet(columns(time=pa.array(US, pa.timestamp("us")))), says="without a zone, taken for UTC"),
    quotes("floats.parquet", parquet(columns(time=[ms / 1000 for ms in (MS, MS + 1000)]))),
    quotes("missing.parquet", parquet(columns(sequence=[7.0, float("nan")], size=[float("nan"), 1.0]))),
    middles("quote_tick/BTCUSDT.BINANCE/0.parquet", parquet({"bid_price": pa.array([int(b * 1e9) for b in FIXED[0]]), "ask_price": pa.array([int(a * 1e9) for a in FIXED[1]]), "bid_size": [10**9] * 2, "ask_size": [10**9] * 2, **NAUTILUS}, {"instrument_id": "BTCUSDT.BINANCE", "price_precision": "2"}), "BTC-USDT"),
    middles("high.parquet", parquet({"bid_price": pa.array(map(wide, FIXED[0]), pa.binary(16)), "ask_price": pa.array(map(wide, FIXED[1]), pa.binary(16)), "bid_size": pa.array([wide(1)] * 2, pa.binary(16)), "ask_size": pa.array([wide(1)] * 2, pa.binary(16)), **NAUTILUS}, {"instrument_id": "BTCUSDT-PERP.BINANCE"}), "BTC-USDT-PERP"),
    middles("mbp-1.parquet", parquet({"ts_recv": pa.array(NS, pa.timestamp("ns", "UTC")), "ts_event": pa.array(NS, pa.timestamp("ns", "UTC")), "publisher_id": [1] * 2, "instrument_id": [99] * 2, "action": ["A"] * 2, "side": ["B"] * 2, "price": [5.0, 6.0], "size": [1, 1], "sequence": [1, 1], "bid_px_00": FIXED[0], "ask_px_00": FIXED[1], "bid_sz_00": [1, 1], "ask_sz_00": [2, 2], "symbol": ["BTC-USD"] * 2})),
    # What cannot be read says why, in one line
    fails("mixed.csv", table(OWN) + table("", time=lambda ms: ms * 1000), "mixes milliseconds and microseconds in column time; split the file"),
    fails("unknown.csv", "a1,b1\n1,2\n3,4\n", "no market data that is understood: it has a1, b1"),
    fails("half.csv", "symbol,time,bid\nBTC-USD,1767571200,99\n", "has no column of ask; it has symbol, time, bid; name it by --map ask=COLUMN"),
    fails("nosymbol.csv", f"time,bid,ask\n{MS},99,101\n", "add --map symbol=BTC-USD"),
    fails("notime.csv", "symbol,bid,ask\nBTC-USD,99,101\n", "has no column of time"),
    fails("minutes-BTCUSDT.csv", klines(1, 60_000), "contains candles of 60 s"),
    fails("header.csv", "symbol,time,bid,ask\n", "has a header and no row"),
    fails("empty.csv.gz", gzip.compress(b""), "is empty"),
    fails("ambiguous-BTCUSD.csv", f"{MS},99,101\n{MS + 1},99,101\n", "may be bid and ask or price and volume"),
    fails("shape-BTCUSD.csv", f"{MS},99,101,7,x\n{MS + 1},99,101,8,y\n", "name its columns by their numbers"),
    fails("dates-BTCUSD.csv", "date,bid,ask\n2026-01-05,99,101\n2026-01-06,99,101\n", "has dates without a time of day in column date"),
    fails("books.ndjson", lines(lambda i: {"channel": "l2_data", "timestamp": ISO[i], "sequence_num": i, "events": []}), "has no tick, only l2_data (2)"),
    fails("wrong-unit.csv", table(OWN), "has milliseconds in column time, not seconds", "time=time:s"),
    fails("wrong-column.csv", table(OWN), "has no column nope; it has symbol, time", "bid=nope"),
    fails("config.json", '{"name": "x", "version": 3}', "no market data"),
    fails("noise.bin", bytes(range(256)) * 20, "neither Parquet or Arrow, nor text"),
    fails("torn.zip", zipped({"a.csv": table(OWN)})[:-30], "is a damaged archive"),
)  # fmt: skip
